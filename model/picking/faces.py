"""Whether there are faces in a picture. Whether eyes are open is not judged, and people are told so."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

import numpy as np
from PIL import Image
from skimage.data import lbp_frontal_face_cascade_filename
from skimage.feature import Cascade

from model.picking.picking import Group, Member

EYES_NOT_JUDGED = "eyes_not_judged"
"""The code that says so among the reasons for a photo."""
SIDE = 384
"""Longer side at which faces are looked for, in pixels."""
LEAST = 40
"""Side of the smallest face there, in pixels: the eyes of smaller ones nobody looks at."""


def told(groups: Iterable[Group], shows: Callable[[Member], bool]) -> list[Group]:
    """Say of groups whose best photo shows a face that nobody looked at the eyes.

    Args:
        groups: The groups.
        shows: Whether a photo shows a face.
    """
    return [
        replace(group, reasons=(*group.reasons, EYES_NOT_JUDGED))
        if group.kind == "alike" and group.winner is not None and shows(group.winner)
        else group
        for group in groups
    ]


def found(image: Image.Image) -> bool:
    """Whether a picture shows a face from the front."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    boxes = _cascade().detect_multi_scale(
        img=np.asarray(small), scale_factor=1.2, step_ratio=1, min_size=(LEAST, LEAST), max_size=(SIDE, SIDE)
    )
    return len(boxes) > 0


@cache
def _cascade() -> Cascade:
    return Cascade(lbp_frontal_face_cascade_filename())  # type: ignore[no-untyped-call]
