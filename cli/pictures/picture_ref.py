"""A picture that was found, and which files count as pictures."""

import errno
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
    | {".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif", ".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".jxl"}
)
"""Files with these suffixes, in any case, are taken from folders, globs and archives; a file named by itself is always
taken."""
OTHERS = frozenset(
    {
        ".dng",
        ".cr2",
        ".cr3",
        ".crw",
        ".nef",
        ".nrw",
        ".arw",
        ".sr2",
        ".srf",
        ".srw",
        ".raf",
        ".orf",
        ".rw2",
        ".pef",
        ".raw",
    }
    | {".3fr", ".iiq", ".x3f", ".gpr", ".insp", ".psd", ".psb", ".xcf", ".exr", ".hdr", ".svg", ".ico", ".tga", ".pbm"}
    | {".pgm", ".ppm", ".pnm", ".pcx", ".wdp", ".jxr", ".qoi", ".dds"}
)
"""Suffixes of pictures that cannot be read; they are told rather than passed over in silence."""


class PictureRef(NamedTuple):
    """A picture, or the error in its place.

    Attributes:
        name: Its name in the results: its path, or the archive's path and the member's.
        content: Its path; or a function that reads its bytes, to be called before the next picture is requested; or
            the reason why it cannot be read.
    """

    name: str
    content: Path | Callable[[], bytes] | Exception


def of_file(name: str, path: Path) -> PictureRef:
    """A picture in a file, by its name in the results; an error where no file can have that name."""
    if "\0" in str(path):
        return PictureRef(name, OSError(errno.EINVAL, "The name has a NUL byte"))
    return PictureRef(name, path)


def is_picture(name: str) -> bool:
    """Whether a file has the suffix of a picture that can be read."""
    return _suffix(name) in SUFFIXES


def unread(name: str) -> str:
    """Why a file that looks like a picture, or like several, is passed over; "" for any other file."""
    suffix = _suffix(name)
    if suffix == ".jxl" and not _reads_jxl():
        return "no reader for .jxl files (the extra jxl has one)"
    return f"no reader for {suffix} files" if suffix in OTHERS else ""


@cache
def _reads_jxl() -> bool:
    return find_spec("imagecodecs") is not None


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()
