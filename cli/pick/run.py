"""One run of ``smart-iqa pick``: score the photos, group and rank them, deliver what came of it."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.console import SOME_FAILED, notes, printable
from cli.pick import outputs, report
from cli.pick.shots import Shots, scored_photos
from cli.pictures.exclusions import NotLookedAt
from cli.pictures.picture_ref import PictureRef
from cli.score import selection
from cli.score.journal import Journal
from cli.score.page import contents
from cli.scoring import stream
from cli.scoring.progress import progress
from cli.scoring.scorer import score_settings
from cli.signals import Stopped, stoppable

if TYPE_CHECKING:
    from model.picking.picking import Group
    from model.scorer import Scorer

LISTED_FAILURES = 20
"""Failures that are listed at the end; the others are only counted."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to make of the groups.

    Attributes:
        out: File to write, or None.
        html: Report to write, or None.
        folder: Where photos are moved that are not the best of their group, or None.
        strict: Whether it is an error that something was not looked at.
    """

    out: Path | None
    html: Path | None
    folder: Path | None
    strict: bool = False


class Run:
    """A run.

    Args:
        plan: What to make of the groups.
        part: File of the journal, from which the next run can go on; None if none can.
        not_looked_at: What was not looked at; it grows while photos are found.
        claimed: What else a run must have in common with the one that it goes on from, as JSON can hold it.
    """

    def __init__(self, plan: Plan, part: Path | None, not_looked_at: NotLookedAt, claimed: Mapping[str, Any]) -> None:
        self._plan, self._part = plan, part
        self._not_looked_at, self._claimed = not_looked_at, claimed
        self._failed: list[tuple[str, str]] = []
        self._not_moved = 0

    @property
    def can_resume(self) -> bool:
        """Whether an earlier run has left something to go on from."""
        return self._part is not None and self._part.exists()

    def of_photos(
        self,
        scorer: "Scorer",
        photos: Iterator[PictureRef],
        list_again: Callable[[], Iterator[PictureRef]] | None,
    ) -> int:
        """Score photos, group them, deliver.

        Args:
            scorer: What scores the photos.
            photos: The photos.
            list_again: Lists them once more, to count them for the progress bar; None if they can be listed only once.

        Returns:
            The exit status.

        Raises:
            ValueError: The journal is of another run.
            OSError: Results cannot be written.
        """
        engine, contract = scorer.engine, scorer.checkpoint.contract
        settings = dict(self._claimed) | score_settings(
            scorer.model, contract, contract.crops, engine.device, engine.precision, photos=True
        )
        with Journal.open(self._part, settings) as journal:
            try:
                with stoppable():
                    indices = self._score(scorer, photos, list_again, journal)
            except Stopped as stop:
                _print(self._how_to_go_on(len(journal.scores)))
                return stop.status
            return self._finish(journal, indices, scorer.model.name)

    def of_scores(self, scores: str) -> int:
        """Group photos that ``smart-iqa score-bulk --photos`` has scored, and deliver.

        Args:
            scores: Its folder or URI.

        Returns:
            The exit status.

        Raises:
            ValueError: There are no such files, or they were written without ``--photos``.
            OSError: They cannot be read, or results cannot be written.
        """
        settings = {"scores": scores}
        indices = []
        with Journal.open(None, settings) as journal:
            for count, record in enumerate(scored_photos(scores)):
                journal.add(record)
                if "error" in record:
                    self._failed.append((record["path"], record["error"]))
                else:
                    indices.append(count)
            return self._finish(journal, indices, scores)

    def _finish(self, journal: Journal, indices: Sequence[int], model: str) -> int:
        """Group the scored photos of a journal, deliver, list what failed; returns the exit status."""
        groups = self._pick(Shots(journal, indices))
        self._deliver(groups, model)
        journal.remove()
        for name, error in self._failed[:LISTED_FAILURES]:
            _print(f"{printable(name)}: {error}")
        if self._failed:
            _print(f"{len(self._failed):,} of {len(indices) + len(self._failed):,} photos could not be scored")
        self._not_looked_at.tell()
        missed = self._plan.strict and self._not_looked_at.count
        return SOME_FAILED if self._failed or self._not_moved or missed else 0

    def _score(
        self,
        scorer: "Scorer",
        photos: Iterator[PictureRef],
        list_again: Callable[[], Iterator[PictureRef]] | None,
        journal: Journal,
    ) -> list[int]:
        """Score the photos; returns where those that could be stand in the journal."""
        indices = []

        def note(record: dict[str, Any]) -> None:
            if "error" in record:
                self._failed.append((record["path"], record["error"]))
            else:
                indices.append(count)

        count = 0
        if journal.resumed:
            _print(f"going on after {journal.resumed:,} photos in {self._part}")
            for record in journal.records(range(journal.resumed)):
                note(record)
                count += 1
            photos = (photo for photo in photos if journal.takes(photo.name))
        if journal.changed:
            _print(f"{journal.changed:,} photos have changed since, and are scored again")
        photos = journal.watched(photos)
        # Closed as soon as the run is stopped, not when it is collected: threads are decoding.
        outcomes = closing(stream.outcomes(photos, scorer.photos))
        with progress(list_again, done=count, results=False) as advance, outcomes as fresh:
            for name, photo in fresh:
                if isinstance(photo, Exception):
                    record = stream.error_record(name, photo)
                else:
                    record = {"path": name, "score": photo.score, "photo": replace(photo, name=name).to_dict()}
                journal.add(record)
                note(record)
                count += 1
                advance()
        return indices

    def _pick(self, photos: Shots) -> "list[Group]":
        from model.picking import picking

        with notes.status("grouping ..."):
            groups = picking.pick(photos)
            return self._with_faces(groups)

    def _with_faces(self, groups: "Sequence[Group]") -> "list[Group]":
        """Say of groups whose best photo shows a face that nobody looked at the eyes."""
        from model import images
        from model.picking import faces

        best = {group.winner.name for group in groups if group.winner is not None and group.kind == "alike"}
        shown = set()
        for name, data in contents(best):
            enough = (2 * faces.SIDE, 2 * faces.SIDE)
            # It may have changed since it was scored.
            with contextlib.suppress(images.ImageError):
                if faces.found(images.decode(data, enough=lambda *_, side=enough: side).image):
                    shown.add(name)
        return faces.told(groups, lambda member: member.name in shown)

    def _deliver(self, groups: "Sequence[Group]", model: str) -> None:
        outputs.show(groups)
        several = [group for group in groups if group.kind != "single"]
        alike = [group for group in several if group.kind == "alike"]
        photos = sum(len(group.members) for group in groups)
        others = sum(len(group.members) - 1 for group in alike)
        _print(
            f"{photos:,} photos: {len(alike):,} group{'' if len(alike) == 1 else 's'} of nearly equal ones, with "
            f"{others:,} beside the best; {len(several) - len(alike):,} kept whole; "
            f"{len(groups) - len(several):,} single"
        )
        if self._plan.html is not None:
            with notes.status(f"writing {self._plan.html} ..."):
                report.write(self._plan.html, several, photos=photos, model=model, not_looked_at=self._not_looked_at)
            _print(f"the report is {self._plan.html}")
        if self._plan.out is not None:
            outputs.to_file(self._plan.out, outputs.rows(groups, self._failed))
            _print(f"all photos are in {self._plan.out}")
        if self._plan.folder is not None:
            self._move(groups, self._plan.folder)

    def _move(self, groups: "Sequence[Group]", folder: Path) -> None:
        """Move what is not the best of its group; never a file that is, or is kept whole, by whatever path."""
        kept = {
            os.path.realpath(member.name)
            for group in groups
            for member in group.members
            if group.winner is None or member is group.winner
        }
        others = (member.name for group in groups if group.kind == "alike" for member in group.members[1:])
        names = [name for name in dict.fromkeys(others) if os.path.realpath(name) not in kept]
        not_moved = [(name, error) for name, error in selection.transfer(names, folder, move=True) if error is not None]
        for name, error in not_moved[:LISTED_FAILURES]:
            _print(f"{printable(name)}: {stream.explain(error)}")
        done = len(names) - len(not_moved)
        _print(f"{done:,} of {len(names):,} photos that are not the best of their group moved to {folder}")
        self._not_moved = len(not_moved)

    def _how_to_go_on(self, scored: int) -> str:
        told = f"stopped after {scored:,} photos"
        if self._part is None:
            return f"{told}; with --out FILE the same command could go on from here"
        return f"{told}; they are kept in {self._part}, and the same command without --overwrite goes on from there"


def _print(message: str) -> None:
    notes.print(message, markup=False, soft_wrap=True)
