"""``smart-iqa evaluate``."""

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    root: Annotated[Path, typer.Option(help="The data set: its folder, or a CSV file with the columns path and mos.")],
    checkpoint: Annotated[Path | None, typer.Argument(help="Checkpoint folder; the default model if left out.")] = None,
    dataset: Annotated[str, typer.Option(help="Name of the data set: biq2021 or csv.")] = "biq2021",
    split: Annotated[
        Path | None, typer.Option(help="Split file (JSON); only its validation pictures are scored. All if left out.")
    ] = None,
    crops: Annotated[
        int | None, typer.Option(min=1, max=64, help="Crops per picture; the model's own if left out.")
    ] = None,
) -> None:
    """Measure how well a checkpoint agrees with human scores, through the serving path."""
    from rich import box
    from rich.table import Table

    from cli.console import results
    from model import checkpoint as checkpoints
    from model.scorer import Scorer
    from training import datasets, evaluator, splits

    data = datasets.read(dataset, root)
    samples = list(data.samples) if split is None else splits.select(data, splits.load(split).validation)
    agreement = evaluator.evaluate(Scorer.load(checkpoint or checkpoints.DEFAULT), samples, crops=crops).agreement
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("pictures", "SRCC", "PLCC", "RMSE", "MAE"):
        table.add_column(name, justify="right")
    figures = (agreement.srcc, agreement.plcc, agreement.rmse, agreement.mae)
    table.add_row(str(len(samples)), *(f"{figure:.4f}" for figure in figures))
    results.print(table)
