"""Readers of score files: tables of text, spreadsheets and MATLAB arrays; errors name the file, column and line.

pandas and SciPy are imported where a file is read: the list of data sets is needed without them too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.files import encoding
from training.datasets.base import DatasetError


@dataclass(frozen=True)
class Row:
    """One line of a score file."""

    file: Path
    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        """The text of a cell, without blanks around it."""
        return self.cells[column]

    def number(self, column: str) -> float:
        """The number in a cell.

        Raises:
            DatasetError: It is not a finite number.
        """
        text = self.cells[column]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DatasetError(f"{self.file}, line {self.line}: {column} is {text!r}, not a number")
        return value


def table(file: Path, columns: Sequence[str], *, optional: Sequence[str] = ()) -> list[Row]:
    """Read a CSV file or the first sheet of an Excel file.

    Args:
        file: The file.
        columns: Columns that must be there.
        optional: Columns that are read if they are there.

    Raises:
        DatasetError: The file is missing or unreadable, or lacks a column.
    """
    frame = _frame(file)
    frame.columns = [str(column).strip() for column in frame.columns]
    for column in columns:
        if column not in frame.columns:
            raise DatasetError(f"{file}: no column {column!r}; there are {', '.join(frame.columns)}")
    kept = [*columns, *(column for column in optional if column in frame.columns)]
    cells = [[str(value).strip() for value in frame[column]] for column in kept]
    return [
        Row(file, line, dict(zip(kept, values, strict=True))) for line, values in enumerate(zip(*cells, strict=True), 2)
    ]


def words(file: Path, names: Sequence[str]) -> list[Row]:
    """Read a text file of lines with a fixed number of words.

    Raises:
        DatasetError: The file is missing, or a line has another number of words.
    """
    rows = []
    for line, text in enumerate(_text(file).splitlines(), 1):
        if text.strip():
            values = text.split()
            if len(values) != len(names):
                raise DatasetError(f"{file}, line {line}: {text!r} is not: {' '.join(names)}")
            rows.append(Row(file, line, dict(zip(names, values, strict=True))))
    return rows


def matlab(file: Path, name: str) -> list[Any]:
    """Read an array from a MATLAB file as a flat list of numbers or texts.

    Raises:
        DatasetError: The file is missing, not of MATLAB, or lacks the array.
    """
    import scipy.io

    if not file.is_file():
        raise DatasetError(f"{file}: no such file")
    try:
        arrays = scipy.io.loadmat(file, chars_as_strings=True)
    except (ValueError, TypeError, NotImplementedError, scipy.io.matlab.MatReadError) as error:
        raise DatasetError(f"{file}: not a MATLAB file: {error}") from error
    if name not in arrays:
        raise DatasetError(f"{file}: no array {name!r}")
    # Cells of texts come as arrays in an array of objects.
    return [value.item() if hasattr(value, "item") else value for value in arrays[name].ravel()]


def _frame(file: Path) -> Any:
    import pandas as pd

    if not file.is_file():
        raise DatasetError(f"{file}: no such file")
    try:
        if file.suffix.lower() == ".xlsx":
            return pd.read_excel(file, dtype=str, keep_default_na=False)
        return pd.read_csv(file, dtype=str, keep_default_na=False, encoding=_encoding(file), skipinitialspace=True)
    except (ValueError, OSError, KeyError) as error:
        raise DatasetError(f"{file}: cannot be read as a table: {str(error).splitlines()[0]}") from error


def _encoding(file: Path) -> str:
    with file.open("rb") as stream:
        return encoding(stream.read(3))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding=_encoding(file))
    except OSError as error:
        raise DatasetError(f"{file}: no such file") from error
    except UnicodeError as error:
        raise DatasetError(f"{file}: not a text file") from error
