"""One run of ``smart-iqa score``: score what was found, then deliver the results."""

import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cli.console import SOME_FAILED, notes, printable
from cli.pictures.picture_ref import PictureRef
from cli.score import gallery, outputs, selection
from cli.score.journal import Journal
from cli.score.outputs import Format, Output
from cli.score.selection import Selection, SortOrder
from cli.scoring import stream
from cli.scoring.progress import progress
from cli.scoring.stream import Record

if TYPE_CHECKING:
    from model.crop_rounds import Crops
    from model.scorer import Scorer

TOLD = 20
"""Failures that are listed at the end."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What shall come of the results.

    Attributes:
        format: Form of the results on stdout, or None.
        out: File to write, or None.
        sort: Their order, or None for the one in which they were found.
        selection: Which ones are meant.
        folder: Where those are put, or None.
        move: Whether they are moved there, not copied.
        html: Page to write, or None.
    """

    format: Format | None
    out: Path | None
    sort: SortOrder | None
    selection: Selection
    folder: Path | None
    move: bool
    html: Path | None

    @property
    def needs_all(self) -> bool:
        """Whether something of it is made of all results together."""
        return any((self.out, self.sort, self.folder, self.html))


class Stopped(BaseException):
    """Somebody wants the run to end."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number


class Run:
    """A run.

    Args:
        plan: What shall come of it.
        scorer: What scores the pictures.
        crops: As for ``Scorer.score``.
        part: Where the journal is kept for the next run, or None.
    """

    def __init__(self, plan: Plan, scorer: "Scorer", crops: "Crops | None", part: Path | None) -> None:
        self._plan = plan
        self._scorer = scorer
        self._crops: Crops = crops or scorer.checkpoint.contract.crops
        self._part = part
        self._output: Output | None = None
        self._scored = 0
        self._failed = 0
        self._failures: list[tuple[str, str]] = []
        self._unplaced = 0

    def __call__(self, found: Iterator[PictureRef], counted: Callable[[], Iterator[PictureRef]] | None) -> int:
        """Score and deliver.

        Args:
            found: The pictures.
            counted: Finds them once more, so that it is known how many there will be; None if that cannot be.

        Returns:
            The exit status.

        Raises:
            ValueError: The journal is of another run.
            OSError: Results cannot be written.
        """
        settings = {
            "model": f"{self._scorer.model.name} {self._scorer.model.digest}",
            "contract": self._scorer.checkpoint.contract.id,
            "crops": self._crops,
            "precision": self._scorer.engine.precision,
            "device": self._scorer.engine.device.partition(":")[0],
        }
        with Journal.open(self._part, settings) if self._plan.needs_all else contextlib.nullcontext() as journal:
            self._output = outputs.STDOUT[self._plan.format]() if self._plan.format else None
            try:
                with stoppable():
                    self._score(found, counted, journal)
                    self._show(journal)
                    if journal is not None:
                        self._deliver(journal)
            except Stopped as stop:
                self._show(journal)
                self._tell_failures()
                notes.print(self._how_to_go_on(), markup=False, soft_wrap=True)
                return stop.status
        self._tell_failures()
        return SOME_FAILED if self._failed or self._unplaced else 0

    def _score(
        self, found: Iterator[PictureRef], counted: Callable[[], Iterator[PictureRef]] | None, journal: Journal | None
    ) -> None:
        known: Iterable[Record] = ()
        if journal is not None and journal.resumed:
            notes.print(f"going on after {journal.resumed:,} pictures in {self._part}", markup=False, soft_wrap=True)
            known = journal.records(range(journal.resumed))
            found = (one for one in found if journal.takes(one.name))
        for record in known:
            self._take(record)
        # Closed at once if the run is stopped, not when it happens to be collected: threads are decoding.
        records = contextlib.closing(stream.records(found, self._scorer, self._crops))
        streams = self._plan.sort is None and self._plan.format in (Format.CSV, Format.JSONL)
        with progress(counted, done=self._scored, results=streams) as advance, records as fresh:
            for record in fresh:
                if journal is not None:
                    journal.add(record)
                self._take(record)
                advance()

    def _take(self, record: Record) -> None:
        self._scored += 1
        if "error" in record:
            self._failed += 1
            if len(self._failures) < TOLD:
                self._failures.append((record["path"], record["error"]))
        if self._output is not None and self._plan.sort is None and self._means(record):
            self._output.add(record)

    def _means(self, record: Record) -> bool:
        return "error" in record or self._plan.selection.takes(record["score"])

    def _show(self, journal: Journal | None) -> None:
        """Write to stdout what is not there yet."""
        output, self._output = self._output, None
        if output is None:
            return
        if journal is not None and self._plan.sort is not None:
            for record in journal.records(self._listed(journal)):
                output.add(record)
        output.close()

    def _listed(self, journal: Journal) -> "NDArray[np.int64]":
        return self._plan.selection.listed(np.array(journal.scores), self._plan.sort)

    def _deliver(self, journal: Journal) -> None:
        plan = self._plan
        if plan.html is not None:
            with notes.status(f"writing {plan.html} ..."):
                order, contract = plan.sort or SortOrder.WORST, self._scorer.checkpoint.contract
                model = self._scorer.model.name
                gallery.write(plan.html, journal, plan.selection, order, contract, model=model, crops=self._crops)
            notes.print(f"the report is {plan.html}", markup=False, soft_wrap=True)
        if plan.out is not None:
            with outputs.to_file(plan.out) as output:
                listed = self._listed(journal)
                for record in journal.records(listed):
                    output.add(record)
            notes.print(f"{len(listed):,} of {self._scored:,} pictures are in {plan.out}", markup=False, soft_wrap=True)
        if plan.folder is not None:
            self._place(journal, plan.folder)
        journal.remove()

    def _place(self, journal: Journal, folder: Path) -> None:
        places = self._plan.selection.scored(np.array(journal.scores), self._plan.sort)
        names = (record["path"] for record in journal.records(places))
        done = 0
        for name, error in selection.place(names, folder, move=self._plan.move):
            if error is None:
                done += 1
            else:
                self._unplaced += 1
                if self._unplaced <= TOLD:
                    _tell(name, stream.explain(error))
        verb = "moved" if self._plan.move else "copied"
        notes.print(
            f"{done:,} of {len(places):,} pictures {self._plan.selection} {verb} to {folder}",
            markup=False,
            soft_wrap=True,
        )

    def _tell_failures(self) -> None:
        if not self._failed:
            return
        for name, error in self._failures:
            _tell(name, error)
        if self._failed > len(self._failures):
            where = f"all are in {self._plan.out}" if self._plan.out else "-f csv and --out FILE have all"
            notes.print(f"... and {self._failed - len(self._failures):,} more; {where}", markup=False, soft_wrap=True)
        notes.print(f"{self._failed:,} of {self._scored:,} pictures could not be scored", markup=False)

    def _how_to_go_on(self) -> str:
        scored = f"stopped after {self._scored:,} pictures"
        if self._part is None:
            return f"{scored}; with --out FILE the same command could go on from here"
        return f"{scored}; they are kept in {self._part}, and the same command without --overwrite goes on from there"


def _tell(name: str, reason: str) -> None:
    notes.print(f"{printable(name)}: {reason}", markup=False, soft_wrap=True)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise ``Stopped`` when somebody presses Ctrl-C or sends SIGTERM; a second time ends the process as ever."""

    def stop(number: int, _: FrameType | None) -> None:
        restore()
        raise Stopped(number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore()
