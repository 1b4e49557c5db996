"""``smart-iqa evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, cast, get_args

import typer

from cli.options import ThreadsOption

if TYPE_CHECKING:
    from rich.table import Table

    from model.checkpoint import Checkpoint
    from training import evaluator
    from training.correlation import Agreement
    from training.datasets import Dataset, Sample


class Chosen(NamedTuple):
    """The pictures of a data set to evaluate a checkpoint on.

    Attributes:
        title: The data set's name, with a number if several have it.
        root: Its folder or CSV file.
        data: The data set.
        part: Which pictures, in words.
        samples: The pictures.
    """

    title: str
    root: Path
    data: "Dataset"
    part: str
    samples: "list[Sample]"


class Measured(NamedTuple):
    """The agreement of one checkpoint with one data set."""

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
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="fp32, as the figures of a training run are; or auto, bf16 or int8.")
    ] = "fp32",
    threads: ThreadsOption = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a line per picture and the figures; see smart-iqa figures.")
    ] = None,
) -> None:
    """Measure how well checkpoints agree with human scores, through the serving path."""
    import torch

    from cli.options import crops_option, device_option, precision_option
    from cli.scoring.scorer import load_scorer
    from model import checkpoint as checkpoints
    from model.files import all_locked
    from model.options import DEFAULT_CHECKPOINT
    from training import evaluator

    crop_count, device_name, precision_name = crops_option(crops), device_option(device), precision_option(precision)
    if split not in get_args(evaluator.WhichPart):
        raise typer.BadParameter(f"{split!r} is not one of {', '.join(get_args(evaluator.WhichPart))}")
    which = cast("evaluator.WhichPart", split)
    if dataset and len(dataset) != len(root):
        raise typer.BadParameter(f"{len(dataset)} names for {len(root)} data sets", param_hint="--dataset")
    named = _titled(dataset or [_recognise(folder) for folder in root], root)
    with all_locked(out):
        loaded_checkpoints = [checkpoints.load(folder) for folder in checkpoint or [DEFAULT_CHECKPOINT]]
        # Everything is chosen and checked before the first evaluation, which takes long.
        plan = [
            (loaded, [_choose(loaded, *data, labels, which, split_file) for data in named])
            for loaded in loaded_checkpoints
        ]
        rows: list[Measured] = []
        usual = torch.get_num_threads()
        for number, (loaded, sets) in enumerate(plan, 1):
            # The threads that are fastest for one checkpoint could change the last digits of the next one's scores.
            torch.set_num_threads(usual)
            scorer = load_scorer(loaded.folder, device=device_name, precision=precision_name, threads=threads)
            for chosen in sets:
                scored = evaluator.evaluate(scorer, chosen.samples, scale=chosen.data.scale, crops=crop_count)
                rows.append(
                    Measured(str(loaded.folder), chosen.title, chosen.part, len(chosen.samples), scored.agreement)
                )
                if out is not None:
                    several = len(plan) * len(root) > 1
                    name = f"{number}-{loaded.config.name}-on-{chosen.title.replace(' ', '-')}"
                    evaluator.write(
                        out / name if several else out,
                        scored,
                        loaded,
                        dataset=chosen.data,
                        root=chosen.root,
                        part=chosen.part,
                        crops=crop_count,
                    )
    _print(rows)


def _titled(names: list[str], roots: list[Path]) -> list[tuple[str, str, Path]]:
    """Name, title and root of each data set; those of one name get numbers."""
    return [
        (name, name if names.count(name) == 1 else f"{name} {number}", root)
        for number, (name, root) in enumerate(zip(names, roots, strict=True), 1)
    ]


def _choose(
    checkpoint: "Checkpoint",
    name: str,
    title: str,
    root: Path,
    labels: str,
    which: "evaluator.WhichPart",
    split_file: Path | None,
) -> Chosen:
    """Choose the pictures of a data set to evaluate a checkpoint on."""
    from cli.console import notes
    from training import datasets, evaluator

    own = checkpoint.contract.scale
    data = datasets.read(name, root, labels or datasets.learned_column(own, name))
    part, samples = evaluator.choose(checkpoint, data, which, split_file)
    datasets.check(samples)
    if part == "all" and datasets.base_name(data) == own.dataset.partition(datasets.COLUMN_MARK)[0]:
        notes.print(f"note: {checkpoint.folder} was trained on some of these pictures", markup=False)
    return Chosen(title, root, data, part, samples)


def _recognise(root: Path) -> str:
    from training import datasets

    name = datasets.recognise(root)
    if name is None:
        raise ValueError(f"{root} holds no data set that is known (smart-iqa datasets list); name it by --dataset")
    return name


def _print(rows: list[Measured]) -> None:
    """Print a line for each measurement, medians for several checkpoints, and a matrix if there are several of both."""
    from cli.console import results

    checkpoints = list(dict.fromkeys(row.checkpoint for row in rows))
    titles = list(dict.fromkeys(row.dataset for row in rows))
    results.print(_table(rows, titles, several=len(checkpoints) > 1))
    if len(checkpoints) > 1 and len(titles) > 1:
        results.print(_matrix(rows, checkpoints, titles))


def _table(rows: list[Measured], titles: list[str], *, several: bool) -> "Table":
    from statistics import median

    from rich import box
    from rich.table import Table

    from training.correlation import FIGURES

    table = Table(box=box.SIMPLE_HEAD)
    if several:
        table.add_column("checkpoint", overflow="fold")
    for column in ("data set", "pictures", "part", "SRCC", "KRCC", "PLCC", "PLCC log.", "RMSE", "MAE"):
        table.add_column(column, justify="left" if column in ("data set", "part") else "right", no_wrap=True)
    for row in rows:
        figures = [f"{getattr(row.agreement, figure):.4f}" for figure in FIGURES]
        checkpoint = [row.checkpoint] if several else []
        table.add_row(*checkpoint, row.dataset, f"{row.pictures}", row.part, *figures)
    if several:
        for title in titles:
            agreements = [row.agreement for row in rows if row.dataset == title]
            medians = [median(getattr(agreement, figure) for agreement in agreements) for figure in FIGURES]
            table.add_row("median", title, "", "", *(f"{value:.4f}" for value in medians))
    return table


def _matrix(rows: list[Measured], checkpoints: list[str], titles: list[str]) -> "Table":
    from rich import box
    from rich.table import Table

    matrix = Table(box=box.SIMPLE_HEAD, title="SRCC / PLCC", title_justify="left")
    matrix.add_column("checkpoint", overflow="fold")
    for title in titles:
        matrix.add_column(title, no_wrap=True)
    for checkpoint in checkpoints:
        agreements = [row.agreement for row in rows if row.checkpoint == checkpoint]
        matrix.add_row(checkpoint, *(f"{agreement.srcc:.4f} / {agreement.plcc:.4f}" for agreement in agreements))
    return matrix
