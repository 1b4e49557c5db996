"""Units of a job: lists of pictures, or parts of archives, whose content is the same every time."""

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
from cli.pictures.picture_ref import PictureRef

UNKNOWN = -1
"""The number of pictures in an archive that was not looked into."""
READERS = 16
"""Objects of a store that are read at a time: each takes long to answer, and little of this machine."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What is scored together, and makes one file.

    Attributes:
        number: Its place among the units of the job.
        names: Its pictures, if it is a list of them.
        archive: The archive that they are in otherwise, with the options of its URI.
        start: The place of its first picture there, as ``archives.located`` tells it.
        count: Its pictures, or ``UNKNOWN``: then it is the whole archive.
        size: The archive's bytes when the job began.
    """

    number: int
    names: tuple[str, ...] = ()
    archive: str | None = None
    start: int = 0
    count: int = UNKNOWN
    size: int = 0


def opener(archive: str, folder: str) -> tuple[str, Callable[[], IO[bytes]]]:
    """What results call an archive, and what opens it."""
    if is_uri(archive):
        place = Place.of(archive)
        return place.name, place.open
    return archive, partial(archives.open_file, os.path.join(folder, archive))


def contents(unit: Unit, folder: str, first: int = 0, last: int | None = None) -> Iterator[PictureRef]:
    """What a unit consists of; something is always there, and always as much as it has.

    Args:
        unit: The unit.
        folder: What paths are relative to.
        first: Leave out so many pictures.
        last: And all from this one on.
    """
    if unit.archive is None:
        yield from _listed(unit.names[first:last], folder)
        return
    assert first == 0
    count = 0
    for found in _inside(unit, folder):
        count += 1
        yield found
    if not count:
        yield PictureRef(unit.archive, ArchiveError("the archive holds no pictures"))
    for _ in range(count or 1, unit.count):
        yield PictureRef(unit.archive, ArchiveError("the archive has changed since the job began"))


def _inside(unit: Unit, folder: str) -> Iterator[PictureRef]:
    assert unit.archive is not None
    name, opened = opener(unit.archive, folder)
    try:
        with opened() as raw:
            if raw.seek(0, os.SEEK_END) != unit.size:
                raise ArchiveError("the archive has changed since the job began")
    except (ArchiveError, OSError) as error:
        yield PictureRef(name, error)
        return
    members = (found for _, found in archives.located(name, opened, unit.start))
    yield from members if unit.count == UNKNOWN else islice(members, unit.count)


def _listed(names: tuple[str, ...], folder: str) -> Iterator[PictureRef]:
    """Files of this machine by their paths; what has a URI is read ahead."""
    if not any(map(is_uri, names)):
        for name in names:
            yield PictureRef(name, Path(folder, name))
        return
    with ThreadPoolExecutor(READERS, thread_name_prefix="read") as pool:
        ahead: deque[tuple[str, Future[bytes]]] = deque()
        left = iter(names)
        try:
            while True:
                for name in islice(left, READERS - len(ahead)):
                    ahead.append((shown(name), pool.submit(_read, name, folder)))
                if not ahead:
                    return
                name, future = ahead.popleft()
                yield PictureRef(name, future.result)
        finally:
            for _, future in ahead:
                future.cancel()


def shown(name: str) -> str:
    """What results call a picture: its path, or its URI without options."""
    return Place.of(name).name if is_uri(name) else name


def _read(name: str, folder: str) -> bytes:
    if not is_uri(name):
        return Path(folder, name).read_bytes()
    return Place.of(name).read()
