"""``smart-iqa figures``."""

from pathlib import Path
from typing import Annotated

import typer


def figures(
    folder: Annotated[list[Path], typer.Argument(help="Run, evaluation (smart-iqa evaluate --out) or sweep folders.")],
) -> None:
    """Draw what a run, an evaluation or a sweep found, as PNG and SVG and as one HTML page."""
    from cli.console import results
    from training.figures import report

    for run_folder in folder:
        results.print(str(report.make(run_folder)), markup=False, soft_wrap=True)
