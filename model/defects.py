"""The defects that a network may find in a picture beside its quality. Imports no torch."""

DEFECTS = (
    "defocus",
    "motion_blur",
    "noise",
    "compression",
    "upscaled",
    "underexposed",
    "overexposed",
    "low_contrast",
    "colour_cast",
    "saturation",
)
"""Names of the defects, in the order of a network's outputs.

``upscaled`` is a picture with less detail than pixels, ``low_contrast`` haze or a veil, ``saturation`` too much of it
or too little.
"""
SHARPNESS = frozenset({"defocus", "motion_blur", "upscaled"})
"""Defects that a picture has only where nothing in it is sharp."""
CLOSE_DEFECTS = SHARPNESS | {"noise", "compression"}
"""Defects that a close look may find where the whole view shows none."""
LOCAL_DEFECTS = ("defocus", "motion_blur", "noise", "compression", "underexposed", "overexposed")
"""Defects that one part of a picture may have and another not: those that are mapped."""
