"""Finding pictures: files, folders, globs, archives, and lists on stdin.

Pictures are found while others are scored, so a hundred thousand take no more memory than the names in the folders
above the present one. Their order is the same every time. An entry that cannot be looked at costs itself alone.
"""

import codecs
import glob
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from cli.pictures import archives
from cli.pictures.exclusions import Exclusions, NotLookedAt
from cli.pictures.picture_ref import PictureRef, is_picture, of_file, unread
from model.files import encoding

STDIN = "-"
DEEPEST = 1000
"""Folders within folders that are looked into; far more come from a fault, and paths to them are too long to open."""
_CHUNK_BYTES = 2**16

Members = Callable[[str], Iterator[PictureRef]]


@dataclass(frozen=True)
class Search:
    """What to look for, and where not.

    Attributes:
        exclusions: Names that are left out.
        not_looked_at: Takes what was not looked at.
        own: A folder that is skipped: what the command itself writes.
        members: Lists the pictures in an archive; None for those that are there.
    """

    exclusions: Exclusions = field(default_factory=Exclusions)
    not_looked_at: NotLookedAt = field(default_factory=NotLookedAt)
    own: Path | None = None
    members: Members | None = None

    def claim(self, paths: Sequence[str]) -> dict[str, Any]:
        """What a run that looks for these paths must have in common with the one that it goes on from."""
        inputs = [path if path == STDIN else os.path.abspath(path) for path in paths]
        return {"inputs": inputs, **self.exclusions.settings()}

    def in_archive(self, file: str) -> Iterator[PictureRef]:
        """The pictures in an archive that are not left out."""
        if self.members is not None:
            yield from self.members(file)
            return
        yield from archives.members(file, leave_out=self.leaves_out_member)

    def leaves_out_member(self, file: str, member: str) -> bool:
        """Whether a member of an archive is left out, which is noted."""
        reason = unread(member) or (self.exclusions.reason_within(member) if is_picture(member) else "")
        if reason:
            self.not_looked_at.add(f"{file}/{member}", reason)
        return bool(reason)

    def leaves_out(self, path: str) -> bool:
        """Whether a file or folder is left out, which is noted."""
        reason = self.exclusions.reason(path)
        if reason:
            self.not_looked_at.add(path, reason)
        return bool(reason)


def find(
    paths: Iterable[str], search: Search | None = None, *, null: bool = False, stdin: BinaryIO | None = None
) -> Iterator[PictureRef]:
    """Find pictures.

    Args:
        paths: Files, folders, archives, glob patterns, or ``-`` for a list of files, folders and archives.
        search: What to look for; everything but ``exclusions.DEFAULTS`` if None.
        null: Whether NUL bytes separate that list, not line ends.
        stdin: Where the list is read from.

    Raises:
        ValueError: A path is empty, or the list holds NUL bytes and ``null`` is false.
    """
    search = search or Search()
    for path in paths:
        if not path:
            raise ValueError("one of the paths is empty")
        if path == STDIN:
            for listed in _listed(stdin or sys.stdin.buffer, null=null):
                yield from _take(listed, search)
        elif glob.has_magic(path) and not os.path.lexists(path):
            yield from _match(path, search)
        elif not search.leaves_out(path):
            yield from _take(path, search)


def find_files(paths: Iterable[Path], search: Search | None = None) -> Iterator[Path]:
    """Expand folders to the pictures in them, at any depth, in the order of their names."""
    search = search or Search()
    for path in paths:
        for picture in _walk(path, search) if path.is_dir() else _file(path):
            if isinstance(picture.content, Path):
                yield picture.content
            elif isinstance(picture.content, OSError):
                search.not_looked_at.add(picture.name, picture.content.strerror or type(picture.content).__name__)


def _take(name: str, search: Search) -> Iterator[PictureRef]:
    if os.path.isdir(name):
        return _walk(Path(name), search)
    if archives.is_archive(name) and os.path.isfile(name):
        return search.in_archive(name)
    return _file(Path(name))


def _file(path: Path) -> Iterator[PictureRef]:
    yield of_file(str(path), path)


class _Pattern(NamedTuple):
    """How far a path has matched a glob: all of its parts, and the places of those that may come next.

    A walk that takes everything has no parts, and is at the end of them.
    """

    parts: tuple[str, ...] = ()
    places: frozenset[int] = frozenset({0})

    @property
    def matched(self) -> bool:
        return len(self.parts) in self.places

    @property
    def follows(self) -> bool:
        """Whether links to folders are followed: not where a loop of them could be."""
        return bool(self.parts) and "**" not in self.parts

    def then(self, name: str) -> "_Pattern":
        """The pattern after one more part of a path."""
        if self.matched and not self.parts:
            return self
        reached = set()
        for place in self.places - {len(self.parts)}:
            part = self.parts[place]
            if name.startswith(".") and not part.startswith("."):
                continue
            if part == "**":
                reached.add(place)
            elif re.match(translate(part), name):
                reached.add(place + 1)
        return _Pattern(self.parts, self._with_none(reached))

    def started(self) -> "_Pattern":
        """The pattern before any part of a path."""
        return _Pattern(self.parts, self._with_none({0}))

    def _with_none(self, places: set[int]) -> frozenset[int]:
        # ** stands for no folder too.
        for place in sorted(places):
            while place < len(self.parts) and self.parts[place] == "**":
                place += 1
                places.add(place)
        return frozenset(places)


