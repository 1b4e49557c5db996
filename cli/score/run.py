"""One run of ``smart-iqa score``: score the pictures, then deliver the results."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cli.console import SOME_FAILED, SOME_REJECTED, notes, printable
from cli.pictures.picture_ref import PictureRef
from cli.pictures.sources import Search
from cli.score import gallery, outputs, selection
from cli.score.journal import Journal
from cli.score.outputs import Format, Output
from cli.score.selection import Selection, SortOrder
from cli.scoring import stream
from cli.scoring.progress import progress
from cli.scoring.scorer import score_settings
from cli.scoring.stream import Record
from cli.signals import Stopped, stoppable

if TYPE_CHECKING:
    from model.crop_rounds import Crops
    from model.policies import Policy
    from model.scorer import Scorer

LISTED_FAILURES = 20
"""Failures that are listed at the end; the others are only counted."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to make of the results.

    Attributes:
        format: Format of the results on stdout, or None.
        out: File to write, or None.
        sort: Order of the results; None for the order in which the pictures are found.
        selection: Which pictures the outputs name.
        folder: Where the selected pictures are copied or moved, or None.
        move: Whether they are moved, not copied.
        html: Report to write, or None.
        policy: What decides about the pictures, or None.
        strict: Whether it is an error that something was not looked at.
    """

    format: Format | None
    out: Path | None
    sort: SortOrder | None
    selection: Selection
    folder: Path | None
    move: bool
    html: Path | None
    policy: "Policy | None"
    strict: bool = False

    @property
    def needs_all(self) -> bool:
        """Whether something is made of all results together, which then need a journal."""
        return any((self.out, self.sort, self.folder, self.html))

    @property
    def streams(self) -> bool:
        """Whether results go to stdout in the order of scoring, not sorted at the end."""
        return self.format is not None and self.sort is None


class Run:
    """A run.

    Args:
        plan: What to make of the results.
        scorer: What scores the pictures.
        crops: As for ``Scorer.score``.
        part: File of the journal, from which the next run can go on; None if none can.
        search: Tells what was not looked at.
        claimed: What else a run must have in common with the one that it goes on from, as JSON can hold it.
    """

    def __init__(
        self,
        plan: Plan,
        scorer: "Scorer",
        crops: "Crops | None",
        part: Path | None,
        search: Search,
        claimed: Mapping[str, Any],
    ) -> None:
        self._not_looked_at = search.not_looked_at
        self._claimed = claimed
        self._plan = plan
        self._scorer = scorer
        contract = scorer.checkpoint.contract
        self._crops: Crops = crops or contract.crops
        self._views = f"{self._crops} crops a picture" if contract.view == "crops" else "whole pictures"
        self._part = part
        self._stdout: Output | None = None
        self._scored = 0
        self._failed = 0
        self._failures: list[tuple[str, str]] = []
        self._not_transferred = 0
        self._decisions: Counter[str] = Counter()
        self._reasons: Counter[tuple[str, str]] = Counter()

    def __call__(self, pictures: Iterator[PictureRef], list_again: Callable[[], Iterator[PictureRef]] | None) -> int:
        """Score and deliver.

        Args:
            pictures: The pictures.
            list_again: Lists them once more, to count them for the progress bar; None if they can be listed only once.

        Returns:
            The exit status.

        Raises:
            ValueError: The journal is of another run.
            OSError: Results cannot be written.
        """
        engine = self._scorer.engine
        settings = dict(self._claimed) | score_settings(
            self._scorer.model,
            self._scorer.checkpoint.contract,
            self._crops,
            engine.device,
            engine.precision,
            self._plan.policy,
        )
        with Journal.open(self._part, settings) if self._plan.needs_all else contextlib.nullcontext() as journal:
            decided = self._plan.policy is not None
            self._stdout = outputs.to_stdout(self._plan.format, decided=decided) if self._plan.format else None
            try:
                with stoppable():
                    self._score(pictures, list_again, journal)
                    self._finish_stdout(journal)
                    if journal is not None:
                        self._deliver(journal)
                        journal.remove()
            except Stopped as stop:
                self._finish_stdout(journal)
                self._print_failures()
                _print(self._how_to_go_on())
                return stop.status
        self._print_failures()
        self._not_looked_at.tell()
        if self._plan.policy is not None:
            self._print_decisions(self._plan.policy)
        if self._failed or self._not_transferred or (self._plan.strict and self._not_looked_at.count):
            return SOME_FAILED
        return SOME_REJECTED if self._decisions["reject"] else 0

    def _score(
        self,
        pictures: Iterator[PictureRef],
        list_again: Callable[[], Iterator[PictureRef]] | None,
        journal: Journal | None,
    ) -> None:
        earlier: Iterable[Record] = ()
        if journal is not None and journal.resumed:
            _print(f"going on after {journal.resumed:,} pictures in {self._part}")
            earlier = journal.records(range(journal.resumed))
            pictures = (picture for picture in pictures if journal.takes(picture.name))
        if journal is not None:
            if journal.changed:
                _print(f"{journal.changed:,} pictures have changed since, and are scored again")
            pictures = journal.watched(pictures)
        for record in earlier:
            self._count(record)
        # Closed as soon as the run is stopped, not when it is collected: threads are decoding.
        records = contextlib.closing(stream.records(pictures, self._scorer, self._crops, self._plan.policy))
        # A table is shown at the end, so the bar may have the screen until then.
        lines = self._plan.streams and self._plan.format is not Format.TABLE
        with progress(list_again, done=self._scored, results=lines) as advance, records as fresh:
            for record in fresh:
                if journal is not None:
                    journal.add(record)
                self._count(record)
                advance()

    def _count(self, record: Record) -> None:
        """Count a result, remember a failure, and pass the result on to stdout unless it is sorted first."""
        self._scored += 1
        failed = "error" in record
        if "decision" in record:
            decision = record["decision"]
            self._decisions[decision["outcome"]] += 1
            self._reasons.update({(decision["outcome"], reason["code"]) for reason in decision["reasons"]})
        if failed:
            self._failed += 1
            if len(self._failures) < LISTED_FAILURES:
                self._failures.append((record["path"], record["error"]))
        if self._stdout is not None and self._plan.streams and (failed or self._plan.selection.takes(record["score"])):
            self._stdout.add(record)

    def _finish_stdout(self, journal: Journal | None) -> None:
        """Write to stdout what is not there yet; a second call writes nothing."""
        output, self._stdout = self._stdout, None
        if output is None:
            return
        if journal is not None and not self._plan.streams:
            for record in journal.records(self._listed(journal)):
                output.add(record)
        output.close()

    def _listed(self, journal: Journal) -> "NDArray[np.int64]":
        return self._plan.selection.listed(np.array(journal.scores), self._plan.sort)

    def _deliver(self, journal: Journal) -> None:
        """Write the report and the file, and copy or move pictures."""
        if self._plan.html is not None:
            self._write_report(journal, self._plan.html)
        if self._plan.out is not None:
            self._write_file(journal, self._plan.out)
        if self._plan.folder is not None:
            self._transfer(journal, self._plan.folder)

    def _write_report(self, journal: Journal, html: Path) -> None:
        policy = self._plan.policy
        with notes.status(f"writing {html} ..."):
            gallery.write(
                html,
                journal,
                self._plan.selection,
                self._plan.sort or SortOrder.WORST,
                self._scorer.checkpoint.contract,
                model=self._scorer.model.name,
                views=self._views,
                policy="" if policy is None else f"{policy.name}, version {policy.version}",
                decisions=dict(self._decisions),
                not_looked_at=self._not_looked_at,
            )
        _print(f"the report is {html}")

    def _write_file(self, journal: Journal, file: Path) -> None:
        listed = self._listed(journal)
        with outputs.to_file(file) as output:
            for record in journal.records(listed):
                output.add(record)
        _print(f"{len(listed):,} of {self._scored:,} pictures are in {file}")

    def _transfer(self, journal: Journal, folder: Path) -> None:
        indices = self._plan.selection.scored(np.array(journal.scores), self._plan.sort)
        names = (record["path"] for record in journal.records(indices))
        done = 0
        for name, error in selection.transfer(names, folder, move=self._plan.move):
            if error is None:
                done += 1
            else:
                self._not_transferred += 1
                if self._not_transferred <= LISTED_FAILURES:
                    _print_failure(name, stream.explain(error))
        verb = "moved" if self._plan.move else "copied"
        _print(f"{done:,} of {len(indices):,} pictures {self._plan.selection} {verb} to {folder}")

    def _print_failures(self) -> None:
        if not self._failed:
            return
        for name, error in self._failures:
            _print_failure(name, error)
        if self._failed > len(self._failures):
            where = f"all are in {self._plan.out}" if self._plan.out else "-f csv and --out FILE have all"
            _print(f"... and {self._failed - len(self._failures):,} more; {where}")
        _print(f"{self._failed:,} of {self._scored:,} pictures could not be scored")

    def _print_decisions(self, policy: "Policy") -> None:
        from model.policies import OUTCOMES

        for outcome in OUTCOMES:
            counts = [f"{code} {count:,}" for (own, code), count in self._reasons.most_common() if own == outcome]
            if count := self._decisions[outcome]:
                _print(f"{policy.name}: {outcome} {count:,}{': ' if counts else ''}{', '.join(counts)}")

    def _how_to_go_on(self) -> str:
        scored = f"stopped after {self._scored:,} pictures"
        if self._part is None:
            return f"{scored}; with --out FILE the same command could go on from here"
        return f"{scored}; they are kept in {self._part}, and the same command without --overwrite goes on from there"


def _print_failure(name: str, reason: str) -> None:
    _print(f"{printable(name)}: {reason}")


def _print(message: str) -> None:
    notes.print(message, markup=False, soft_wrap=True)
