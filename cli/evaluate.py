"""``smart-iqa evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

if TYPE_CHECKING:
    from training.correlation import Agreement


def evaluate(
    root: Annotated[list[Path], typer.Option(help="A data set: its folder, or a CSV file; several make a matrix.")],
    checkpoint: Annotated[
        list[Path] | None, typer.Argument(help="Checkpoint folders; the default model if left out.")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Name of each data set, in order; told from its files if left out.")
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="train, validation, test or all; auto takes what the checkpoint was not trained on: the test part, "
            "else the validation part of its split, all of another data set without an official split."
        ),
    ] = "auto",
    split_file: Annotated[
        Path | None, typer.Option(help="Split file (JSON) instead of the checkpoint's own or the official one.")
    ] = None,
    labels: Annotated[str, typer.Option(help="Which of the data set's scores; the usual ones if left out.")] = "",
    crops: Annotated[
        int | None, typer.Option(min=1, max=64, help="Crops per picture; the model's own if left out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a line per picture and the figures; see smart-iqa figures.")
    ] = None,
) -> None:
    """Measure how well checkpoints agree with human scores, through the serving path."""
    from cli.console import notes
    from model import checkpoint as checkpoints
    from model.scorer import Scorer
    from training import datasets, evaluator

    if split not in get_args(evaluator.WhichPart):
        raise typer.BadParameter(f"{split!r} is not one of {', '.join(get_args(evaluator.WhichPart))}")
    which = cast("evaluator.WhichPart", split)
    if dataset and len(dataset) != len(root):
        raise typer.BadParameter(f"{len(dataset)} names for {len(root)} data sets", param_hint="--dataset")
    names = dataset or [_recognise(folder) for folder in root]
    folders = checkpoint or [checkpoints.DEFAULT]
    read = [datasets.read(name, folder, labels) for name, folder in zip(names, root, strict=True)]
    # All choices are made, and wrong ones told, before any of the long work.
    scorers = [Scorer.load(folder) for folder in folders]
    chosen = [[evaluator.choose(scorer.checkpoint, data, which, split_file) for data in read] for scorer in scorers]
    rows: list[tuple[str, str, str, int, Agreement]] = []
    for place, (folder, scorer) in enumerate(zip(folders, scorers, strict=True), 1):
        for name, where, data, (part, samples) in zip(names, root, read, chosen[place - 1], strict=True):
            if part == "all" and data.scale.dataset == scorer.checkpoint.contract.scale.dataset:
                notes.print(f"note: {folder} was trained on some of these pictures", markup=False)
            datasets.check(samples)
            evaluation = evaluator.evaluate(scorer, samples, scale=data.scale, crops=crops)
            rows.append((str(folder), name, part, len(samples), evaluation.agreement))
            if out is not None:
                several = len(folders) * len(root) > 1
                target = out / f"{place}-{scorer.model.name}-on-{name}" if several else out
                evaluator.write(target, evaluation, scorer.checkpoint, dataset=name, root=where, part=part, crops=crops)
    _print(rows)


def _recognise(root: Path) -> str:
    from training import datasets

    name = datasets.recognise(root)
    if name is None:
        raise ValueError(f"{root} holds no data set that is known (smart-iqa datasets list); name it by --dataset")
    return name


def _print(rows: "list[tuple[str, str, str, int, Agreement]]") -> None:
    """A line for each measurement; several checkpoints get medians, several data sets a matrix."""
    from statistics import median

    from rich import box
    from rich.table import Table

    from cli.console import results
    from training.correlation import FIGURES

    checkpoints = list(dict.fromkeys(row[0] for row in rows))
    names = list(dict.fromkeys(row[1] for row in rows))
    table = Table(box=box.SIMPLE_HEAD)
    if len(checkpoints) > 1:
        table.add_column("checkpoint", overflow="fold")
    for column in ("data set", "pictures", "part", "SRCC", "KRCC", "PLCC", "PLCC log.", "RMSE", "MAE"):
        table.add_column(column, justify="left" if column in ("data set", "part") else "right")
    for folder, name, part, count, agreement in rows:
        figures = [f"{getattr(agreement, figure):.4f}" for figure in FIGURES]
        table.add_row(*([folder] if len(checkpoints) > 1 else []), name, f"{count}", part, *figures)
    if len(checkpoints) > 1:
        for name in names:
            measured = [row[4] for row in rows if row[1] == name]
            figures = [f"{median(getattr(one, figure) for one in measured):.4f}" for figure in FIGURES]
            table.add_row("median", name, "", "", *figures)
    results.print(table)
    if len(checkpoints) > 1 and len(names) > 1:
        matrix = Table(box=box.SIMPLE_HEAD, title="SRCC / PLCC", title_justify="left")
        for column in ("checkpoint", *names):
            matrix.add_column(column)
        for folder in checkpoints:
            cells = [row[4] for row in rows if row[0] == folder]
            matrix.add_row(folder, *(f"{cell.srcc:.4f} / {cell.plcc:.4f}" for cell in cells))
        results.print(matrix)
