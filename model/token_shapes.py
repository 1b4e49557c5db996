"""Sizes of multi-scale patch tokens, without torch: contracts are read where nothing is computed."""

import math
from collections.abc import Sequence
from typing import Literal

PATCH = 32
GRID = 10
"""Side of the grid of learned positions."""
PIXELS = 3 * PATCH * PATCH
LENGTH = PIXELS + 3
LONGER_SIDES = (224, 384)
Kernel = Literal["bicubic", "gaussian"]
FULL_LENGTHS = (64, 128, 256, 512, 768, 1024, 1536, 2304)
"""Numbers of tokens that the full-size copy is padded to, so that pictures of many sizes share few shapes."""


def full_length(patches: int) -> int:
    """Tokens that so many patches of the full picture are padded to; 0 if they are too many."""
    return next((length for length in FULL_LENGTHS if length >= patches), 0)


def small_length(longer_sides: Sequence[int]) -> int:
    """Tokens of all small copies, padding included."""
    return sum(math.ceil(side / PATCH) ** 2 for side in longer_sides)


def count(width: int, height: int) -> int:
    """Patches of a picture at full size."""
    return math.ceil(width / PATCH) * math.ceil(height / PATCH)
