"""Sizes of multi-scale patch tokens, which ``tokens.py`` cuts. Apart from it so that contracts need no torch."""

import math
from collections.abc import Sequence
from typing import Literal

PATCH = 32
"""Side of a patch, in pixels."""
GRID = 10
"""Side of the grid of learned positions, in cells."""
PIXELS = 3 * PATCH * PATCH
LENGTH = PIXELS + 3
"""Numbers of one token: its pixels, its cell on the position grid, its scale, and whether it is real or padding."""
LONGER_SIDES = (224, 384)
"""Longer sides of the small copies, in pixels, by default."""
Kernel = Literal["bicubic", "gaussian"]
"""How the small copies are resized."""
FULL_LENGTHS = (64, 128, 256, 512, 768, 1024, 1536, 2304)
"""The full-size copy is padded to one of these numbers of tokens, so that pictures of all sizes share a few shapes."""


def full_length(patches: int) -> int:
    """Number of tokens that the patches of the full-size picture are padded to; 0 if there are too many patches."""
    return next((length for length in FULL_LENGTHS if length >= patches), 0)


def small_length(longer_sides: Sequence[int]) -> int:
    """Number of tokens of all small copies together, padding included."""
    return sum(math.ceil(side / PATCH) ** 2 for side in longer_sides)


def count(width: int, height: int) -> int:
    """Number of patches of a picture at full size."""
    return math.ceil(width / PATCH) * math.ceil(height / PATCH)
