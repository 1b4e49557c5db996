"""One run of ``smart-iqa score-bulk``: what is missing of a job is scored and written."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, Protocol

from cli.bulk import job as jobs
from cli.bulk.job import Job
from cli.bulk.progress import Tally, tally
from cli.console import SOME_FAILED, notes
from cli.score.run import Stopped, stoppable

WRITERS = 4
"""Files that are written at a time: a bucket takes its time over each."""


class Scoring(Protocol):
    """What scores units.

    Attributes:
        settings: What decides the scores, as JSON can hold it.
    """

    settings: dict[str, Any]

    def tables(
        self, job: Job, missing: Iterable[int], advance: Callable[[int, int], None]
    ) -> Generator[tuple[int, Any], None, None]:
        """Score units.

        Args:
            job: The job.
            missing: Their numbers.
            advance: Called with the pictures and errors that are new.

        Yields:
            Units by number, each once and in any order, with their rows.
        """


def run(job: Job, scoring: Scoring) -> int:
    """Do what is missing of a job.

    Args:
        job: The job.
        scoring: What scores.

    Returns:
        The exit status.

    Raises:
        OSError: Something cannot be written.
    """
    before = jobs.done(job)
    if before.count:
        notes.print(
            f"{before.count:,} of {job.units:,} units with {before.pictures:,} pictures are there already",
            markup=False,
            soft_wrap=True,
        )
    total = None if job.sealed else job.pictures
    missing = (number for number, there in enumerate(before.units) if not there)
    written = before.count
    with tally(before.pictures, before.errors, total) as counted:
        try:
            with stoppable(), _writing(job) as write:
                if before.count < job.units:
                    with closing(scoring.tables(job, missing, counted)) as scored:
                        for number, table in scored:
                            write(number, table)
                            written += 1
        except Stopped as stop:
            notes.print(
                f"stopped; {written:,} of {job.units:,} units are in {job.store.name}, and the same command goes on "
                "from there",
                markup=False,
                soft_wrap=True,
            )
            return stop.status
    assert written == job.units
    return _finish(job, counted, scoring.settings)


@contextmanager
def _writing(job: Job) -> Iterator[Callable[[int, Any], None]]:
    """Write files beside the scoring; those that were begun are finished, also when it stops."""
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="write") as pool:
        under_way: deque[Future[None]] = deque()

        def write(number: int, table: Any) -> None:
            while len(under_way) >= 2 * WRITERS:
                under_way.popleft().result()
            under_way.append(pool.submit(job.write, number, table))

        yield write
        for future in under_way:
            future.result()


def _finish(job: Job, counted: Tally, settings: Mapping[str, Any]) -> int:
    job.succeed({"rows": counted.pictures, "errors": counted.errors, "units": job.units, **settings})
    notes.print(
        f"{counted.pictures:,} pictures are in {job.store.name}; {counted.errors:,} of them could not be scored",
        markup=False,
        soft_wrap=True,
    )
    return SOME_FAILED if counted.errors else 0
