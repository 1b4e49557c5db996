"""Readers of picture quality data sets, one file each."""

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import track

from model import images
from model.scale import Scale
from training.datasets import (
    agiqa3k,
    biq2021,
    clive,
    csiq,
    flive,
    kadid10k,
    koniq10k,
    live,
    spaq,
    table,
    tid2013,
)
from training.datasets.base import Dataset, DatasetError, Part, Reader, Sample

__all__ = ["READERS", "Dataset", "DatasetError", "Part", "Reader", "Sample"]

COLUMN_MARK = "/"
"""Separates a data set's name from the name of a column that is not its usual one."""

_MODULES = (koniq10k, spaq, clive, flive, biq2021, kadid10k, live, csiq, tid2013, agiqa3k, table)
READERS: Mapping[str, Reader] = {module.READER.name: module.READER for module in _MODULES}


def read(name: str, root: Path | str, column: str = "") -> Dataset:
    """Read a data set's score file, without looking for its pictures.

    Args:
        name: One of ``READERS``.
        root: Its folder; for ``csv``, the CSV file.
        column: Its column of scores; "" takes the usual one.

    Raises:
        DatasetError: The name or column is unknown, or the files are not as they should be.
    """
    if name not in READERS:
        raise DatasetError(f"no data set is called {name!r}; there are {', '.join(READERS)}")
    reader = READERS[name]
    if column and column not in reader.columns:
        raise DatasetError(f"{name} has no labels {column!r}; there are {', '.join(reader.columns)}")
    if not Path(root).exists():
        raise DatasetError(f"{root}: no such file or folder")
    column = column or reader.columns[0]
    dataset = reader.read(Path(root), column)
    if column != reader.columns[0]:
        # Another column is another scale, and a checkpoint's scale says which one it learned.
        scale = dataclasses.replace(dataset.scale, dataset=f"{dataset.scale.dataset}{COLUMN_MARK}{column}")
        dataset = dataclasses.replace(dataset, scale=scale)
    return dataset


def base_name(dataset: Dataset) -> str:
    """The name of a data set's reader, whichever column was read."""
    return dataset.scale.dataset.partition(COLUMN_MARK)[0]


def learned_column(scale: Scale, name: str) -> str:
    """The column of a data set that a checkpoint learned; "" for the usual one, and for another data set."""
    learned, _, column = scale.dataset.partition(COLUMN_MARK)
    return column if learned == name else ""


def recognise(root: Path) -> str | None:
    """The name of the data set that a folder (or CSV file) holds, by its score file; None if it is not known."""
    return next((name for name, reader in READERS.items() if reader.recognises(root)), None)


def without(dataset: Dataset, samples: Sequence[Sample], left_out: Sequence[str]) -> list[Sample]:
    """Some samples of a data set, without those from sources that are left out.

    Raises:
        DatasetError: The data set has no such source, or all of the samples are from them.
    """
    sources = sorted({sample.source for sample in dataset.samples})
    if unknown := {*left_out} - {*sources}:
        names = ", ".join(sources) if any(sources) else "no sources"
        raise DatasetError(f"left out: no picture is from {min(unknown)!r}; there are {names}")
    kept = [sample for sample in samples if sample.source not in left_out]
    if not kept:
        raise DatasetError(f"left out: no picture is from another source than {', '.join(left_out)}")
    return kept


def missing(samples: Sequence[Sample]) -> list[Path]:
    """List the pictures whose files do not exist."""
    return [sample.path for sample in samples if not sample.path.is_file()]


def unreadable(samples: Sequence[Sample], *, threads: int = 4) -> list[tuple[Path, str]]:
    """Decode every picture, and list those that cannot be decoded, with the reason."""

    def fault(sample: Sample) -> str | None:
        try:
            images.decode(sample.path.read_bytes())
        except (images.ImageError, OSError) as error:
            return str(error)
        return None

    with ThreadPoolExecutor(threads) as pool:
        faults = track(pool.map(fault, samples), "checking pictures", total=len(samples), console=Console(stderr=True))
        return [(sample.path, reason) for sample, reason in zip(samples, faults, strict=True) if reason is not None]


def check(samples: Sequence[Sample], *, decode: bool = True) -> None:
    """Check that every picture exists and can be decoded.

    Args:
        samples: The pictures.
        decode: Also decode each.

    Raises:
        DatasetError: One does not, or cannot; the message names it and counts the others.
    """
    if absent := missing(samples):
        raise DatasetError(f"{absent[0]}: no such picture{_others(len(absent))}")
    if decode and (broken := unreadable(samples)):
        path, reason = broken[0]
        raise DatasetError(f"{path}: {reason}{_others(len(broken))}")


def _others(count: int) -> str:
    return f" (and {count - 1} others)" if count > 1 else ""
