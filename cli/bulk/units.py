"""Units of a job: lists of pictures, or parts of archives; a unit's pictures are the same in every run."""

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO

from cli.bulk.stores import Place, is_uri
from cli.pictures import archives
from cli.pictures.archives import ArchiveError
from cli.pictures.exclusions import Exclusions
from cli.pictures.picture_ref import PictureRef, of_file
from cli.pictures.sources import Search

UNKNOWN = -1
"""Stands for the number of pictures in an unlisted archive."""
READERS = 16
"""Objects of a store that are read at a time: each takes long to answer, and little of this machine's time."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Pictures whose scores make one file: a list of them, or a part of an archive.

    Attributes:
        number: Index among the units of the job.
        names: The pictures of a list.
        archive: The archive, with the options of its URI; None for a list.
        start: Offset of the first picture in the archive, as ``archives.members_from`` yields it.
        count: Number of pictures; ``UNKNOWN`` for an archive that was not listed and is scored as a whole.
        size: Size of the archive in bytes when the job began.
    """

    number: int
    names: tuple[str, ...] = ()
    archive: str | None = None
    start: int = 0
    count: int = UNKNOWN
    size: int = 0


def opener(archive: str, folder: str) -> tuple[str, Callable[[], IO[bytes]]]:
    """The name of an archive in results, and a function that opens it."""
    if is_uri(archive):
        place = Place.of(archive)
        return place.name, place.open
    return archive, partial(archives.open_file, os.path.join(folder, archive))


def contents(
    unit: Unit, folder: str, first: int = 0, last: int | None = None, exclusions: Exclusions | None = None
) -> Iterator[PictureRef]:
    """The pictures of a unit.

    Args:
        unit: The unit.
        folder: What paths are relative to.
        first: Index of the first picture wanted; 0 for parts of archives.
        last: Index after the last picture wanted; None for all.
        exclusions: Which members of archives are left out, as when they were listed.

    Yields:
        ``unit.count`` items if that is known, else at least one: errors stand in for missing pictures.
    """
    if unit.archive is None:
        yield from _listed(unit.names[first:last], folder)
        return
    assert first == 0
    count = 0
    for picture in _members(unit, folder, exclusions or Exclusions()):
        count += 1
        yield picture
    if not count:
        yield PictureRef(unit.archive, ArchiveError("the archive holds no pictures"))
    for _ in range(count or 1, unit.count):
        yield PictureRef(unit.archive, ArchiveError("the archive has changed since the job began"))


def _members(unit: Unit, folder: str, exclusions: Exclusions) -> Iterator[PictureRef]:
    assert unit.archive is not None
    name, open_ = opener(unit.archive, folder)
    try:
        with open_() as raw:
            if raw.seek(0, os.SEEK_END) != unit.size:
                raise ArchiveError("the archive has changed since the job began")
    except (ArchiveError, OSError) as error:
        yield PictureRef(name, error)
        return
    leave_out = Search(exclusions).leaves_out_member
    members = (picture for _, picture in archives.members_from(name, open_, unit.start, leave_out=leave_out))
    yield from members if unit.count == UNKNOWN else islice(members, unit.count)


def _listed(names: tuple[str, ...], folder: str) -> Iterator[PictureRef]:
    """The pictures of a list: files of this machine as paths; if any has a URI, all are read ahead in threads."""
    if not any(map(is_uri, names)):
        for name in names:
            yield of_file(name, Path(folder, name))
        return
    with ThreadPoolExecutor(READERS, thread_name_prefix="read") as pool:
        ahead: deque[tuple[str, Future[bytes]]] = deque()
        remaining = iter(names)
        try:
            while True:
                for name in islice(remaining, READERS - len(ahead)):
                    ahead.append((_result_name(name), pool.submit(_read, name, folder)))
                if not ahead:
                    return
                name, future = ahead.popleft()
                yield PictureRef(name, future.result)
        finally:
            for _, future in ahead:
                future.cancel()


def _result_name(name: str) -> str:
    """The name of a picture in results: its path, or its URI without options."""
    return Place.of(name).name if is_uri(name) else name


def _read(name: str, folder: str) -> bytes:
    if "\0" in name:
        raise OSError(errno.EINVAL, "The name has a NUL byte")
    if not is_uri(name):
        return Path(folder, name).read_bytes()
    return Place.of(name).read()
