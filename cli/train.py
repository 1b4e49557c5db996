"""``smart-iqa train``."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (TOML); training/recipes holds some.")],
    root: Annotated[Path, typer.Option(help="The data set: its folder, or a CSV file with the columns path and mos.")],
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run in it goes on where it stopped.")],
    init: Annotated[
        Path | None,
        typer.Option(
            help="Backbone weights to start from (safetensors, timm's names); timm's hub is asked if left out."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode pictures.")] = 1,
) -> None:
    """Train a network into a checkpoint that the service loads as it is."""
    from cli.console import notes, results
    from training import recipe as recipes
    from training import trainer

    folder = trainer.train(recipes.load(recipe), root, out, init=init, workers=workers)
    notes.print("finished; the checkpoint folder is:")
    results.print(str(folder), markup=False, soft_wrap=True)
