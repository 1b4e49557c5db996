"""``smart-iqa heads``."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import decoders_option


def heads(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder of whole views, from smart-iqa train.")],
    out: Annotated[Path, typer.Argument(help="Folder of the new checkpoint; its scores are those of the old one.")],
    root: Annotated[Path, typer.Option(help="The data set that the checkpoint was trained on.")],
    folds: Annotated[
        Path | None,
        typer.Option(help="Folder of a sweep over folds of its recipe; without one the checkpoint gives no interval."),
    ] = None,
    left_out: Annotated[
        list[str] | None,
        typer.Option(help="Source of the data set whose labels do not tell which photos are good; may be repeated."),
    ] = None,
    examples: Annotated[int, typer.Option(min=100, help="Photos with defects, and without, to learn from.")] = 28000,
    seed: Annotated[int, typer.Option(help="Seed of the examples and of the fits.")] = 20,
    decoders: Annotated[int | None, typer.Option(min=0, help="As for smart-iqa train.")] = None,
) -> None:
    """Add defects and an interval to what a trained checkpoint answers."""
    from rich import box
    from rich.table import Table

    from cli.console import results
    from training import heads as training

    settings = training.Settings(
        folds=folds, left_out=tuple(left_out or ()), examples=examples, seed=seed, decoders=decoders_option(decoders)
    )
    coverage, reliability = training.train(checkpoint, root, out, settings)
    if coverage:
        table = Table("photos", "", "within", "below", "above", "width", box=box.SIMPLE_HEAD)
        for row in coverage:
            shares = (f"{share:.1%}" for share in (row.within, row.below, row.above))
            table.add_row(row.photos, f"{row.count}", *shares, f"{row.width:.1f}")
        results.print(table)
    if reliability:
        table = Table("stated of a pair", "pairs", "mean", "held", box=box.SIMPLE_HEAD)
        for bin_ in reliability:
            stated = f"{bin_.low:.0%} to {bin_.high:.0%}"
            table.add_row(stated, f"{bin_.pairs:,}", f"{bin_.stated:.1%}", f"{bin_.held:.1%}")
        results.print(table)
    results.print(str(out), markup=False, soft_wrap=True)
