"""From the inputs of a job to its units, in one pass: folders, globs, lists, archives, shards, here or in buckets."""

import csv
import glob
import io
import itertools
import os
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import IO, Any

from cli.bulk.stores import NOT_THERE, Place, is_uri, local
from cli.bulk.units import UNKNOWN, Unit, opener
from cli.pictures import archives, sources
from cli.pictures.archives import TAR
from cli.pictures.picture_ref import PictureRef, is_picture

COLUMNS = ("path", "uri")
"""What the column of a list is called, if nothing else was said."""
_LISTS = (".csv", ".parquet")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True)
class _Archive:
    name: str


def units(inputs: Sequence[str], size: int, column: str | None = None) -> Iterator[Unit]:
    """Find what there is to score.

    Args:
        inputs: Folders, globs, pictures, archives, lists, or URIs of them.
        size: Pictures of a unit at most, but for archives that can only be read in order.
        column: Where lists have paths and URIs; one of ``COLUMNS`` if None.

    Yields:
        The same units every time, as long as nothing changes there.

    Raises:
        ValueError: An input is not there, or a list is none.
        OSError: A list or a folder of a bucket cannot be read.
    """
    numbers = itertools.count()
    names: list[str] = []
    for found in _found(inputs, column):
        if isinstance(found, _Archive):
            for part in _parts(found.name, size):
                yield replace(part, number=next(numbers))
            continue
        names.append(found)
        if len(names) == size:
            yield Unit(number=next(numbers), names=tuple(names), count=size)
            names = []
    if names:
        yield Unit(number=next(numbers), names=tuple(names), count=len(names))


def _found(inputs: Iterable[str], column: str | None) -> Iterator[str | _Archive]:
    for given in inputs:
        for name in map(local, _ranges(given)):
            if name.partition("?")[0].lower().endswith(_LISTS):
                yield from _listed(name, column)
            elif is_uri(name):
                yield from _stored(Place.of(name))
            elif os.path.lexists(name) or glob.has_magic(name):
                yield from _here(name)
            else:
                raise ValueError(f"{name or 'an empty path'}: {NOT_THERE}")


def _ranges(pattern: str) -> Iterator[str]:
    """Spell out ``{000..099}``, as a shell would; whatever is called like that itself stays."""
    match = _RANGE.search(pattern)
    if match is None or os.path.lexists(pattern):
        yield pattern
        return
    first, last = match.groups()
    for number in range(int(first), int(last) + 1):
        yield from _ranges(f"{pattern[: match.start()]}{number:0{len(first)}}{pattern[match.end() :]}")


def _here(name: str) -> Iterator[str | _Archive]:
    def unopened(archive: str) -> Iterator[PictureRef]:
        yield PictureRef(archive, archives.ArchiveError("not looked into yet"))

    for found in sources.find([name], members=unopened):
        if isinstance(found.content, FileNotFoundError):
            raise ValueError(f"{name}: no picture matches")
        yield _Archive(found.name) if isinstance(found.content, archives.ArchiveError) else found.name


def _stored(place: Place) -> Iterator[str | _Archive]:
    from pyarrow.fs import FileType

    kind = place.filesystem.get_file_info(place.path.rstrip("/")).type
    if kind == FileType.Directory:
        yield from _walk(place)
    elif kind == FileType.File:
        yield _one(_full(place))
    else:
        raise ValueError(f"{place.name}: {NOT_THERE}")


def _walk(place: Place) -> Iterator[str]:
    """Folder by folder: a listing of all at once would not fit into memory."""
    from pyarrow.fs import FileSelector, FileType

    found = place.filesystem.get_file_info(FileSelector(place.path.rstrip("/")))
    for info in sorted(found, key=lambda one: one.base_name):
        if info.type == FileType.Directory:
            yield from _walk(place.at(info.path))
        elif is_picture(info.base_name):
            yield _full(place.at(info.path))


def _full(place: Place) -> str:
    """A URI with its options, which whoever reads it needs."""
    host, question, options = place.root.partition("?")
    return f"{host}{place.key}{question}{options}"


def _one(name: str) -> str | _Archive:
    return _Archive(name) if archives.is_archive(name.partition("?")[0] if is_uri(name) else name) else name


def _listed(file: str, column: str | None) -> Iterator[str | _Archive]:
    """The pictures and archives of a list; none of them is looked for yet."""
    try:
        reader = _csv if file.partition("?")[0].lower().endswith(".csv") else _parquet
        with (
            Place.of(file).open() if is_uri(file) else open(file, "rb") as stream,
            closing(reader(stream, file, column)) as names,
        ):
            for row, name in enumerate(names, 1):
                if not name:
                    raise ValueError(f"{file}: row {row:,} names no picture")
                if is_uri(name):
                    Place.of(name)  # complains of passwords
                yield _one(local(name))
    except FileNotFoundError as error:
        raise ValueError(f"{file}: {NOT_THERE}") from error


def _csv(stream: IO[bytes], file: str, column: str | None) -> Generator[str, None, None]:
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        rows = csv.DictReader(text)
        try:
            name = _column(rows.fieldnames or (), file, column)
            for row in rows:
                yield row[name] or ""
        except csv.Error as error:
            raise ValueError(f"{file}: line {rows.line_num:,} is no CSV: {error}") from error


def _parquet(stream: IO[bytes], file: str, column: str | None) -> Generator[str, None, None]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table: Any = pq.ParquetFile(stream)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file}: is no Parquet file") from error
    name = _column(table.schema_arrow.names, file, column)
    kind = table.schema_arrow.field(name).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ValueError(f"{file}: the column {name} holds no text")
    for batch in table.iter_batches(columns=[name]):
        for value in batch.column(0).to_pylist():
            yield value or ""


def _column(names: Sequence[str], file: str, column: str | None) -> str:
    known = [name for name in names if name == column or (column is None and name in COLUMNS)]
    if not known:
        wanted = column or " or ".join(COLUMNS)
        raise ValueError(f"{file}: has no column {wanted}, but {', '.join(names) or 'none at all'}; --column names one")
    return known[0]


def _parts(archive: str, size: int) -> Iterator[Unit]:
    """Parts of an archive; all of it where finding out what is in it would be to read it all."""
    name, opened = opener(archive, "")
    try:
        with opened() as raw:
            length = raw.seek(0, os.SEEK_END)
        whole = archives.in_order(name, opened) or (is_uri(archive) and name.lower().endswith(TAR))
    except OSError:
        # It is told when the others are scored, as for a picture that is not there.
        yield Unit(number=0, archive=archive, count=1)
        return
    if whole:
        yield Unit(number=0, archive=archive, count=UNKNOWN, size=length)
        return
    start, count = 0, 0
    for place, found in archives.located(name, opened):
        # An archive that breaks off is told with its last pictures: there is no way to begin there.
        broken = found.name == name
        if count >= size and not broken:
            yield Unit(number=0, archive=archive, start=start, count=count, size=length)
            count = 0
        if not count and not broken:
            start = place
        count += 1
    if count:
        yield Unit(number=0, archive=archive, start=start, count=count, size=length)
