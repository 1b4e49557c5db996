"""One run of ``smart-iqa score-bulk``: the missing units of a job are scored and written."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, Protocol

from cli.bulk import job as jobs
from cli.bulk.job import Job
from cli.bulk.progress import Tally, tally
from cli.console import SOME_FAILED, notes
from cli.signals import Stopped, stoppable

WRITERS = 4
"""Files that are written at a time: an object store takes long to answer for each."""


class UnitScorer(Protocol):
    """Scores the units of a job.

    Attributes:
        settings: The settings that decide the scores, as JSON can hold them.
    """

    settings: dict[str, Any]

    def tables(
        self, job: Job, missing: Iterable[int], advance: Callable[[int, int], None]
    ) -> Generator[tuple[int, Any], None, None]:
        """Score units.

        Args:
            job: The job.
            missing: Numbers of the units to score, in ascending order.
            advance: Called with the numbers of new rows, and of errors among them.

        Yields:
            Number and Arrow table of each unit, in any order.
        """


def run(job: Job, scorer: UnitScorer) -> int:
    """Score and write the missing units of a job.

    Args:
        job: The job.
        scorer: What scores its units.

    Returns:
        The exit status.

    Raises:
        OSError: Something cannot be written.
    """
    before = jobs.done(job)
    if before.count:
        _print(f"{before.count:,} of {job.units:,} units with {before.pictures:,} pictures are there already")
    total = None if job.sealed else job.pictures
    missing = (number for number, done in enumerate(before.units) if not done)
    written = before.count
    with tally(before.pictures, before.errors, total) as counted:
        try:
            with stoppable(), _writing(job) as write:
                if before.count < job.units:
                    with closing(scorer.tables(job, missing, counted)) as tables:
                        for number, table in tables:
                            write(number, table)
                            written += 1
        except Stopped as stop:
            _print(
                f"stopped; {written:,} of {job.units:,} units are in {job.store.name}, and the same command goes on "
                "from there"
            )
            return stop.status
    assert written == job.units
    return _finish(job, counted, scorer.settings)


@contextmanager
def _writing(job: Job) -> Iterator[Callable[[int, Any], None]]:
    """Write files in threads while others are scored; those that were begun are finished, also when the run stops."""
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="write") as pool:
        pending: deque[Future[None]] = deque()

        def write(number: int, table: Any) -> None:
            while len(pending) >= 2 * WRITERS:
                pending.popleft().result()
            pending.append(pool.submit(job.write, number, table))

        yield write
        for future in pending:
            future.result()


def _finish(job: Job, counted: Tally, settings: Mapping[str, Any]) -> int:
    job.succeed({"rows": counted.pictures, "errors": counted.errors, "units": job.units, **settings})
    _print(f"{counted.pictures:,} pictures are in {job.store.name}; {counted.errors:,} of them could not be scored")
    return SOME_FAILED if counted.errors else 0


def _print(message: str) -> None:
    notes.print(message, markup=False, soft_wrap=True)
