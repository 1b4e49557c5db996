"""A job: its list of units, frozen when it begins, and the files of the units that are done.

The output holds one Parquet file for each unit that is done, ``_job`` with the list and ``job.json``, and at the end
``_SUCCESS``. There is no other state: a unit is done if its file is there.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from cli.bulk import rows
from cli.bulk.stores import Store
from cli.bulk.units import UNKNOWN, Unit
from cli.pictures.exclusions import Exclusions, NotLookedAt
from model import files

FOLDER = "_job"
ABOUT = f"{FOLDER}/job.json"
SUCCESS = "_SUCCESS"
FILE_UNITS = 1000
"""Units in each file of the list."""
GROUP_UNITS = 16
"""Units in each row group of those files, which is what a lookup reads."""
_FORMAT = {"smart-iqa score-bulk": 1}
SCORES = re.compile(r"scores-(\d{12})\.parquet")
"""Name of the file of a unit's rows."""
_READERS = 16


@dataclass(frozen=True)
class Job:
    """A job that has begun.

    Attributes:
        store: Where it writes to.
        folder: What its paths are relative to.
        units: Number of units.
        pictures: Number of pictures, without those of unlisted archives.
        sealed: Number of unlisted archives, whose pictures are counted only when they are scored.
        exclusions: Which members of archives are left out.
        not_looked_at: What was not looked at when the job was listed.
    """

    store: Store
    folder: str
    units: int
    pictures: int
    sealed: int
    exclusions: Exclusions = field(default_factory=Exclusions, compare=False)
    not_looked_at: NotLookedAt = field(default_factory=NotLookedAt, compare=False)

    def unit(self, number: int) -> Unit:
        """Look up a unit."""
        file, offset = divmod(number, FILE_UNITS)
        group, offset = divmod(offset, GROUP_UNITS)
        return _group(self.store, file, group)[offset]

    def counts(self) -> Iterator[tuple[int, int | None]]:
        """Number and picture count of each unit; the count is None for parts of archives, which are not divided."""
        import pyarrow.parquet as pq

        for file in range(-(-self.units // FILE_UNITS)):
            with self.store.open(_list(file)) as opened:
                units = pq.read_table(opened, columns=["number", "count", "archive"]).to_pylist()
            for unit in units:
                yield unit["number"], unit["count"] if unit["archive"] is None else None

    def write(self, number: int, table: Any) -> None:
        """Write the rows of a unit, which is then done."""
        self.store.put(_file(number), rows.to_parquet(table))

    def succeed(self, summary: Mapping[str, Any]) -> None:
        """Write ``_SUCCESS``: all units are done."""
        self.store.put(SUCCESS, json.dumps(summary, indent=2).encode() + b"\n")


def _file(number: int) -> str:
    return f"scores-{number:012}.parquet"


@dataclass(frozen=True)
class Done:
    """What earlier runs have done.

    Attributes:
        units: For each unit 1 if it is done, else 0.
        count: Number of units that are done.
        pictures: Rows in their files.
        errors: Rows without a score.
    """

    units: bytearray
    count: int
    pictures: int
    errors: int


def done(job: Job) -> Done:
    """Find out which units are done. An incomplete file, as a power failure may leave it, does not count."""
    import pyarrow as pa

    def count(number: int) -> tuple[int, int] | None:
        with contextlib.suppress(pa.ArrowInvalid), job.store.open(_file(number)) as file:
            return rows.count_rows(file)
        return None

    units = bytearray(job.units)
    pictures = errors = 0
    existing = (int(match[1]) for name in job.store.files() if (match := SCORES.fullmatch(name)))
    with ThreadPoolExecutor(_READERS) as pool:
        known = (number for number in existing if number < job.units)
        while numbers := list(islice(known, 1000)):
            for number, counts in zip(numbers, pool.map(count, numbers), strict=True):
                if counts is not None:
                    units[number] = 1
                    pictures += counts[0]
                    errors += counts[1]
    return Done(units, sum(units), pictures, errors)


def resume(store: Store, settings: Mapping[str, Any]) -> Job | None:
    """Go on with a job.

    Args:
        store: Where it writes to.
        settings: Its inputs, and the settings that decide its scores, as JSON can hold them.

    Returns:
        The job; None if none has begun there, or its list is not complete.

    Raises:
        ValueError: It was begun with other settings, or the output holds something else.
    """
    try:
        with store.open(ABOUT) as file:
            about = json.loads(file.read())
        if not _FORMAT.items() <= about.items():
            raise ValueError
    except FileNotFoundError:
        if any(SCORES.fullmatch(name) for name in store.files()):
            raise ValueError(f"{store.name} holds scores, but not the list of a job; name another folder") from None
        return None
    except (ValueError, AttributeError):
        raise ValueError(f"{store.name} holds no job that this release can go on with; name another folder") from None
    # What one of both does not name it does without: such as a policy.
    for name in dict.fromkeys((*settings, *about["settings"])):
        begun, value = about["settings"].get(name), settings.get(name)
        if begun != value:
            raise ValueError(
                f"{store.name} was begun with {name} {_text(begun)}, not {_text(value)}; go on as it was begun, or "
                "name another folder"
            )
    missed = NotLookedAt.from_dict(about["not_looked_at"])
    counts = (about["units"], about["pictures"], about["sealed"])
    return Job(store, about["folder"], *counts, exclusions_of(settings), missed)


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def exclusions_of(settings: Mapping[str, Any]) -> Exclusions:
    """What a job leaves out, by its settings."""
    return Exclusions(settings.get("exclude", ()), defaults=settings.get("default_excludes", True))


def begin(
    store: Store, settings: Mapping[str, Any], units: Iterator[Unit], not_looked_at: NotLookedAt | None = None
) -> Job:
    """Begin a job: write its list of units. If that is interrupted there is no job, and the next run lists anew.

    Args:
        store: Where it writes to.
        settings: As for ``resume``.
        units: From ``listing``, with paths relative to the current folder.
        not_looked_at: What is not looked at; it grows while units are listed.

    Raises:
        ValueError: There is nothing to score.
        OSError: It cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = pictures = sealed = 0
    while part := list(islice(units, FILE_UNITS)):
        file, count = count // FILE_UNITS, count + len(part)
        pictures += sum(unit.count for unit in part if unit.count != UNKNOWN)
        sealed += sum(unit.count == UNKNOWN for unit in part)
        buffer = pa.BufferOutputStream()
        listed = pa.Table.from_pylist([_packed(unit) for unit in part], _schema())
        pq.write_table(listed, buffer, row_group_size=GROUP_UNITS, compression="zstd")
        store.put(_list(file), buffer.getvalue())
    if not count:
        missed = f" ({not_looked_at.summary()})" if not_looked_at and not_looked_at.count else ""
        raise ValueError("there are no pictures in " + ", ".join(settings["inputs"]) + missed)
    skipped = not_looked_at or NotLookedAt()
    job = Job(store, os.getcwd(), count, pictures, sealed, exclusions_of(settings), skipped)
    about = {"folder": job.folder, "units": count, "pictures": pictures, "sealed": sealed, "settings": settings}
    about["not_looked_at"] = skipped.to_dict()
    store.put(ABOUT, json.dumps({**_FORMAT, **about}, indent=2).encode() + b"\n")
    return job


@contextlib.contextmanager
def locked(store: Store) -> Iterator[None]:
    """Lock a folder of this machine against a second run, until the block or the process ends.

    Raises:
        ValueError: Another run is writing there.
    """
    folder = store.folder
    if folder is None:  # object stores have no locks; two runs would write the same bytes twice
        yield
        return
    with files.locked(folder, Path(folder, FOLDER, files.LOCK)):
        yield


def _list(file: int) -> str:
    return f"{FOLDER}/list-{file:09}.parquet"


@lru_cache(maxsize=2)
def _group(store: Store, file: int, group: int) -> list[Unit]:
    import pyarrow.parquet as pq

    with store.open(_list(file)) as opened:
        units = pq.ParquetFile(opened).read_row_group(group).to_pylist()
    return [_unpacked(unit) for unit in units]


def _schema() -> Any:
    import pyarrow as pa

    # As bytes: names of files need not be text.
    whole, name = pa.int64(), pa.binary()
    types = {"number": whole, "names": pa.list_(name), "archive": name, "start": whole, "count": whole, "size": whole}
    return pa.schema(list(types.items()))


def _packed(unit: Unit) -> dict[str, Any]:
    archive = None if unit.archive is None else os.fsencode(unit.archive)
    return {**asdict(unit), "names": [os.fsencode(name) for name in unit.names], "archive": archive}


def _unpacked(row: dict[str, Any]) -> Unit:
    archive = None if row["archive"] is None else os.fsdecode(row["archive"])
    return Unit(**{**row, "names": tuple(os.fsdecode(name) for name in row["names"]), "archive": archive})
