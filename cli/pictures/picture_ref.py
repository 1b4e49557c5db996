"""A picture that was found, and which files count as pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".hif"}
    | {".jp2", ".j2k", ".jpf", ".jpx", ".jxl"}
)
"""Files with these suffixes are taken from folders, globs and archives; a file named by itself is always taken."""


class PictureRef(NamedTuple):
    """A picture, or the error in its place.

    Attributes:
        name: Its name in the results: its path, or the archive's path and the member's.
        content: Its path; or a function that reads its bytes, to be called before the next picture is requested; or
            the reason why it cannot be read.
    """

    name: str
    content: Path | Callable[[], bytes] | Exception


def is_picture(name: str) -> bool:
    """Whether a file has the suffix of a picture."""
    return Path(name).suffix.lower() in SUFFIXES
