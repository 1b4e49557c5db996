"""From the inputs of a job to its units, in one pass: folders, globs, lists, archives, shards, on disk or by URI."""

import csv
import glob
import hashlib
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
from cli.pictures.picture_ref import PictureRef, is_picture, unread
from cli.pictures.sources import Search
from model.files import encoding

COLUMNS = ("path", "uri")
"""Columns of a list that are looked for, unless another one is named."""
_LISTS = (".csv", ".parquet")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True)
class _Archive:
    name: str


def units(inputs: Sequence[str], size: int, column: str | None = None, search: Search | None = None) -> Iterator[Unit]:
    """List the units of a job.

    Args:
        inputs: Folders, globs, pictures, archives, lists, or URIs of them.
        size: Most pictures in a unit; archives that can only be read from their beginning are one unit of any size.
        column: Column of lists with paths and URIs; the first of ``COLUMNS`` if None.
        search: What is left out, and takes what was not looked at.

    Yields:
        The same units every time, as long as the inputs do not change.

    Raises:
        ValueError: An input does not exist, or a list cannot be parsed.
        OSError: A list or a folder of an object store cannot be read.
    """
    numbers = itertools.count()
    names: list[str] = []
    search = search or Search()
    for item in _items(inputs, column, search):
        if isinstance(item, _Archive):
            for part in _parts(item.name, size, search):
                yield replace(part, number=next(numbers))
            continue
        names.append(item)
        if len(names) == size:
            yield Unit(number=next(numbers), names=tuple(names), count=size)
            names = []
    if names:
        yield Unit(number=next(numbers), names=tuple(names), count=len(names))


def contents_of_lists(inputs: Iterable[str]) -> dict[str, str]:
    """What tells whether the lists among the inputs have changed: the hash of a file, size and time of an object.

    Raises:
        ValueError: One does not exist.
    """
    found = {}
    for name in (local(one) for pattern in inputs for one in _ranges(pattern)):
        if not name.partition("?")[0].lower().endswith(_LISTS):
            continue
        if is_uri(name):
            info = Place.of(name).filesystem.get_file_info(Place.of(name).path)
            found[name] = f"{info.size} bytes of {info.mtime_ns}"
            continue
        try:
            with open(name, "rb") as stream:
                found[name] = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
        except FileNotFoundError as error:
            raise ValueError(f"{name}: {NOT_THERE}") from error
    return found


def _items(inputs: Iterable[str], column: str | None, search: Search) -> Iterator[str | _Archive]:
    """The pictures and archives of the inputs, in order."""
    for pattern in inputs:
        for name in map(local, _ranges(pattern)):
            if name.partition("?")[0].lower().endswith(_LISTS):
                yield from _listed(name, column, search)
            elif is_uri(name):
                yield from _in_store(Place.of(name), search)
            elif os.path.lexists(name) or glob.has_magic(name):
                yield from _on_disk(name, search)
            else:
                raise ValueError(f"{name or 'an empty path'}: {NOT_THERE}")


def _ranges(pattern: str) -> Iterator[str]:
    """Expand ``{000..099}``, as a shell would, unless there is a file of that very name."""
    match = _RANGE.search(pattern)
    if match is None or os.path.lexists(pattern):
        yield pattern
        return
    first, last = match.groups()
    for number in range(int(first), int(last) + 1):
        yield from _ranges(f"{pattern[: match.start()]}{number:0{len(first)}}{pattern[match.end() :]}")


def _on_disk(name: str, search: Search) -> Iterator[str | _Archive]:
    def unlisted(archive: str) -> Iterator[PictureRef]:
        yield PictureRef(archive, archives.ArchiveError("not listed yet"))

    for picture in sources.find([name], replace(search, members=unlisted)):
        if isinstance(picture.content, FileNotFoundError):
            raise ValueError(f"{name}: no picture matches")
        yield _Archive(picture.name) if isinstance(picture.content, archives.ArchiveError) else picture.name


