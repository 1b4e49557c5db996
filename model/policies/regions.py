"""Which scores rules hold for, as boxes: finds rules that can never hold, and rules that never decide.

A box says what each field of a score may be; a region is a list of boxes that do not overlap.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Span(NamedTuple):
    """A range of numbers.

    Attributes:
        low: Lower end.
        with_low: Whether the lower end is in it.
        high: Upper end.
        with_high: Whether the upper end is in it.
    """

    low: float = -math.inf
    with_low: bool = False
    high: float = math.inf
    with_high: bool = False

    def __and__(self, other: "Span") -> "Span":
        """The numbers that are in both."""
        # Of two equal ends, the one that leaves its number out.
        low, without_low = max((self.low, not self.with_low), (other.low, not other.with_low))
        high, with_high = min((self.high, self.with_high), (other.high, other.with_high))
        return Span(low, not without_low, high, with_high)

    def __bool__(self) -> bool:
        """Whether there is a number in it."""
        return self.low < self.high or (self.low == self.high and self.with_low and self.with_high)

    def without(self, other: "Span") -> list["Span"]:
        """The numbers that are in this one alone, in up to two parts."""
        before = self & Span(high=other.low, with_high=not other.with_low)
        after = self & Span(low=other.high, with_low=not other.with_high)
        return [part for part in (before, after) if part]


@dataclass(frozen=True)
class Names:
    """A choice of names, or of yes and no.

    Attributes:
        names: The names in it.
    """

    names: frozenset[object]

    def __and__(self, other: "Names") -> "Names":
        """The names that are in both."""
        return Names(self.names & other.names)

    def __bool__(self) -> bool:
        """Whether there is a name in it."""
        return bool(self.names)

    def without(self, other: "Names") -> list["Names"]:
        """The names that are in this one alone, in one part or none."""
        rest = Names(self.names - other.names)
        return [rest] if rest else []


Box = Mapping[str, Span | Names]
"""What each field may be."""


def meet(boxes: Sequence[Box], others: Sequence[Box]) -> list[Box]:
    """What two regions have in common; the first names every field that the other one does."""
    found = (_meet(one, other) for one in boxes for other in others)
    return [box for box in found if box is not None]


def without(boxes: Sequence[Box], others: Sequence[Box]) -> list[Box]:
    """What is in the first region alone; it names every field that the other one does."""
    left = list(boxes)
    for other in others:
        left = [part for box in left for part in _without(box, other)]
    return left


def _meet(box: Box, other: Box) -> Box | None:
    common = {name: box[name] & values for name, values in other.items()}  # type: ignore[operator]
    return {**box, **common} if all(common.values()) else None


def _without(box: Box, other: Box) -> list[Box]:
    if _meet(box, other) is None:
        return [box]
    parts: list[Box] = []
    rest = dict(box)
    for name, values in other.items():
        # What lies outside in this field is a part; what lies inside goes on to the next field.
        parts += [{**rest, name: outside} for outside in rest[name].without(values)]  # type: ignore[arg-type]
        rest[name] = rest[name] & values  # type: ignore[operator]
    return parts
