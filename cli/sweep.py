"""``smart-iqa sweep``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cli.options import decoders_option, shipped_sweeps


def sweep(
    file: Annotated[
        Path, typer.Argument(help="Sweep file (TOML), or the name of a shipped one.", autocompletion=shipped_sweeps)
    ],
    root: Annotated[Path, typer.Option(help="The data set: its folder, or a CSV file.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs; finished ones in it are not trained again.")],
    init: Annotated[Path | None, typer.Option(help="First weights of all runs, as for train.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the base recipe.")
    ] = None,
    decoders: Annotated[int | None, typer.Option(min=0, help="As for smart-iqa train.")] = None,
) -> None:
    """Train variations of a recipe one after another, and compare them; several splits are told by their median."""
    from rich import box
    from rich.table import Table

    from cli.console import results
    from training import cross_validation, sweep_results
    from training import sweep as sweeps

    variations = sweeps.load(file, change or ())
    sweeps.run(variations, root, out, init=init, decoders=decoders_option(decoders))
    rows = sweep_results.read(out)
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("run", "part", "parameters", "GMACs", "SRCC", "PLCC", "RMSE"):
        table.add_column(column, justify="left" if column in ("run", "part") else "right")
    for row in rows:
        part, figures = sweep_results.judged(row)
        table.add_row(row["name"], part, f"{row['parameters']:,}", f"{row['gmacs']:.2f}", *_shown(figures))
    table.add_row("median", "", "", "", *_shown(sweep_results.median(rows)))
    if all(variation.recipe.split == "folds" for variation in variations) and len(rows) > 1:
        together = cross_validation.read(out)
        table.add_row("mean of the folds", "", "", "", *_shown(together.mean))
        table.add_row("standard deviation", "", "", "", *_shown(together.spread))
    results.print(table)


def _shown(figures: Mapping[str, float]) -> list[str]:
    return [f"{figures[name]:.4f}" for name in ("srcc", "plcc", "rmse")]
