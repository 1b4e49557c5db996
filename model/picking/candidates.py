"""Which pairs of photos may show the same scene: neighbours in time, in the order of files, and in what they show.

There are at most ``NEIGHBOURS`` times a few per photo, never all pairs.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial import KDTree

from model.images.capture import Capture
from model.picking.look import SIDE, Look

NEIGHBOURS = 6
"""Nearest neighbours of each photo, by its layout and by its description, that are looked at."""
SECONDS = 10.0
"""Photos of one camera that were taken within so many seconds are looked at."""
FREQUENCIES = 6
"""Frequencies, across and down together, below which a layout has them."""
COMPONENTS = 16
"""Numbers of a description that neighbours are looked for by: the first ones tell most, and few are searched fast."""
_DARK = 6.0
_LOW = np.add.outer(np.arange(SIDE), np.arange(SIDE)) < FREQUENCIES


def layout(look: Look) -> NDArray[np.float32]:
    """Where a picture is bright and where it is dark, by its lowest frequencies, whatever its exposure and contrast."""
    light_HW = np.log2(look.luma_HW + np.float32(_DARK))
    frequencies = fft.dctn(light_HW, norm="ortho")[_LOW][1:]
    unit: NDArray[np.float32] = (frequencies / max(float(np.linalg.norm(frequencies)), 1e-6)).astype(np.float32)
    return unit


def pairs(
    layouts_NF: NDArray[np.float32], descriptions_NK: NDArray[np.float32], captures: Sequence[Capture]
) -> list[tuple[int, int]]:
    """Candidate pairs, each once, the lower place first, in order.

    Args:
        layouts_NF: What ``layout`` gives for each photo.
        descriptions_NK: The description of each photo.
        captures: How each was taken.
    """
    count = len(captures)
    found = {(place, place + 1) for place in range(count - 1)}
    for features_NF in (layouts_NF, descriptions_NK[:, :COMPONENTS]):
        _, nearest_NM = KDTree(features_NF).query(features_NF, k=min(NEIGHBOURS + 1, count))
        for place, row in enumerate(np.reshape(nearest_NM, (count, -1)).tolist()):
            found |= {(min(place, other), max(place, other)) for other in row if other != place}
    timed = [(one.camera, one.taken, place) for place, one in enumerate(captures) if one.taken is not None]
    timed.sort()
    for (camera, taken, place), (next_camera, next_taken, other) in pairwise(timed):
        if camera == next_camera and next_taken - taken <= SECONDS:
            found.add((min(place, other), max(place, other)))
    return sorted(found)