_ALL = _Pattern()


def _walk(folder: Path, search: Search, pattern: _Pattern = _ALL) -> Iterator[PictureRef]:
    """The pictures in a folder, at any depth, that match a pattern below it; in the order of their names."""
    # A list of what is still to come, not a recursion: some trees are deeper than Python's stack.
    waiting: list[tuple[Path, _Pattern, bool, int]] = [(folder, pattern, True, 0)]
    while waiting:
        path, reached, is_folder, depth = waiting.pop()
        if not is_folder:
            yield from search.in_archive(str(path)) if archives.is_archive(path.name) else _file(path)
            continue
        if search.own is not None and os.path.abspath(path) == os.path.abspath(search.own):
            continue
        if depth > DEEPEST:
            search.not_looked_at.add(str(path), f"more than {DEEPEST:,} folders deep")
            continue
        try:
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            yield PictureRef(str(path), error)
            continue
        below = [(path / entry.name, *_looked(entry, search, reached)) for entry in entries]
        waiting += [
            (file, own, kind == "folder", depth + 1) for file, kind, own in reversed(below) if kind and own is not None
        ]


def _looked(entry: "os.DirEntry[str]", search: Search, reached: _Pattern) -> tuple[str, _Pattern | None]:
    """What an entry of a folder is to a search: "folder", "file" or "" for nothing; and the pattern within it."""
    own = _ALL if reached.matched and reached.parts else reached.then(entry.name)
    if not own.places:
        return "", None
    try:
        is_folder = entry.is_dir(follow_symlinks=own.follows)
        if is_folder:
            return ("", None) if search.leaves_out(entry.path) else ("folder", _ALL if own.matched else own)
        archive = bool(own.parts) and archives.is_archive(entry.name)
        if not own.matched or not (is_picture(entry.name) or archive or unread(entry.name)):
            if entry.is_symlink() and entry.is_dir():
                search.not_looked_at.add(entry.path, "a link to a folder")
            return "", None
        if search.leaves_out(entry.path):
            return "", None
        if reason := unread(entry.name):
            search.not_looked_at.add(entry.path, reason)
        elif entry.is_file():
            return "file", own
        else:
            search.not_looked_at.add(entry.path, _kind(entry))
    except OSError as error:
        # Such as a link to itself, or to where one may not look.
        search.not_looked_at.add(entry.path, error.strerror or type(error).__name__)
    return "", None


def _kind(entry: "os.DirEntry[str]") -> str:
    """What an entry is that is no file."""
    if entry.is_symlink():
        return "a link to a folder" if entry.is_dir() else "a link to nothing"
    return "neither a file nor a folder" if os.path.lexists(entry.path) else "gone"


def _match(pattern: str, search: Search) -> Iterator[PictureRef]:
    """Expand a glob; a file in a folder that matches as well is found once."""
    path = Path(pattern)
    plain = next(place for place, part in enumerate(path.parts) if glob.has_magic(part))
    base, parts = Path(*path.parts[:plain]), path.parts[plain:]
    empty = True
    start = _Pattern(parts).started()
    if os.path.isdir(base):
        for picture in _walk(base, search, _ALL if start.matched else start):
            empty = False
            yield picture
    if empty:
        yield PictureRef(pattern, FileNotFoundError(0, "No picture matches"))


def _listed(stream: BinaryIO, *, null: bool) -> Iterator[str]:
    """The paths of a list: bytes as they are, or text in the encoding that a mark at its beginning tells."""
    start = b"" if null else stream.read(3)
    if (found := encoding(start)) == "utf-16":
        text = (start + stream.read()).decode(found, errors="replace")
        yield from _decoded((line.encode() for line in text.split("\n")), null=null)
        return
    rest, separator = start.removeprefix(codecs.BOM_UTF8), b"\0" if null else b"\n"
    while chunk := stream.read(_CHUNK_BYTES):
        *paths, rest = (rest + chunk).split(separator)
        yield from _decoded(paths, null=null)
    yield from _decoded([rest], null=null)


def _decoded(paths: Iterable[bytes], *, null: bool) -> Iterator[str]:
    for path in paths:
        if not null and b"\0" in path:
            raise ValueError("the list of paths holds NUL bytes; add --null if they separate the paths")
        # Lists from Windows end their lines with CR and LF.
        name = path if null else path.removesuffix(b"\r")
        if name:
            yield os.fsdecode(name)
