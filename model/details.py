"""Where a large picture is looked at closely: squares of its own pixels that tell most about sharpness and noise.

Shrunk to the size of its whole view, a picture of 12 megapixels has lost missed focus, noise and the traces of
compression. So a few squares are cut from it at full size, where the shrunk picture has most structure: what is sharp,
if anything is. They lie apart from each other. All arithmetic is of integers: every machine chooses the same squares.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images.facts import Box

STEPS = 24
"""Places along the longer side of the picture that are tried."""
APART = 3
"""Squares lie at least a third of the longer side apart, along one side or the other, where the picture has room."""


def choose(view_HWC: NDArray[np.uint8], size: tuple[int, int], side: int, count: int) -> list[Box]:
    """Choose squares of a picture, the most telling first.

    Args:
        view_HWC: The picture at any smaller size and any aspect ratio, RGB.
        size: Width and height of the picture that is cut, in pixels; neither is less than ``side``.
        side: Side of a square, in pixels of that picture.
        count: How many squares, at most: fewer if the picture has no room for so many apart.

    Returns:
        Left, top, right and bottom of each, in pixels of that picture.
    """
    width, height = size
    structure_HW = _structure(view_HWC)
    rows, columns = structure_HW.shape
    # Sums over any rectangle from four entries.
    sums = np.zeros((rows + 1, columns + 1), np.int64)
    sums[1:, 1:] = structure_HW.cumsum(axis=0).cumsum(axis=1)
    step = max(max(width, height) // STEPS, 1)
    lefts, tops = (np.array([*range(0, length - side, step), length - side], np.int64) for length in (width, height))
    left, right = (edges * columns // width for edges in (lefts, lefts + side))
    top, bottom = (edges * rows // height for edges in (tops, tops + side))
    right, bottom = np.maximum(right, left + 1), np.maximum(bottom, top + 1)
    found = sums[bottom][:, right] - sums[top][:, right] - sums[bottom][:, left] + sums[top][:, left]
    # Rectangles of the view differ in size by rounding.
    found = found * 4096 // np.outer(bottom - top, right - left)
    boxes: list[Box] = []
    apart = max(width, height) // APART
    while len(boxes) < count and found.max() >= 0:
        down, across = np.unravel_index(int(found.argmax()), found.shape)
        x, y = int(lefts[across]), int(tops[down])
        boxes.append((x, y, x + side, y + side))
        near = np.outer(np.abs(tops - y) < max(apart, side), np.abs(lefts - x) < max(apart, side))
        found[near] = -1
    return boxes


def _structure(view_HWC: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Differences of neighbours in brightness (H, W), cut off where an edge is as clear as can be."""
    luma_HW = np.asarray(Image.fromarray(view_HWC).convert("L")).astype(np.int64)
    across = np.abs(np.diff(luma_HW, axis=1, append=luma_HW[:, -1:]))
    down = np.abs(np.diff(luma_HW, axis=0, append=luma_HW[-1:]))
    structure: NDArray[np.int64] = np.minimum(across + down, 64)
    return structure
