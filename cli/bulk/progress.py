"""How far a job is: a bar on a terminal, a line now and then in a log."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.console import notes
from cli.scoring.progress import Pace

LINE_SECONDS = 60.0


class Tally:
    """Pictures so far, those of earlier runs included.

    Attributes:
        pictures: How many there are rows of.
        errors: How many of them could not be scored.
    """

    def __init__(self, pictures: int, errors: int, show: Callable[["Tally"], None]) -> None:
        self.pictures = pictures
        self.errors = errors
        self._show = show

    def __call__(self, pictures: int, errors: int) -> None:
        """Count some more."""
        self.pictures += pictures
        self.errors += errors
        self._show(self)


@contextlib.contextmanager
def tally(
    pictures: int, errors: int, total: int | None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Tally]:
    """Count, and show it on stderr.

    Args:
        pictures: Rows of earlier runs.
        errors: Those among them without a score.
        total: Pictures of the whole job; None if nobody knows.
        clock: Seconds, for the lines of a log.
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
    told = clock()

    def show(counted: Tally) -> None:
        nonlocal told
        bar.update(task, completed=counted.pictures, errors=f"{counted.errors:,}")
        if bar.disable and clock() - told >= LINE_SECONDS:
            told = clock()
            notes.print(f"{counted.pictures:,}{of} pictures, {counted.errors:,} errors", markup=False, soft_wrap=True)

    of = "" if total is None else f" of {total:,}"
    with bar:
        task = bar.add_task("", total=total, completed=pictures, errors=f"{errors:,}")
        yield Tally(pictures, errors, show)