def _in_store(place: Place, search: Search) -> Iterator[str | _Archive]:
    from pyarrow.fs import FileType

    kind = place.filesystem.get_file_info(place.path.rstrip("/")).type
    if kind == FileType.Directory:
        yield from _walk(place, search)
    elif kind == FileType.File:
        yield _item(_uri(place))
    else:
        raise ValueError(f"{place.name}: {NOT_THERE}")


def _walk(place: Place, search: Search) -> Iterator[str]:
    """The pictures below a folder, listed folder by folder: a listing of all would not fit into memory."""
    from pyarrow.fs import FileSelector, FileType

    infos = place.filesystem.get_file_info(FileSelector(place.path.rstrip("/")))
    for info in sorted(infos, key=lambda info: info.base_name):
        found = place.at(info.path)
        reason = "" if info.type == FileType.Directory else unread(info.base_name)
        if not (reason or info.type == FileType.Directory or is_picture(info.base_name)):
            continue
        if reason := search.exclusions.reason(found.name) or reason:
            search.not_looked_at.add(found.name, reason)
        elif info.type != FileType.Directory:
            yield _uri(found)
        else:
            try:
                yield from _walk(found, search)
            except OSError as error:
                search.not_looked_at.add(found.name, str(error).partition("\n")[0])


def _uri(place: Place) -> str:
    """A URI with its options, which are needed to read it."""
    host, question, options = place.root.partition("?")
    return f"{host}{place.key}{question}{options}"


def _item(name: str) -> str | _Archive:
    return _Archive(name) if archives.is_archive(name.partition("?")[0] if is_uri(name) else name) else name


def _listed(file: str, column: str | None, search: Search) -> Iterator[str | _Archive]:
    """The pictures and archives that a list names; whether they exist is found out when they are scored."""
    try:
        reader = _csv if file.partition("?")[0].lower().endswith(".csv") else _parquet
        with (
            Place.of(file).open() if is_uri(file) else open(file, "rb") as stream,
            closing(reader(stream, file, column)) as names,
        ):
            for row, name in enumerate(names, 1):
                if not name:
                    search.not_looked_at.add(f"{file}, row {row:,}", "it names no picture")
                    continue
                if is_uri(name):
                    Place.of(name)  # raises for passwords
                yield _item(local(name))
    except FileNotFoundError as error:
        raise ValueError(f"{file}: {NOT_THERE}") from error


def _csv(stream: IO[bytes], file: str, column: str | None) -> Generator[str, None, None]:
    found = encoding(stream.read(3))
    stream.seek(0)
    errors = "replace" if found == "utf-16" else "surrogateescape"
    with io.TextIOWrapper(stream, encoding=found, errors=errors, newline="") as text:
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


def _parts(archive: str, size: int, search: Search) -> Iterator[Unit]:
    """Divide an archive; one that would have to be read to its end to be listed stays whole."""
    name, open_ = opener(archive, "")
    try:
        with open_() as raw:
            length = raw.seek(0, os.SEEK_END)
        whole = archives.is_sequential(name, open_) or (is_uri(archive) and name.lower().endswith(TAR))
    except OSError:
        # Reported when it is to be scored, as for a picture that does not exist.
        yield Unit(number=0, archive=archive, count=1)
        return
    if whole:
        yield Unit(number=0, archive=archive, count=UNKNOWN, size=length)
        return
    start, count = 0, 0
    for offset, picture in archives.members_from(name, open_, leave_out=search.leaves_out_member):
        # The error of an archive that breaks off joins the last part: no part can begin at it.
        broken = picture.name == name
        if count >= size and not broken:
            yield Unit(number=0, archive=archive, start=start, count=count, size=length)
            count = 0
        if not count and not broken:
            start = offset
        count += 1
    if count:
        yield Unit(number=0, archive=archive, start=start, count=count, size=length)
