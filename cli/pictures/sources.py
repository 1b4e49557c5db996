"""Finding pictures: files, folders, globs, archives, and lists on stdin.

Pictures are found while others are scored, so a hundred thousand take no more memory than the names in one folder.
Their order is the same every time.
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
_CHUNK_BYTES = 2**16


def find(
    paths: Iterable[str],
    *,
    null: bool = False,
    exclude: Path | None = None,
    stdin: BinaryIO | None = None,
    members: Callable[[str], Iterator[PictureRef]] = archives.members,
) -> Iterator[PictureRef]:
    """Find pictures.

    Args:
        paths: Files, folders, archives, glob patterns, or ``-`` for a list of files, folders and archives.
        null: Whether NUL bytes separate that list, not line ends.
        exclude: A folder that is skipped.
        stdin: Where the list is read from.
        members: Lists the pictures in an archive.

    Raises:
        ValueError: A path is empty, or the list holds NUL bytes and ``null`` is false.
    """
    excluded = None if exclude is None else os.path.abspath(exclude)
    for path in paths:
        if not path:
            raise ValueError("one of the paths is empty")
        if path == STDIN:
            for listed in _listed(stdin or sys.stdin.buffer, b"\0" if null else b"\n"):
                yield from _take(listed, excluded, members)
        elif glob.has_magic(path) and not os.path.lexists(path):
            yield from _match(path, excluded, members)
        else:
            yield from _take(path, excluded, members)


def find_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Expand folders to the pictures in them, at any depth, in the order of their names."""
    for path in paths:
        for picture in _walk(path, None) if path.is_dir() else _file(path):
            if isinstance(picture.content, Path):
                yield picture.content


def _take(name: str, excluded: str | None, members: Callable[[str], Iterator[PictureRef]]) -> Iterator[PictureRef]:
    if os.path.isdir(name):
        return _walk(Path(name), excluded)
    if archives.is_archive(name) and os.path.isfile(name):
        return members(name)
    return _file(Path(name))


def _file(path: Path) -> Iterator[PictureRef]:
    yield PictureRef(str(path), path)


def _walk(folder: Path, excluded: str | None) -> Iterator[PictureRef]:
    """The pictures in a folder, at any depth. Links to folders are not followed: they may form a loop."""
    if excluded is not None and os.path.abspath(folder) == excluded:
        return
    names: list[str] = []
    folders: set[str] = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.add(entry.name)
                elif is_picture(entry.name) and entry.is_file():
                    names.append(entry.name)
    except OSError as error:
        yield PictureRef(str(folder), error)
        return
    for name in sorted([*names, *folders]):
        path = folder / name
        if name in folders:
            yield from _walk(path, excluded)
        else:
            yield PictureRef(str(path), path)


def _match(pattern: str, excluded: str | None, members: Callable[[str], Iterator[PictureRef]]) -> Iterator[PictureRef]:
    """Expand a glob; a file in a folder that matches as well is found once."""
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
        yield from _take(str(path), excluded, members)
    if empty:
        yield PictureRef(pattern, FileNotFoundError(0, "No picture matches"))


def _listed(stream: BinaryIO, separator: bytes) -> Iterator[str]:
    rest = b""
    while chunk := stream.read(_CHUNK_BYTES):
        if separator != b"\0" and b"\0" in chunk:
            raise ValueError("the list of paths holds NUL bytes; add --null if they separate the paths")
        *paths, rest = (rest + chunk).split(separator)
        yield from (os.fsdecode(path) for path in paths if path)
    if rest:
        yield os.fsdecode(rest)
