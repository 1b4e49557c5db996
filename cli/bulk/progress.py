"""The progress of a job: a bar on a terminal, else a line per minute."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.console import notes
from cli.scoring.progress import Pace

LINE_SECONDS = 60.0
"""Seconds between two lines of a log."""


class Tally:
    """Counts of a job so far, those of earlier runs included.

    Attributes:
        pictures: Pictures that have rows.
        errors: Rows without a score.
    """

    def __init__(self, pictures: int, errors: int, show: Callable[["Tally"], None]) -> None:
        self.pictures = pictures
        self.errors = errors
        self._show = show

    def __call__(self, pictures: int, errors: int) -> None:
        """Add new rows, and errors among them."""
        self.pictures += pictures
        self.errors += errors
        self._show(self)


@contextlib.contextmanager
def tally(
    pictures: int, errors: int, total: int | None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Tally]:
    """Count rows, and show the counts on stderr.

    Args:
        pictures: Rows of earlier runs.
        errors: Rows of earlier runs without a score.
        total: Pictures of the whole job; None if that is unknown.
        clock: Gives seconds, for the lines of a log.
    """
    bar = Progress(
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[errors]} errors"),
        TimeElapsedColumn(),
        Pace(pictures),
        console=notes,
        transient=True,
        disable=not notes.is_terminal,
        redirect_stdout=False,
    )
    last_line = clock()

    def show(counted: Tally) -> None:
        nonlocal last_line
        bar.update(task, completed=counted.pictures, errors=f"{counted.errors:,}")
        if bar.disable and clock() - last_line >= LINE_SECONDS:
            last_line = clock()
            notes.print(f"{counted.pictures:,}{of} pictures, {counted.errors:,} errors", markup=False, soft_wrap=True)

    of = "" if total is None else f" of {total:,}"
    with bar:
        task = bar.add_task("", total=total, completed=pictures, errors=f"{errors:,}")
        yield Tally(pictures, errors, show)
