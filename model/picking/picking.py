"""The best of each group of nearly equal photos."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from model.picking import ranking, scenes, sequences
from model.picking.photo import Photo
from model.picking.scenes import SOON
from model.picking.sequences import Kind

TOLD = 0.2
"""Severity by which a photo has more of a defect than the best one, from which that is told."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A photo of a group.

    Attributes:
        place: Its place among all photos, from 0.
        name: Its name.
        score: Its score, 0 to 100.
        preferred: Probability that people prefer the best one to it; None where none is the best, for that itself, and
            for its copies.
        worse: The defects that it has more of than the best one, and how much more, the greatest difference first.
        same_file_as: The place of an earlier photo of the same bytes; None if there is none.
    """

    place: int
    name: str
    score: float
    preferred: float | None = None
    worse: tuple[tuple[str, float], ...] = ()
    same_file_as: int | None = None


@dataclass(frozen=True, kw_only=True)
class Group:
    """Photos of one scene.

    Attributes:
        kind: ``alike`` for nearly equal photos, of which one is the best; ``single`` for a photo like no other; else a
            sequence, which is kept whole.
        members: Its photos: alike ones with the best first, others in the order in which they were taken.
        reasons: Codes of what speaks for the best one; empty where none is.
    """

    kind: Literal["alike", "single"] | Kind
    members: tuple[Member, ...]
    reasons: tuple[str, ...] = ()

    @property
    def winner(self) -> Member | None:
        """The best one; None in a sequence, which is kept whole."""
        return self.members[0] if self.kind in ("alike", "single") else None

    @property
    def runner_up(self) -> Member | None:
        """The second best one that is not the same file; None if there is none."""
        others = (member for member in self.members[1:] if member.same_file_as is None)
        return next(others, None) if self.kind == "alike" else None

    def to_dict(self) -> dict[str, Any]:
        """The group as a JSON object."""
        members = [
            {
                "index": member.place,
                "preferred": member.preferred,
                "worse": [{"defect": defect, "by": by} for defect, by in member.worse],
                "same_file_as": member.same_file_as,
            }
            for member in self.members
        ]
        winner, runner_up = (None if one is None else one.place for one in (self.winner, self.runner_up))
        return {
            "kind": self.kind,
            "winner": winner,
            "runner_up": runner_up,
            "reasons": list(self.reasons),
            "members": members,
        }


def pick(photos: Sequence[Photo]) -> list[Group]:
    """Group photos, and rank those of each group.

    Args:
        photos: The photos, in the order of their files. Each is read a few times.

    Returns:
        The groups, by their first photo.
    """
    order = sorted(range(len(photos)), key=lambda place: _when(photos[place], place))
    rank_of = {place: rank for rank, place in enumerate(order)}
    found: list[Group] = []
    rows = list(sequences.panoramas(photos, order))
    in_row = set(itertools.chain.from_iterable(rows))
    found += [_sequence("panorama", row, photos) for row in rows]
    for scene in scenes.group(photos):
        rest = sorted((place for place in scene if place not in in_row), key=rank_of.__getitem__)
        found += _of_scene(rest, photos)
    return sorted(found, key=lambda group: min(member.place for member in group.members))


def _when(photo: Photo, place: int) -> tuple[str, float, int]:
    """Orders photos as they were taken; those without a time keep the order of their files."""
    taken = photo.capture.taken
    return (photo.capture.camera, -1.0 if taken is None else taken, place)


def _of_scene(scene: Sequence[int], photos: Sequence[Photo]) -> Iterator[Group]:
    """The groups of a scene: its sequences, with copies of their photos, and what is left."""
    first: dict[str, int] = {}
    for place in scene:
        first.setdefault(photos[place].sha256, place)
    different = [place for place in scene if first[photos[place].sha256] == place]
    taken: set[str] = set()
    for kind, places in _sequences(different, photos):
        hashes = {photos[place].sha256 for place in places}
        taken |= hashes
        yield _sequence(kind, [place for place in scene if photos[place].sha256 in hashes], photos)
    if left := [place for place in scene if photos[place].sha256 not in taken]:
        yield _alike(left, photos)


def _sequences(scene: Sequence[int], photos: Sequence[Photo]) -> Iterator[tuple[Kind, list[int]]]:
    """Brackets and focus stacks among different photos of a scene, in the order of taking.

    They are looked for in all of it, and in each run of photos that were taken one soon after the other.
    """
    runs = _runs(scene, photos)
    for run in [list(scene)] if len(runs) == 1 else [list(scene), *runs]:
        own = [photos[place] for place in run]
        brackets = sequences.brackets(own)
        yield from (("bracket", [run[at] for at in bracket]) for bracket in brackets)
        stacked = not brackets and sequences.focus_stack(own)
        if stacked:
            yield "focus_stack", run
        if (brackets or stacked) and len(run) == len(scene):
            return


def _runs(scene: Sequence[int], photos: Sequence[Photo]) -> list[list[int]]:
    """Photos of a scene that one camera took within ``SOON`` seconds of each other."""
    runs: list[list[int]] = []
    for place in scene:
        taken = photos[place].capture.taken
        before = photos[runs[-1][-1]].capture if runs else None
        soon = (
            before is not None
            and taken is not None
            and before.taken is not None
            and before.camera == photos[place].capture.camera
            and taken - before.taken <= SOON
        )
        if soon:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def _sequence(kind: Kind, places: Sequence[int], photos: Sequence[Photo]) -> Group:
    members = (Member(place=place, name=photos[place].name, score=photos[place].score) for place in places)
    return Group(kind=kind, members=tuple(members))


def _alike(places: Sequence[int], photos: Sequence[Photo]) -> Group:
    first: dict[str, int] = {}
    for place in places:
        first.setdefault(photos[place].sha256, place)
    # Copies are not ranked: each stands behind the first of them.
    different = [place for place in places if first[photos[place].sha256] == place]
    ranked = ranking.rank([photos[place] for place in different])
    best = photos[different[ranked.order[0]]]
    members = []
    for rank, (at, preferred) in enumerate(zip(ranked.order, ranked.preferred, strict=True)):
        photo = photos[different[at]]
        more = {name: severity - best.severities[name] for name, severity in photo.severities.items()}
        worse = sorted(((name, round(by, 3)) for name, by in more.items() if by >= TOLD), key=lambda pair: -pair[1])
        for place in places:
            if photos[place].sha256 == photo.sha256:
                copied = place != different[at]
                members.append(
                    Member(
                        place=place,
                        name=photos[place].name,
                        score=photos[place].score,
                        preferred=preferred if rank else None,
                        worse=tuple(worse),
                        same_file_as=different[at] if copied else None,
                    )
                )
    kind: Literal["alike", "single"] = "alike" if len(places) > 1 else "single"
    return Group(kind=kind, members=tuple(members), reasons=ranked.reasons)
