"""Output formats: a table for people; CSV, JSON lines and Parquet for programs."""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, Protocol

from cli.console import ANY_TEXT, printable
from cli.scoring import parquet
from cli.scoring.stream import Record, row
from model.defects import DEFECTS
from model.files import replacing

COLUMNS = (
    "path",
    "score",
    "low",
    "high",
    "grade",
    *DEFECTS,
    "raw_score",
    "std",
    "stderr",
    "crops",
    "width",
    "height",
    "format",
    "warnings",
    "decision",
    "reasons",
    "policy",
    "error",
)
PLAIN = 0.5
"""Severity from which a defect is named to people."""
TABLE_ROWS = 1000
"""Pictures in a table; the others are only counted."""
GROUP_ROWS = 10_000
"""Rows in a row group of a Parquet file."""


class Format(StrEnum):
    """Formats of the results on stdout."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


class Output(Protocol):
    """Receives results one by one and writes them."""

    def add(self, record: Record) -> None:
        """Take one result."""

    def close(self) -> None:
        """Write what is still held back."""


class JsonLines:
    """One JSON object per line: the path, and the fields of the service's response or an error."""

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
        values = row(record, COLUMNS)
        joined = {name: " ".join(values[name] or ()) for name in ("warnings", "reasons")}
        self._writer.writerow({**values, **joined})

    def close(self) -> None:
        """Nothing is held back."""


class Table:
    """A table for people, shown at the end, without the pictures that failed: those are listed on stderr.

    Args:
        decided: Whether a policy decides about the pictures.
    """

    def __init__(self, *, decided: bool) -> None:
        from rich import box
        from rich.table import Table as RichTable

        self._table = RichTable(box=box.SIMPLE_HEAD)
        self._more = 0
        self._decided = decided
        decision = ("decision",) if decided else ()
        for column in ("score", "likely", "grade", "size", "picture", *decision, "defects", "warnings"):
            right = column in ("score", "likely", "size")
            self._table.add_column(column, justify="right" if right else "left", overflow="fold")

    def add(self, record: Record) -> None:
        """Add a row, up to ``TABLE_ROWS``."""
        if "error" in record:
            return
        if self._table.row_count == TABLE_ROWS:
            self._more += 1
            return
        size = f"{record['image']['width']}x{record['image']['height']}"
        grade, warnings = record["grade"] or "", ", ".join(record["warnings"])
        name, decision = printable(record["path"]), (decided(record),) if self._decided else ()
        self._table.add_row(
            f"{record['score']:.2f}", likely(record), grade, size, name, *decision, flagged(record), warnings
        )

    def close(self) -> None:
        """Show the table."""
        from cli.console import notes, results

        if self._table.row_count:
            results.print(self._table, markup=False)
        if self._more:
            notes.print(f"{self._more:,} more pictures are not shown; --out FILE or -f csv has them all")


def likely(record: Record) -> str:
    """Where people's mean opinion lies, for people: the interval, or without one the spread of the crops."""
    if "interval" in record:
        return f"{record['interval']['low']:.0f} to {record['interval']['high']:.0f}"
    return "" if record["stderr"] is None else f"± {record['stderr']:.1f}"


def flagged(record: Record) -> str:
    """The defects that are plain to see, for people, the most severe first."""
    severities = {name: defect["severity"] for name, defect in record.get("defects", {}).items()}
    plain = [name for name in sorted(severities, key=lambda name: -severities[name]) if severities[name] >= PLAIN]
    return ", ".join(f"{name.replace('_', ' ')} {severities[name]:.1f}" for name in plain)


def decided(record: Record) -> str:
    """What a policy decides, for people: the outcome, and the codes of its reasons."""
    decision = record["decision"]
    codes = ", ".join(reason["code"].replace("_", " ") for reason in decision["reasons"])
    return f"{decision['outcome']}: {codes}" if codes else str(decision["outcome"])


class Parquet:
    """A Parquet file: the columns of the CSV table with their types, ``warnings`` as lists."""

    def __init__(self, file: Path) -> None:
        self._writer = parquet.writer(file, COLUMNS, compression="snappy")
        self._group: list[Record] = []

    def add(self, record: Record) -> None:
        """Add a row."""
        self._group.append(record)
        if len(self._group) == GROUP_ROWS:
            self._write_group()

    def close(self) -> None:
        """Write the last rows and the file's index."""
        if self._group:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        self._writer.write_table(parquet.table(self._group, COLUMNS))
        self._group = []


def to_stdout(format_: Format, *, decided: bool) -> Output:
    """Write to stdout.

    Args:
        format_: In which format.
        decided: Whether a policy decides about the pictures.
    """
    if format_ is Format.TABLE:
        return Table(decided=decided)
    # For programs, as in files, whatever the encoding of the terminal is.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors=ANY_TEXT)
    return Csv(sys.stdout) if format_ is Format.CSV else JsonLines(sys.stdout)


_TEXT: dict[str, Callable[[IO[str]], Output]] = {".csv": Csv, ".jsonl": JsonLines, ".ndjson": JsonLines}
_PARQUET = ".parquet"


def check(file: Path) -> None:
    """Check, before anything is scored, that a file can be written.

    Raises:
        ValueError: Its suffix names no format, or its folder does not exist.
        ModuleNotFoundError: It is a Parquet file, and pyarrow is not installed.
    """
    if file.suffix.lower() == _PARQUET:
        import pyarrow.parquet  # noqa: F401
    elif file.suffix.lower() not in _TEXT:
        raise ValueError(f"{file}: the name must end in {', '.join(_TEXT)} or {_PARQUET}")
    if not file.parent.is_dir():
        raise ValueError(f"{file.parent}: no such folder")


@contextlib.contextmanager
def to_file(file: Path) -> Iterator[Output]:
    """Write a file in the format that its suffix names; it appears once it is complete.

    Args:
        file: As for ``check``.
    """
    with replacing(file) as fresh:
        if file.suffix.lower() == _PARQUET:
            output = Parquet(fresh)
            yield output
            output.close()
            return
        with fresh.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            yield _TEXT[file.suffix.lower()](stream)
