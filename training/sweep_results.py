"""Results of a sweep: one row per finished run, in ``sweep.json`` in the sweep's folder."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.files import replacing

SWEEP = "sweep.json"


def write(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the results of the runs that are finished so far.

    Args:
        folder: The sweep's folder.
        rows: For each run its ``name``, ``folder``, ``network``, ``parameters``, ``gmacs`` and ``figures``.
    """
    with replacing(folder / SWEEP) as fresh:
        fresh.write_text(json.dumps({"runs": rows}, indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> list[dict[str, Any]]:
    """Read a sweep's results, a row per run as ``write`` takes them.

    Raises:
        ValueError: The folder holds none.
    """
    try:
        rows: list[dict[str, Any]] = json.loads((folder / SWEEP).read_text(encoding="utf-8"))["runs"]
    except OSError as error:
        raise ValueError(f"{folder / SWEEP}: {error.strerror}") from error
    return rows


def judged(row: Mapping[str, Any]) -> tuple[str, Mapping[str, float]]:
    """The part and the figures that a run is compared by: its test pictures, or without any its validation pictures.

    Raises:
        ValueError: The run was measured on neither.
    """
    figures: Mapping[str, Mapping[str, float]] = row["figures"]
    for part in ("test", "validation"):
        for name, values in figures.items():
            if name.endswith(part):
                return part, values
    raise ValueError(f"run {row['name']!r} was not measured on any picture")


def median(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Median of each figure over the runs of a sweep, as papers report several splits."""
    figures = [judged(row)[1] for row in rows]
    return {name: statistics.median(values[name] for values in figures) for name in figures[0]}
