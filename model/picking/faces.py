"""Whether there are faces in a picture. Whether eyes are open is not judged, and people are told so."""

from functools import cache

import numpy as np
from PIL import Image
from skimage.data import lbp_frontal_face_cascade_filename
from skimage.feature import Cascade

EYES_NOT_JUDGED = "eyes_not_judged"
"""The reason code that says so."""
SIDE = 384
"""Longer side at which faces are looked for, in pixels."""
LEAST = 40
"""Side of the smallest face there, in pixels: the eyes of smaller ones nobody looks at."""


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
