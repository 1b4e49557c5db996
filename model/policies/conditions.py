"""What a rule may ask of a score, and how it is written: ``noise.severity >= 0.5 and megapixels < 2``."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from model.defects import DEFECTS
from model.images import FORMATS, ImageWarning
from model.policies.regions import Box, Names, Span, without
from model.score import QualityScore

Read = Callable[[QualityScore], float]

_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,6})?"
_COMPARISON = re.compile(rf"([a-z_.]+)\s*(<=|>=|<|>)\s*({_NUMBER})")
_CROSSES = re.compile(rf"interval\s+crosses\s+({_NUMBER})")
_IS = re.compile(r"format\s+is\s+(not\s+)?(\S.*)")
_INCLUDE = re.compile(r"warnings\s+(do\s+not\s+)?include\s+(\S.*)")
FORMS = "FIELD >= NUMBER, interval crosses NUMBER, format is NAME, warnings include NAME"


@dataclass(frozen=True)
class Number:
    """A number of a score that rules may compare.

    Attributes:
        most: Largest value that it can have.
        read: Reads it.
        what: What it is, in words, for messages.
        least: Smallest value that it can have.
    """

    most: float
    read: Read
    what: str
    least: float = 0.0


def _end(name: str, score: QualityScore) -> float:
    assert score.interval is not None
    return float(getattr(score.interval, name))


def _width(score: QualityScore) -> float:
    return round(_end("high", score) - _end("low", score), 2)


def _percentile(score: QualityScore) -> float:
    percentile = score.contract.percentile(score.score)
    assert percentile is not None
    return percentile


def _defect(name: str, part: str, score: QualityScore) -> float:
    return float(getattr(score.defects[name], part))


_ENDLESS = float("inf")
NUMBERS: Mapping[str, Number] = {
    "score": Number(100, lambda score: score.score, "score"),
    "percentile": Number(100, _percentile, "percentile"),
    "interval.low": Number(100, partial(_end, "low"), "lowest likely opinion"),
    "interval.high": Number(100, partial(_end, "high"), "highest likely opinion"),
    "interval.width": Number(100, _width, "width of the interval"),
    "width": Number(_ENDLESS, lambda score: score.width, "width in pixels"),
    "height": Number(_ENDLESS, lambda score: score.height, "height in pixels"),
    "shorter_side": Number(_ENDLESS, lambda score: min(score.width, score.height), "shorter side in pixels"),
    "longer_side": Number(_ENDLESS, lambda score: max(score.width, score.height), "longer side in pixels"),
    "megapixels": Number(_ENDLESS, lambda score: round(score.width * score.height / 1e6, 3), "size in megapixels"),
    "aspect": Number(
        _ENDLESS,
        lambda score: round(max(score.width, score.height) / min(score.width, score.height), 3),
        "ratio of the longer to the shorter side",
        least=1.0,
    ),
    **{
        f"{name}.{part}": Number(1, partial(_defect, name, part), f"{part} of {name.replace('_', ' ')}")
        for name in DEFECTS
        for part in ("severity", "probability")
    },
}
"""What rules may compare, by name."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition of a rule.

    Attributes:
        text: It, as it is written.
        field: What it asks about: a key of ``NUMBERS``, ``interval``, ``format`` or ``warnings``.
        operator: ``<``, ``<=``, ``>``, ``>=``, ``crosses``, ``is``, ``is not``, ``include`` or ``do not include``.
        number: The number that is compared with, if one is.
        names: The names that are looked for, if some are.
    """

    text: str
    field: str
    operator: str
    number: float = 0.0
    names: tuple[str, ...] = ()

    @property
    def threshold(self) -> float | str:
        """What is compared with, for answers."""
        return ", ".join(self.names) if self.names else self.number

    @property
    def textual(self) -> bool:
        """Whether its value and threshold are text."""
        return self.field in ("format", "warnings")

    @property
    def defect(self) -> str | None:
        """The defect that it asks about, if any."""
        name = self.field.partition(".")[0]
        return name if name in DEFECTS else None

    def value(self, score: QualityScore) -> float | str:
        """What a score has where this condition looks."""
        if self.field == "format":
            return score.format
        if self.field == "warnings":
            found = [str(warning) for warning in score.warnings]
            return ", ".join(name for name in found if name in self.names or self.operator != "include")
        return float(NUMBERS["score" if self.field == "interval" else self.field].read(score))

    def holds(self, score: QualityScore) -> bool:
        """Whether a score meets it."""
        if self.field == "format":
            return (score.format in self.names) == (self.operator == "is")
        if self.field == "warnings":
            return any(warning in self.names for warning in score.warnings) == (self.operator == "include")
        if self.field == "interval":
            return _end("low", score) < self.number < _end("high", score)
        value = NUMBERS[self.field].read(score)
        return {
            "<": value < self.number,
            "<=": value <= self.number,
            ">": value > self.number,
            ">=": value >= self.number,
        }[self.operator]

    def region(self) -> list[Box]:
        """The scores that meet it."""
        if self.field == "format":
            chosen = frozenset(self.names)
            return [{"format": Names(chosen if self.operator == "is" else frozenset(FORMATS) - chosen)}]
        if self.field == "warnings":
            absent: list[Box] = [{f"warning {name}": Names(frozenset({False})) for name in self.names}]
            return absent if self.operator != "include" else without([EVERYTHING], absent)
        if self.field == "interval":
            return [{"interval.low": Span(high=self.number), "interval.high": Span(low=self.number)}]
        within = self.operator.endswith("=")
        if self.operator.startswith(">"):
            return [{self.field: Span(low=self.number, with_low=within)}]
        return [{self.field: Span(high=self.number, with_high=within)}]


EVERYTHING: Box = {
    **{name: Span(number.least, True, number.most, True) for name, number in NUMBERS.items()},
    "format": Names(frozenset(FORMATS)),
    **{f"warning {warning}": Names(frozenset({True, False})) for warning in ImageWarning},
}
"""All scores that there can be."""


def parse(text: str) -> tuple[Condition, ...]:
    """Read conditions that are joined by ``and``.

    Raises:
        ValueError: One of them is not understood; the text says which, and what may have been meant.
    """
    return tuple(_condition(part.strip()) for part in re.split(r"\s+and\s+", text.strip()))


def _condition(text: str) -> Condition:
    if match := _COMPARISON.fullmatch(text):
        field, operator, number = match.groups()
        if field not in NUMBERS:
            raise ValueError(f"there is no {field!r} to compare{did_you_mean(field, NUMBERS)}")
        return Condition(text=text, field=field, operator=operator, number=float(number))
    if match := _CROSSES.fullmatch(text):
        return Condition(text=text, field="interval", operator="crosses", number=float(match[1]))
    if match := _IS.fullmatch(text):
        names = _names(match[2], FORMATS, "format")
        return Condition(text=text, field="format", operator="is not" if match[1] else "is", names=names)
    if match := _INCLUDE.fullmatch(text):
        names = _names(match[2], [str(warning) for warning in ImageWarning], "warning")
        return Condition(text=text, field="warnings", operator="do not include" if match[1] else "include", names=names)
    raise ValueError(f"{text!r} is not understood; conditions are {FORMS}")


def _names(text: str, known: Iterable[str], what: str) -> tuple[str, ...]:
    known = tuple(known)
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in known:
            raise ValueError(f"there is no {what} {name!r}{did_you_mean(name, known)}")
    return names


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What may have been meant by an unknown name, as the end of a sentence."""
    known = tuple(known)
    folded = {one.casefold(): one for one in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return f"; did you mean {folded[close[0]]}?" if close else f"; there are {', '.join(known)}"
