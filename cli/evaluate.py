"""``smart-iqa evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, cast, get_args

import typer

if TYPE_CHECKING:
    from training.correlation import Agreement


class Measured(NamedTuple):
    """One checkpoint on one data set."""

    checkpoint: str
    dataset: str
    part: str
    pictures: int
    agreement: "Agreement"


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
            "else the validation part of its split, else what that does not name; all of another data set without an "
            "official split."
        ),
    ] = "auto",
    split_file: Annotated[
        Path | None, typer.Option(help="Split file (JSON) instead of the checkpoint's own or the official one.")
    ] = None,
    labels: Annotated[str, typer.Option(help="Which of the data set's scores; the usual ones if left out.")] = "",
    crops: Annotated[
        str | None,
        typer.Option(
            help="Crops per picture, 1 to 64; the model's own count if left out; auto for as many of those as it needs."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a line per picture and the figures; see smart-iqa figures.")
    ] = None,
) -> None:
    """Measure how well checkpoints agree with human scores, through the serving path."""
    from cli.console import notes
    from cli.options import crops_option
    from model.options import DEFAULT_CHECKPOINT
    from model.scorer import Scorer
    from training import datasets, evaluator

    asked = crops_option(crops)
    if split not in get_args(evaluator.WhichPart):
        raise typer.BadParameter(f"{split!r} is not one of {', '.join(get_args(evaluator.WhichPart))}")
    which = cast("evaluator.WhichPart", split)
    if dataset and len(dataset) != len(root):
        raise typer.BadParameter(f"{len(dataset)} names for {len(root)} data sets", param_hint="--dataset")
    names = dataset or [_recognise(folder) for folder in root]
    titles = [name if names.count(name) == 1 else f"{name} {place}" for place, name in enumerate(names, 1)]
    scorers = [Scorer.load(folder) for folder in checkpoint or [DEFAULT_CHECKPOINT]]
    # All choices are made, and wrong ones told, before any of the long work.
    jobs = []
    for scorer in scorers:
        own = scorer.checkpoint.contract.scale
        for name, title, where in zip(names, titles, root, strict=True):
            data = datasets.read(name, where, labels or datasets.learned_column(own, name))
            part, samples = evaluator.choose(scorer.checkpoint, data, which, split_file)
            datasets.check(samples)
            if part == "all" and datasets.base_name(data) == own.dataset.partition(datasets.COLUMN_MARK)[0]:
                notes.print(f"note: {scorer.checkpoint.folder} was trained on some of these pictures", markup=False)
            jobs.append((scorer, title, where, data, part, samples))
    rows: list[Measured] = []
    for place, (scorer, title, where, data, part, samples) in enumerate(jobs):
        evaluation = evaluator.evaluate(scorer, samples, scale=data.scale, crops=asked)
        rows.append(Measured(str(scorer.checkpoint.folder), title, part, len(samples), evaluation.agreement))
        if out is not None:
            number = place // len(root) + 1
            target = out / f"{number}-{scorer.model.name}-on-{title.replace(' ', '-')}" if len(jobs) > 1 else out
            evaluator.write(target, evaluation, scorer.checkpoint, dataset=data, root=where, part=part, crops=asked)
    _print(rows)


def _recognise(root: Path) -> str:
    from training import datasets

    name = datasets.recognise(root)
    if name is None:
        raise ValueError(f"{root} holds no data set that is known (smart-iqa datasets list); name it by --dataset")
    return name


def _print(rows: list[Measured]) -> None:
    """A line for each measurement; several checkpoints get medians, several data sets a matrix."""
    from statistics import median

    from rich import box
    from rich.table import Table

    from cli.console import results
    from training.correlation import FIGURES

    folders = list(dict.fromkeys(row.checkpoint for row in rows))
    titles = list(dict.fromkeys(row.dataset for row in rows))
    table = Table(box=box.SIMPLE_HEAD)
    if len(folders) > 1:
        table.add_column("checkpoint", overflow="fold")
    for column in ("data set", "pictures", "part", "SRCC", "KRCC", "PLCC", "PLCC log.", "RMSE", "MAE"):
        table.add_column(column, justify="left" if column in ("data set", "part") else "right", no_wrap=True)
    for row in rows:
        figures = [f"{getattr(row.agreement, figure):.4f}" for figure in FIGURES]
        first = [row.checkpoint] if len(folders) > 1 else []
        table.add_row(*first, row.dataset, f"{row.pictures}", row.part, *figures)
    if len(folders) > 1:
        for title in titles:
            measured = [row.agreement for row in rows if row.dataset == title]
            figures = [f"{median(getattr(one, figure) for one in measured):.4f}" for figure in FIGURES]
            table.add_row("median", title, "", "", *figures)
    results.print(table)
    if len(folders) > 1 and len(titles) > 1:
        matrix = Table(box=box.SIMPLE_HEAD, title="SRCC / PLCC", title_justify="left")
        matrix.add_column("checkpoint", overflow="fold")
        for title in titles:
            matrix.add_column(title, no_wrap=True)
        for folder in folders:
            cells = [row.agreement for row in rows if row.checkpoint == folder]
            matrix.add_row(folder, *(f"{cell.srcc:.4f} / {cell.plcc:.4f}" for cell in cells))
        results.print(matrix)
