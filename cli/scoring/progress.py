"""The progress bar: pictures scored, pictures per second, and the time left."""

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
    """Pictures per second since the start of the run, and the time left.

    Results come in bursts, so rich's own rate, which looks at the last few steps, would jump to thousands per second.

    Args:
        done: Pictures that an earlier run has scored; they do not count for the rate.
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
    find: Callable[[], Iterator[PictureRef]] | None, *, done: int, results: bool
) -> Iterator[Callable[[], None]]:
    """Show a progress bar on stderr, if that is a terminal.

    Args:
        find: Lists all pictures, which are counted while others are scored; None if they can be listed only once.
        done: Pictures that an earlier run has scored.
        results: Whether results are written to stdout meanwhile; if that is a terminal, there is no bar.

    Yields:
        A function to call after each picture.
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
        # Otherwise rich would show on the screen what is written to stdout, also where stdout is a file.
        redirect_stdout=False,
    )
    with bar:
        task = bar.add_task("", total=None, completed=done)
        if find is not None and not bar.disable:
            listed = find

            def count() -> None:
                bar.update(task, total=sum(1 for _ in listed()))

            # In a thread: folders may be slow, and a compressed archive has to be read to its end.
            threading.Thread(target=count, name="count", daemon=True).start()
        yield lambda: bar.advance(task)
