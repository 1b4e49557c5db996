"""``smart-iqa datasets``."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Data sets with human scores: what can be read, and what a folder holds.", no_args_is_help=True)

LISTED_FAULTS = 10
"""Missing and broken pictures that are listed; the others are only counted."""


@app.command("list")
def list_() -> None:
    """List the data sets that can be read, and what their folders hold."""
    from rich import box
    from rich.table import Table

    from cli.console import results
    from training.datasets import READERS

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("name", "pictures", "labels", "what", "folder"):
        table.add_column(column, justify="right" if column == "pictures" else "left", overflow="fold")
    for reader in READERS.values():
        pictures = f"{reader.pictures:,}" if reader.pictures else ""
        table.add_row(reader.name, pictures, ", ".join(reader.columns), reader.title, reader.layout)
    results.print(table)


@app.command("check")
def check(
    root: Annotated[Path, typer.Argument(help="A data set's folder, or a CSV file.")],
    dataset: Annotated[str | None, typer.Option(help="Its name; told from its score file if left out.")] = None,
    labels: Annotated[str, typer.Option(help="Which of its scores to look at; the usual ones if left out.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Do not decode the pictures.")] = False,
) -> None:
    """Tell what a folder is, how many pictures it has, their labels, and what is missing or broken."""
    from rich import box
    from rich.table import Table

    from cli.console import SOME_FAILED, notes, results
    from training import datasets

    name = dataset or datasets.recognise(root)
    if name is None:
        known = "; ".join(f"{reader.name}: {reader.layout}" for reader in datasets.READERS.values())
        raise ValueError(f"{root} holds no data set that is known. What is known: {known}")
    data = datasets.read(name, root, labels)
    reader = datasets.READERS[name]
    missing = datasets.missing(data.samples)
    missing_paths = set(missing)
    present = [sample for sample in data.samples if sample.path not in missing_paths]
    broken = [] if quick else datasets.unreadable(present)
    values = [sample.mos for sample in data.samples]
    groups = len({sample.group for sample in data.samples})
    parts = Counter(sample.part for sample in data.samples if sample.part)

    whole = f" of {reader.pictures:,}" if reader.pictures else ""
    rows = {
        "data set": f"{name}: {reader.title}",
        "listed pictures": f"{len(values):,}{whole}",
        "missing": f"{len(missing):,}",
        "unreadable": "not looked at" if quick else f"{len(broken):,}",
        "labels": f"{labels or reader.columns[0]}, {min(values):g} to {max(values):g}, higher is better",
        "scale": f"{data.scale.min:g} to {data.scale.max:g}",
        "note": data.note or "labels as they are",
        "groups": f"{groups:,}" + ("" if groups == len(values) else ", kept together in splits"),
        "official split": ", ".join(f"{part} {count:,}" for part, count in parts.items()) or "none",
    }
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    for title, text in rows.items():
        table.add_row(title, text)
    results.print(table)
    faults = [(path, "no such picture") for path in missing] + broken
    for path, reason in faults[:LISTED_FAULTS]:
        notes.print(f"{path}: {reason}", markup=False, soft_wrap=True)
    if len(faults) > LISTED_FAULTS:
        notes.print(f"... and {len(faults) - LISTED_FAULTS:,} others", markup=False)
    if faults:
        raise typer.Exit(SOME_FAILED)
