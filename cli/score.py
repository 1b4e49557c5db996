"""``smart-iqa score``."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from model.scorer import QualityScore

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
"""Files taken from a folder; files named one by one are taken whatever they are called."""
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

Result = tuple[Path, "QualityScore | Exception"]


class Format(StrEnum):
    """Forms of the result."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


def score(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, or folders to search for pictures.")],
    format_: Annotated[Format, typer.Option("--format", "-f", help="Form of the result.")] = Format.TABLE,
    crops: Annotated[
        str | None,
        typer.Option(
            help="Crops per picture, 1 to 64; the model's own count if left out; auto for as many of those as it needs."
        ),
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder; the default model if left out.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or int8.")] = "auto",
) -> None:
    """Score pictures and folders of pictures, from 0 (worst) to 100 (best).

    Ends with status 1 if a picture could not be scored; the others are scored all the same.
    """
    from rich.progress import track

    from cli.console import SOME_FAILED, fail, notes
    from cli.options import crops_option, device_option, precision_option
    from model import checkpoint as checkpoints
    from model.scorer import QualityScore, Scorer

    asked = crops_option(crops)
    files = list(find(paths))
    if not files:
        fail("there are no pictures in " + ", ".join(map(str, paths)))
    scorer = Scorer.load(
        checkpoint or checkpoints.DEFAULT, device=device_option(device), precision=precision_option(precision)
    )
    failed = 0

    def scored() -> Iterator[Result]:
        nonlocal failed
        results = scorer.score_many(files, asked)
        for path, result in track(results, "scoring", total=len(files), console=notes, transient=True):
            if not isinstance(result, QualityScore):
                failed += 1
                notes.print(f"{path}: {explain(result)}", markup=False, soft_wrap=True)
            yield path, result

    {Format.TABLE: write_table, Format.JSONL: write_jsonl, Format.CSV: write_csv}[format_](scored())
    if failed:
        notes.print(f"{failed} of {len(files)} pictures could not be scored")
        raise typer.Exit(SOME_FAILED)


def find(paths: Iterable[Path]) -> Iterator[Path]:
    """Expand folders to the pictures in them, at any depth, in the order of their names."""
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        else:
            yield path


def explain(error: Exception) -> str:
    """Say what went wrong with a file, without repeating its path."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)


def write_jsonl(results: Iterator[Result]) -> None:
    """Write one JSON object per line: the path, and what the service would answer or an error."""
    for path, result in results:
        body = {"error": explain(result)} if isinstance(result, Exception) else result.to_dict()
        sys.stdout.write(json.dumps({"path": str(path), **body}) + "\n")


def write_csv(results: Iterator[Result]) -> None:
    """Write a CSV table."""
    writer = csv.DictWriter(sys.stdout, COLUMNS)
    writer.writeheader()
    for path, result in results:
        writer.writerow(_row(path, result))


def write_table(results: Iterator[Result]) -> None:
    """Write a table for people; pictures that failed are told apart on stderr."""
    from rich import box
    from rich.table import Table

    from cli.console import results as stdout

    table = Table(box=box.SIMPLE_HEAD)
    for column, justify in (
        ("score", "right"),
        ("±", "right"),
        ("grade", "left"),
        ("size", "right"),
        ("picture", "left"),
        ("warnings", "left"),
    ):
        table.add_column(column, justify="right" if justify == "right" else "left", overflow="fold")
    for path, result in results:
        if not isinstance(result, Exception):
            spread = "" if result.stderr is None else f"{result.stderr:.1f}"
            size = f"{result.width}x{result.height}"
            table.add_row(
                f"{result.score:.2f}", spread, result.grade or "", size, str(path), ", ".join(result.warnings)
            )
    if table.row_count:
        stdout.print(table)


def _row(path: Path, result: "QualityScore | Exception") -> dict[str, object]:
    if isinstance(result, Exception):
        return {"path": path, "error": explain(result)}
    facts = {name: getattr(result, name) for name in COLUMNS[1:-2] if name != "crops"}
    return {"path": path, **facts, "crops": len(result.crops), "warnings": " ".join(result.warnings)}
