"""Forms of results: a table for people, CSV, JSON lines and Parquet for programs."""

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Protocol

from cli.console import printable
from cli.scoring.stream import Record

COLUMNS = (
    "path",
    "score",
    "grade",
    "raw_score",
    "std",
    "stderr",
    "crops",
    "width",
    "height",
    "format",
    "warnings",
    "error",
)
TABLE_ROWS = 1000
"""Pictures in a table; who wants more of them wants a file."""
GROUP_ROWS = 10_000
"""Rows in a row group of a Parquet file."""


class Format(StrEnum):
    """Forms of the results on stdout."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


class Output(Protocol):
    """Where results go."""

    def add(self, record: Record) -> None:
        """Take in one result."""

    def close(self) -> None:
        """Write what is still to be written."""


class JsonLines:
    """One JSON object per line: the path, and what the service would answer or an error."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def add(self, record: Record) -> None:
        """Write a line."""
        self._stream.write(json.dumps(record) + "\n")

    def close(self) -> None:
        """Nothing is held back."""


class Csv:
    """A CSV table."""

    def __init__(self, stream: IO[str]) -> None:
        self._writer = csv.DictWriter(stream, COLUMNS)
        self._writer.writeheader()

    def add(self, record: Record) -> None:
        """Write a row."""
        self._writer.writerow({**row(record), "warnings": " ".join(record.get("warnings", ()))})

    def close(self) -> None:
        """Nothing is held back."""


class Table:
    """A table for people, shown at the end; pictures that failed are told apart on stderr."""

    def __init__(self) -> None:
        from rich import box
        from rich.table import Table as RichTable

        self._table = RichTable(box=box.SIMPLE_HEAD)
        self._more = 0
        for column in ("score", "±", "grade", "size", "picture", "warnings"):
            right = column in ("score", "±", "size")
            self._table.add_column(column, justify="right" if right else "left", overflow="fold")

    def add(self, record: Record) -> None:
        """Add a row, as long as there is room."""
        if "error" in record:
            return
        if self._table.row_count == TABLE_ROWS:
            self._more += 1
            return
        spread = "" if record["stderr"] is None else f"{record['stderr']:.1f}"
        size = f"{record['image']['width']}x{record['image']['height']}"
        grade, warnings = record["grade"] or "", ", ".join(record["warnings"])
        self._table.add_row(f"{record['score']:.2f}", spread, grade, size, printable(record["path"]), warnings)

    def close(self) -> None:
        """Show the table."""
        from cli.console import notes, results

        if self._table.row_count:
            results.print(self._table, markup=False)
        if self._more:
            notes.print(f"{self._more:,} more pictures are not shown; --out FILE or -f csv has them all")


class Parquet:
    """A Parquet file: the columns of the CSV table with their types, ``warnings`` as lists."""

    def __init__(self, file: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        text, real, whole = pa.string(), pa.float64(), pa.int32()
        types = {"score": real, "raw_score": real, "std": real, "stderr": real, "crops": whole, "width": whole}
        types |= {"height": whole, "warnings": pa.list_(text)}
        self._schema = pa.schema([(name, types.get(name, text)) for name in COLUMNS])
        self._writer = pq.ParquetWriter(file, self._schema)
        self._rows: list[Record] = []

    def add(self, record: Record) -> None:
        """Add a row."""
        # Parquet's text is UTF-8; a path need not be.
        path = record["path"].encode(errors="surrogateescape").decode(errors="replace")
        self._rows.append({**row(record), "path": path, "warnings": record.get("warnings")})
        if len(self._rows) == GROUP_ROWS:
            self._write()

    def close(self) -> None:
        """Write the last rows and the file's index."""
        self._write()
        self._writer.close()

    def _write(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows = []


STDOUT: dict[Format, Callable[[], Output]] = {
    Format.TABLE: Table,
    Format.JSONL: lambda: JsonLines(sys.stdout),
    Format.CSV: lambda: Csv(sys.stdout),
}
_TEXT: dict[str, Callable[[IO[str]], Output]] = {".csv": Csv, ".jsonl": JsonLines, ".ndjson": JsonLines}
_PARQUET = ".parquet"


def row(record: Record, columns: Sequence[str] = COLUMNS) -> dict[str, Any]:
    """A record's columns."""
    flat = {**record, **record.get("image", {})}
    return {name: flat.get(name) for name in columns}


def check(file: Path) -> None:
    """Find out before anything is scored whether a file could be written.

    Raises:
        ValueError: Its suffix names no form, or its folder does not exist.
        ModuleNotFoundError: What writes it is not installed.
    """
    if file.suffix.lower() == _PARQUET:
        import pyarrow.parquet  # noqa: F401
    elif file.suffix.lower() not in _TEXT:
        raise ValueError(f"{file}: the name must end in {', '.join(_TEXT)} or {_PARQUET}")
    if not file.parent.is_dir():
        raise ValueError(f"{file.parent}: no such folder")


@contextlib.contextmanager
def to_file(file: Path) -> Iterator[Output]:
    """Write a file, in the form that its suffix names; it appears once it is whole.

    Args:
        file: As for ``check``.
    """
    with replacing(file) as fresh:
        if file.suffix.lower() == _PARQUET:
            parquet = Parquet(fresh)
            yield parquet
            parquet.close()
            return
        with fresh.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            yield _TEXT[file.suffix.lower()](stream)


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path to write to, beside a file whose place it then takes; if writing fails nothing is left."""
    fresh = file.with_name(f".{file.name}.new")
    try:
        yield fresh
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
