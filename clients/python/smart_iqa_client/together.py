"""What the service answers about several pictures together: a comparison, or the best of each group."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from smart_iqa_client.answers import Score
from smart_iqa_client.errors import Problem


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A defect in which two pictures differ.

    Attributes:
        defect: Its name.
        first: Its severity in the first picture.
        second: Its severity in the second one.
    """

    defect: str
    first: float
    second: float


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two pictures compared.

    Attributes:
        first: Place of the first one, from 0.
        second: Place of the second one.
        preferred: Probability that people's mean opinion of the first one is the higher one.
        duplicate: Whether both are the same file.
        because: The defects in which they differ, the greatest difference first.
    """

    first: int
    second: int
    preferred: float
    duplicate: bool
    because: tuple[Difference, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several pictures compared.

    Attributes:
        order: Places of the pictures that have scores, the best first.
        pairs: Each of those with each.
        results: For each picture its score, or its problem.
        json: The answer as it came.
    """

    order: tuple[int, ...]
    pairs: tuple[Pair, ...]
    results: tuple[Score | Problem, ...] = ()
    json: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class More:
    """A defect that a picture has more of than the best of its group.

    Attributes:
        defect: Its name.
        by: By how much more severe it is.
    """

    defect: str
    by: float


@dataclass(frozen=True, kw_only=True)
class Member:
    """A picture of a group.

    Attributes:
        index: Its place, from 0.
        preferred: Probability that people prefer the winner to it; None for the winner, and in a sequence.
        worse: What it has more of than the winner, the greatest difference first.
        same_file_as: Place of an earlier picture of the same bytes.
    """

    index: int
    preferred: float | None
    worse: tuple[More, ...]
    same_file_as: int | None


@dataclass(frozen=True, kw_only=True)
class Group:
    """Pictures of one scene.

    Attributes:
        kind: ``alike`` for nearly equal pictures, ``single`` for one like no other; ``bracket``, ``focus_stack`` and
            ``panorama`` for sequences, which are kept whole.
        winner: Place of the best picture; None in a sequence.
        runner_up: Place of the second best that is not the same file.
        reasons: Codes of what speaks for the winner.
        members: The best first; of a sequence, in the order of taking.
    """

    kind: str
    winner: int | None
    runner_up: int | None
    reasons: tuple[str, ...]
    members: tuple[Member, ...]


@dataclass(frozen=True, kw_only=True)
class Picks:
    """The best of each group of nearly equal pictures.

    Attributes:
        groups: The groups of the pictures that have scores, by their first one.
        results: For each picture its score, or its problem.
        json: The answer as it came.
    """

    groups: tuple[Group, ...]
    results: tuple[Score | Problem, ...] = ()
    json: Mapping[str, Any] = field(repr=False, compare=False)
