"""The progress bar: how many pictures, how many a second, and how long it will take."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from cli.console import notes
from cli.pictures.picture_ref import PictureRef


class Pace(ProgressColumn):
    """Pictures a second since the start, and the time that the others will take.

    Results come in bursts, of which rich's own rate over the last few steps would make thousands a second.
    """

    def __init__(self, done: int) -> None:
        super().__init__()
        self._done = done

    def render(self, task: Task) -> Text:
        """Show both, once they are known."""
        count, seconds = task.completed - self._done, task.elapsed
        if not count or not seconds:
            return Text("")
        rate = f"{count / seconds:,.1f} pictures/s"
        if task.remaining is None:
            return Text(rate)
        return Text(f"{rate}, {timedelta(seconds=round(task.remaining * seconds / count))} left")


@contextlib.contextmanager
def progress(
    counted: Callable[[], Iterator[PictureRef]] | None, *, done: int, results: bool
) -> Iterator[Callable[[], None]]:
    """Show a bar on stderr, if that is a terminal.

    Args:
        counted: Finds all pictures, so that they can be counted beside the scoring; None if nobody knows them.
        done: How many an earlier run has scored.
        results: Whether results are written to stdout meanwhile; if that is a terminal, they take the bar's place.

    Yields:
        What is to be called for each further one.
    """
    bar = Progress(
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        Pace(done),
        console=notes,
        transient=True,
        disable=not notes.is_terminal or (results and sys.stdout.isatty()),
        # Otherwise what is written to a file through stdout would end up on the screen.
        redirect_stdout=False,
    )
    with bar:
        task = bar.add_task("", total=None, completed=done)
        if counted is not None and not bar.disable:
            count = counted
            # Folders may be slow, and a compressed archive has to be read to its end.
            threading.Thread(
                target=lambda: bar.update(task, total=sum(1 for _ in count())), name="count", daemon=True
            ).start()
        yield lambda: bar.advance(task)
