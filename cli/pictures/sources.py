"""Where pictures come from: files, folders, globs, archives, and a list on stdin.

Everything is found while it is scored, so that a hundred thousand pictures take no more memory than the names in one
folder. The order is the same every time.
"""

import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from cli.pictures import archives
from cli.pictures.picture_ref import PictureRef, is_picture

STDIN = "-"
_CHUNK = 2**16
_FOLDER = "\0"
"""Marks the folders among names. It is in no name and before all letters, so names sort as if it were not there."""


def find(
    paths: Iterable[str],
    *,
    null: bool = False,
    without: Path | None = None,
    stdin: BinaryIO | None = None,
    members: Callable[[str], Iterator[PictureRef]] = archives.members,
) -> Iterator[PictureRef]:
    """Find pictures.

    Args:
        paths: Files, folders, archives, glob patterns, or ``-`` for a list of files, folders and archives.
        null: Whether that list is separated by NUL bytes instead of line ends.
        without: A folder that is not looked into.
        stdin: Where the list is read from.
        members: Finds what is in an archive.

    Raises:
        ValueError: A path is empty, or the list holds NUL bytes that were not announced.
    """
    left_out = None if without is None else os.path.abspath(without)
    for path in paths:
        if not path:
            raise ValueError("one of the paths is empty")
        if path == STDIN:
            for listed in _listed(stdin or sys.stdin.buffer, b"\0" if null else b"\n"):
                yield from _take(listed, left_out, members)
        elif glob.has_magic(path) and not os.path.lexists(path):
            yield from _match(path, left_out, members)
        else:
            yield from _take(path, left_out, members)


def find_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Expand folders to the pictures in them, at any depth, in the order of their names."""
    for found in (found for path in paths for found in (_walk(path, None) if path.is_dir() else _file(path))):
        if isinstance(found.content, Path):
            yield found.content


def _take(name: str, without: str | None, members: Callable[[str], Iterator[PictureRef]]) -> Iterator[PictureRef]:
    if os.path.isdir(name):
        return _walk(Path(name), without)
    if archives.is_archive(name) and os.path.isfile(name):
        return members(name)
    return _file(Path(name))


def _file(path: Path) -> Iterator[PictureRef]:
    yield PictureRef(str(path), path)


def _walk(folder: Path, without: str | None) -> Iterator[PictureRef]:
    if without is not None and os.path.abspath(folder) == without:
        return
    try:
        with os.scandir(folder) as entries:
            names = sorted(filter(None, map(_wanted, entries)))
    except OSError as error:
        yield PictureRef(str(folder), error)
        return
    for name in names:
        path = folder / name.removesuffix(_FOLDER)
        if name.endswith(_FOLDER):
            yield from _walk(path, without)
        else:
            yield PictureRef(str(path), path)


def _wanted(entry: "os.DirEntry[str]") -> str:
    """The name of an entry that is looked at, else an empty one. Links to folders are not followed: they may loop."""
    if entry.is_dir(follow_symlinks=False):
        return entry.name + _FOLDER
    return entry.name if is_picture(entry.name) and entry.is_file() else ""


def _match(pattern: str, without: str | None, members: Callable[[str], Iterator[PictureRef]]) -> Iterator[PictureRef]:
    """Expand a glob; what lies in a folder that matched itself comes once."""
    inside: Path | None = None
    empty = True
    for path in sorted(map(Path, glob.iglob(pattern, recursive=True))):
        if inside is not None and path.is_relative_to(inside):
            continue
        if path.is_dir():
            inside = path
        elif not (is_picture(path.name) or archives.is_archive(path.name)):
            continue
        empty = False
        yield from _take(str(path), without, members)
    if empty:
        yield PictureRef(pattern, FileNotFoundError(0, "No picture matches"))


def _listed(stream: BinaryIO, separator: bytes) -> Iterator[str]:
    rest = b""
    while chunk := stream.read(_CHUNK):
        if separator != b"\0" and b"\0" in chunk:
            raise ValueError("the list of paths holds NUL bytes; add --null if they separate the paths")
        *paths, rest = (rest + chunk).split(separator)
        yield from (os.fsdecode(path) for path in paths if path)
    if rest:
        yield os.fsdecode(rest)
