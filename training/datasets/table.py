"""Any CSV file with the columns ``path`` (relative to the file) and ``mos``, and if you like ``group`` and ``split``.

Higher is better. Pictures of a ``group`` stay together in every split; ``split`` says train, validation or test.
"""

from pathlib import Path
from typing import cast, get_args

from model.scale import Scale
from training.datasets.base import Dataset, DatasetError, Part, Reader, Sample
from training.datasets.files import Folder
from training.datasets.scorefile import Row, table


def read(root: Path, column: str) -> Dataset:
    """Read a CSV file; the scale runs from its lowest to its highest label."""
    if root.is_dir():
        raise DatasetError(f"{root} is a folder; for csv, name the CSV file")
    rows = table(root, ("path", column), optional=("group", "split"))
    files = Folder(root.parent)
    samples = tuple(
        Sample(
            path=files.find(row["path"]),
            name=row["path"],
            mos=row.number(column),
            group=row.cells.get("group") or row["path"],
            part=_part(row),
        )
        for row in rows
    )
    labels = {sample.mos for sample in samples}
    if len(labels) < 2:
        raise DatasetError(f"{root}: {len(samples)} pictures with one label cannot be learned from")
    return Dataset(scale=Scale(dataset=root.stem, min=min(labels), max=max(labels)), samples=samples)


def _part(row: Row) -> Part:
    text = row.cells.get("split", "")
    if text not in get_args(Part):
        raise DatasetError(f"{row.file}, line {row.line}: split is {text!r}, not train, validation or test")
    return cast(Part, text)


READER = Reader(
    name="csv",
    title="your own pictures",
    pictures=0,
    layout="a CSV file with the columns path,mos[,group,split]; paths are relative to it",
    columns=("mos",),
    scale=None,
    recognises=lambda root: root.suffix.lower() == ".csv" and root.is_file(),
    read=read,
)
