"""``smart-iqa train``."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cli.options import decoders_option, shipped_recipes


def train(
    recipe: Annotated[
        Path,
        typer.Argument(help="Recipe file (TOML), or the name of a shipped one.", autocompletion=shipped_recipes),
    ],
    root: Annotated[Path, typer.Option(help="The data set: its folder, or a CSV file.")],
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run in it goes on where it stopped.")],
    init: Annotated[
        Path | None,
        typer.Option(
            help="First weights: a backbone (safetensors, timm's names), a checkpoint folder to fine-tune, or "
            "`random`; timm's hub is asked if left out."
        ),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Checkpoint folder to learn from, for recipes with a distil_weight.")
    ] = None,
    split: Annotated[Path | None, typer.Option(help="Split file to take instead of the recipe's split.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe.")
    ] = None,
    decoders: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that decode, for each that trains; by default a core less than there are, 8 at most. With "
            "--ray none by default, or on GPUs as many as each leaves cores.",
        ),
    ] = None,
    folds: Annotated[
        Path | None,
        typer.Option(help="Folder of a sweep over folds of this recipe; the checkpoint then carries its figures."),
    ] = None,
    save_every: Annotated[float, typer.Option(min=0, help="Seconds between saves within an epoch.")] = 300,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            help="Train on the Ray cluster of RAY_ADDRESS, or one started on this machine. All its nodes must see the "
            "data and the run folder.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that train together, each on a GPU or a core of its own; needs --ray."),
    ] = None,
) -> None:
    """Train a network into a checkpoint that the service loads as it is."""
    if workers is not None and not ray:
        raise typer.BadParameter("needs --ray; processes that decode are --decoders", param_hint="--workers")
    from cli.console import notes, results
    from model.networks import registry
    from training import cross_validation, datasets, trainer
    from training import recipe as recipes

    start: Callable[..., Path] = partial(trainer.train, decoders=decoders_option(decoders))
    if ray:
        from training import cluster

        start = partial(cluster.train, decoders=decoders, workers=workers or 1)
    chosen = recipes.load(recipe, change or ())
    if folds is not None:
        network = registry.described(chosen.network, **chosen.network_changes())
        cross_validation.check(folds, network, datasets.read(chosen.dataset, root, chosen.labels), chosen)
    folder = start(
        chosen,
        root,
        out,
        init=init,
        teacher=teacher,
        split=split,
        save_seconds=save_every,
        cross_validation=[] if folds is None else cross_validation.by_sources(folds, chosen.left_out),
    )
    notes.print("finished; the checkpoint folder is:")
    results.print(str(folder), markup=False, soft_wrap=True)
