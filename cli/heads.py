"""``smart-iqa heads``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import decoders_option

if TYPE_CHECKING:
    from training.intervals import Coverage
    from training.preferences import Bin


def heads(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder of whole views, from smart-iqa train.")],
    out: Annotated[Path, typer.Argument(help="Folder of the new checkpoint; its scores are those of the old one.")],
    root: Annotated[Path, typer.Option(help="The data set that the checkpoint was trained on.")],
    folds: Annotated[
        Path | None,
        typer.Option(help="Folder of a sweep over folds of its recipe; without one the checkpoint gives no interval."),
    ] = None,
    defects_only: Annotated[
        bool, typer.Option("--defects-only", help="Learn the defects anew, and keep all other heads that it has.")
    ] = False,
    held_back: Annotated[
        Path | None,
        typer.Option(help="split.json of a run; photos that it tests teach no defects. Else those of the first fold."),
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
    from cli.console import results
    from model.files import locked
    from training import heads as training

    if defects_only and folds is not None:
        raise typer.BadParameter("--folds is for the interval, which --defects-only keeps")
    settings = training.Settings(
        folds=folds,
        held_back=held_back,
        left_out=tuple(left_out or ()),
        examples=examples,
        seed=seed,
        decoders=decoders_option(decoders),
    )
    with locked(out):
        if defects_only:
            training.train_defects(checkpoint, root, out, settings)
        else:
            _print(*training.train(checkpoint, root, out, settings))
    results.print(str(out), markup=False, soft_wrap=True)


def _print(coverage: "list[Coverage]", reliability: "list[Bin]") -> None:
    """Tables of how well the intervals hold, and what is stated of pairs."""
    from rich import box
    from rich.table import Table

    from cli.console import results

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
