"""A job: its list of units, frozen when it began, and the files that they have made so far.

Below the output lie one Parquet file for each unit that is done, ``_job`` with the list and ``job.json``, and at the
end ``_SUCCESS``. Nothing else is remembered: a unit whose file is there is done.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from cli.bulk import rows
from cli.bulk.stores import Store
from cli.bulk.units import UNKNOWN, Unit

FOLDER = "_job"
ABOUT = f"{FOLDER}/job.json"
SUCCESS = "_SUCCESS"
FILE_UNITS = 1000
"""Units in a file of the list."""
GROUP_UNITS = 16
"""Units that are read at once from it."""
_FORMAT = {"smart-iqa score-bulk": 1}
_FILE = re.compile(r"scores-(\d{12})\.parquet")
_READERS = 16


@dataclass(frozen=True)
class Job:
    """A job that has begun.

    Attributes:
        store: Where it writes to.
        folder: What its paths are relative to.
        units: How many units it has.
        pictures: How many pictures, without those of archives that were not looked into.
        sealed: Archives that were not looked into.
    """

    store: Store
    folder: str
    units: int
    pictures: int
    sealed: int

    def unit(self, number: int) -> Unit:
        """Look up a unit."""
        file, place = divmod(number, FILE_UNITS)
        group, place = divmod(place, GROUP_UNITS)
        return _group(self.store, file, group)[place]

    def counts(self) -> Iterator[tuple[int, int | None]]:
        """All units with their pictures; None for parts of archives, which are not divided."""
        import pyarrow.parquet as pq

        for file in range(-(-self.units // FILE_UNITS)):
            with self.store.open(_list(file)) as opened:
                found = pq.read_table(opened, columns=["number", "count", "archive"]).to_pylist()
            for one in found:
                yield one["number"], one["count"] if one["archive"] is None else None

    def write(self, number: int, table: Any) -> None:
        """Write the rows of a unit, which is then done."""
        self.store.put(_file(number), rows.packed(table))

    def succeed(self, summary: Mapping[str, Any]) -> None:
        """Write down that all is done."""
        self.store.put(SUCCESS, json.dumps(summary, indent=2).encode() + b"\n")


def _file(number: int) -> str:
    return f"scores-{number:012}.parquet"


@dataclass(frozen=True)
class Done:
    """What earlier runs have done.

    Attributes:
        units: By number, whether it is done.
        count: How many are.
        pictures: Rows in their files.
        errors: Those among them that have no score.
    """

    units: bytearray
    count: int
    pictures: int
    errors: int


def done(job: Job) -> Done:
    """Find out what is done. A file that is not whole counts as none: a disk may have lost what it had promised."""
    import pyarrow as pa

    def count(number: int) -> tuple[int, int] | None:
        with contextlib.suppress(pa.ArrowInvalid), job.store.open(_file(number)) as file:
            return rows.counted(file)
        return None

    units = bytearray(job.units)
    pictures = errors = 0
    there = (int(match[1]) for name in job.store.files() if (match := _FILE.fullmatch(name)))
    with ThreadPoolExecutor(_READERS) as pool:
        known = (number for number in there if number < job.units)
        while numbers := list(islice(known, 1000)):
            for number, found in zip(numbers, pool.map(count, numbers), strict=True):
                if found is not None:
                    units[number] = 1
                    pictures += found[0]
                    errors += found[1]
    return Done(units, sum(units), pictures, errors)


def resume(store: Store, settings: Mapping[str, Any]) -> Job | None:
    """Go on with a job.

    Args:
        store: Where it writes to.
        settings: What it was begun with, as JSON can hold it.

    Returns:
        None if none has begun there, or its list is not complete.

    Raises:
        ValueError: It was begun with other settings, or what is there is no job's.
    """
    try:
        with store.open(ABOUT) as file:
            about = json.loads(file.read())
        if not _FORMAT.items() <= about.items():
            raise ValueError
    except FileNotFoundError:
        if any(_FILE.fullmatch(name) for name in store.files()):
            raise ValueError(f"{store.name} holds scores, but not the list of a job; name another folder") from None
        return None
    except (ValueError, AttributeError):
        raise ValueError(f"{store.name} holds no job that this release can go on with; name another folder") from None
    for name, value in settings.items():
        begun = about["settings"].get(name)
        if begun != value:
            raise ValueError(
                f"{store.name} was begun with {name} {_said(begun)}, not {_said(value)}; go on as it was begun, or "
                "name another folder"
            )
    return Job(store, about["folder"], about["units"], about["pictures"], about["sealed"])


def _said(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def begin(store: Store, settings: Mapping[str, Any], units: Iterator[Unit]) -> Job:
    """Freeze a job: write down its list. Before the end of it there is no job, and the next run lists anew.

    Args:
        store: Where it shall write to.
        settings: As for ``resume``.
        units: From ``listing``, relative to the current folder.

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
        raise ValueError("there are no pictures in " + ", ".join(settings["inputs"]))
    job = Job(store, os.getcwd(), count, pictures, sealed)
    about = {"folder": job.folder, "units": count, "pictures": pictures, "sealed": sealed, "settings": settings}
    store.put(ABOUT, json.dumps({**_FORMAT, **about}, indent=2).encode() + b"\n")
    return job


@contextlib.contextmanager
def alone(store: Store) -> Iterator[None]:
    """Keep a second run out of a folder of this machine for as long as this lasts, or the process lives.

    Raises:
        ValueError: Another run is writing there.
    """
    folder = store.folder
    if folder is None:  # a bucket has no locks; two runs would write the same bytes twice
        yield
        return
    from cli.score.journal import lock

    os.makedirs(os.path.join(folder, FOLDER), exist_ok=True)
    with open(os.path.join(folder, FOLDER, "lock"), "ab") as file:
        lock(file, folder)
        yield


def _list(file: int) -> str:
    return f"{FOLDER}/list-{file:09}.parquet"


@lru_cache(maxsize=2)
def _group(store: Store, file: int, group: int) -> list[Unit]:
    import pyarrow.parquet as pq

    with store.open(_list(file)) as opened:
        found = pq.ParquetFile(opened).read_row_group(group).to_pylist()
    return [_unpacked(one) for one in found]


def _schema() -> Any:
    import pyarrow as pa

    # Names are bytes: those of files need not be text.
    whole, name = pa.int64(), pa.binary()
    types = {"number": whole, "names": pa.list_(name), "archive": name, "start": whole, "count": whole, "size": whole}
    return pa.schema(list(types.items()))


def _packed(unit: Unit) -> dict[str, Any]:
    archive = None if unit.archive is None else os.fsencode(unit.archive)
    return {**asdict(unit), "names": [os.fsencode(name) for name in unit.names], "archive": archive}


def _unpacked(one: dict[str, Any]) -> Unit:
    archive = None if one["archive"] is None else os.fsdecode(one["archive"])
    return Unit(**{**one, "names": tuple(os.fsdecode(name) for name in one["names"]), "archive": archive})
