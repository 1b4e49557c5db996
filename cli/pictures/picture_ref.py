"""A picture that was found, and what is taken for one."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
"""Taken from folders, globs and archives; files named one by one are taken whatever they are called."""


class PictureRef(NamedTuple):
    """A picture, or what stands in its place.

    Attributes:
        name: What results call it: its path, or the archive's path and the member's.
        content: Its path; or a function that reads its bytes, to be called before the next picture is asked for; or
            the reason why it cannot be read.
    """

    name: str
    content: Path | Callable[[], bytes] | Exception


def is_picture(name: str) -> bool:
    """Whether a file is called like a picture."""
    return Path(name).suffix.lower() in SUFFIXES
