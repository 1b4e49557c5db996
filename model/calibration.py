"""Scores after one's own taste: a small correction that was fitted on some labels of one's own. Imports no torch.

A correction belongs to one checkpoint: it reads the score and the description that this gives. ``smart-iqa calibrate``
makes the file, a policy names it (``model/policies``).
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.images import ImageWarning
from model.score import QualityScore, ScoreInterval

FORMAT = 1
MOST_BYTES = 2**20
"""Longest file that is read."""
COVERAGE, DEVIATIONS = 0.9, 1.645
"""Share of the labels within ``width``, and how many deviations of a normal distribution hold as many on each side."""
_KNOTS = 2
"""Fewest points of a line from scores to scores."""


class CalibrationError(ValueError):
    """A file is no calibration. The text says why."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A correction of scores.

    Attributes:
        name: Its name.
        model: Digest of the checkpoint that it was fitted for.
        knots: Points of a line from the model's scores to these, both rising; scores beyond it get what its end has.
        weights: Points for each number of the description; empty for none.
        centre: The description that they add nothing for.
        width: Half of the width of the interval that holds 90 % of the labels, in points; None to move the model's own.
        about: What it was fitted on, and what that was worth, for people.

    Raises:
        CalibrationError: These cannot correct a score.
    """

    name: str
    model: str
    knots: tuple[tuple[float, float], ...] = ((0.0, 0.0), (100.0, 100.0))
    weights: tuple[float, ...] = ()
    centre: tuple[float, ...] = ()
    width: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = [*(one for knot in self.knots for one in knot), *self.weights, *self.centre, self.width or 0.0]
        if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
            raise CalibrationError("its numbers must be finite")
        if len(self.weights) != len(self.centre):
            raise CalibrationError("it has not as many weights as numbers of a description")
        if self.width is not None and self.width < 0:
            raise CalibrationError("its width is below 0")
        starts, ends = ([knot[at] for knot in self.knots] for at in (0, 1))
        if len(starts) < _KNOTS or sorted({*starts}) != starts or sorted(ends) != ends:
            raise CalibrationError("its line must have two points at least, and rise")

    @cached_property
    def id(self) -> str:
        """A short name of all that decides: it changes whenever a score could."""
        decides = [self.model, self.knots, self.weights, self.centre, self.width]
        return f"cal-{hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:12]}"

    def corrected(self, scores_N: NDArray[np.float64], descriptions_NK: NDArray[np.float64]) -> NDArray[np.float64]:
        """Correct scores of 0 to 100, which stay there.

        Args:
            scores_N: Scores.
            descriptions_NK: Descriptions; not read where there are no weights.
        """
        starts, ends = np.array(self.knots, np.float64).T
        found_N = np.interp(scores_N, starts, ends)
        if self.weights:
            # Number by number, in order: every machine gets the same digits.
            for weight, centre, own_N in zip(self.weights, self.centre, descriptions_NK.T, strict=True):
                found_N = found_N + weight * (own_N - centre)
        corrected_N: NDArray[np.float64] = found_N.clip(0.0, 100.0)
        return corrected_N

    def apply(self, score: QualityScore) -> QualityScore:
        """Correct the score of a picture, and its interval with it. ``raw_score`` stays what the network said.

        Raises:
            ValueError: The score is of another checkpoint, or has been corrected.
        """
        if score.calibration:
            raise ValueError(f"the score has been corrected by {score.calibration}")
        if score.model.digest != self.model:
            raise ValueError(f"the calibration {self.name} was fitted for another checkpoint than {score.model.name}")
        found = float(self.corrected(np.array([score.score]), np.array([[*score.description]]))[0])
        return dataclasses.replace(
            score,
            score=round(found, 4),
            interval=None if score.interval is None else self._interval(score, score.interval, found),
            calibration=self.id,
        )

    def _interval(self, score: QualityScore, interval: ScoreInterval, after: float) -> ScoreInterval:
        before, outside = score.score, ImageWarning.OUT_OF_DOMAIN in score.warnings
        below, above = before - interval.low, interval.high - before
        deviation, coverage = interval.deviation, interval.coverage
        if self.width is not None:
            # Of a picture unlike those of the training, labels tell no more than the model does.
            below, above = (max(below, self.width), max(above, self.width)) if outside else (self.width, self.width)
            # As wide as a normal distribution's, of which the width holds as many.
            deviation = max(self.width / DEVIATIONS, deviation if outside else 0.0)
            coverage = COVERAGE
        low, high = (round(min(max(end, 0.0), 100.0), 2) for end in (after - below, after + above))
        return ScoreInterval(low=low, high=high, coverage=coverage, deviation=deviation)

    def to_json(self) -> str:
        """The calibration as the text of a file."""
        return json.dumps({"smart-iqa calibration": FORMAT, **dataclasses.asdict(self)}, indent=1) + "\n"

    @classmethod
    def load(cls, file: Path) -> "Calibration":
        """Read a file.

        Raises:
            CalibrationError: It is no calibration.
            OSError: It cannot be read.
        """
        if file.stat().st_size > MOST_BYTES:
            raise CalibrationError(f"{file.name} is no calibration: it is too long")
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            if values.pop("smart-iqa calibration") != FORMAT:
                raise CalibrationError("it is of another version")
            lists: dict[str, Sequence[Any]] = {name: tuple(values[name]) for name in ("weights", "centre")}
            knots = tuple((float(start), float(end)) for start, end in values["knots"])
            return cls(**{**values, **lists, "knots": knots})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            reason = str(error) if isinstance(error, CalibrationError) else "make it with smart-iqa calibrate"
            raise CalibrationError(f"{file.name} is no calibration: {reason}") from error
