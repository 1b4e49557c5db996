"""Scores of pictures, and the arithmetic from the rows of a picture's crops to its score. Imports no torch."""

import math
from array import array
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.contract import Contract
from model.crop_rounds import CropRounds
from model.defects import CLOSE_DEFECTS, SHARPNESS
from model.images import Facts, ImageWarning
from model.images.facts import Box
from model.views import Columns


@dataclass(frozen=True, kw_only=True)
class ModelId:
    """Name and digest of the checkpoint that computed a score."""

    name: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class CropScore:
    """The score of one crop.

    Attributes:
        box: Left, top, right, bottom in pixels of the upright picture; right and bottom are exclusive.
        score: 0 to 100.
        stage_weights: Weights of the four stages; None if the network has none.
    """

    box: Box
    score: float
    stage_weights: tuple[float, ...] | None


@dataclass(frozen=True, kw_only=True)
class ScoreInterval:
    """Where people's mean opinion of the picture lies, as far as the model can tell.

    Attributes:
        low: Lower end, 0 to 100, rounded to two decimals.
        high: Upper end.
        coverage: Share of pictures like those of the training data whose mean opinion lies within.
        deviation: How widely opinions lie around the score, in points, for ``model.comparison``.
    """

    low: float
    high: float
    coverage: float
    deviation: float = field(default=0.0, repr=False, compare=False)

    def to_dict(self) -> dict[str, float]:
        """The interval as a JSON object."""
        return {"low": self.low, "high": self.high, "coverage": self.coverage}


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One defect of a picture.

    Attributes:
        severity: 0 (none) to 1 (ruins the picture), 0.5 is plain to see; rounded to three decimals.
        probability: Probability that the picture has it at all, rounded to three decimals.
        close: Whether it shows in a close look at the picture, more than in the whole view.
    """

    severity: float
    probability: float
    close: bool


@dataclass(frozen=True, kw_only=True)
class QualityScore:
    """The quality of one picture.

    Attributes:
        score: 0 (worst) to 100 (best), rounded to four decimals.
        raw_score: On the scale of the training labels: that of the whole view, or the mean over the crops; rounded to
            six decimals.
        interval: Where people's mean opinion lies; None if the network does not say.
        defects: The defects that the network can find, by name; empty if it can find none.
        std: Standard deviation over the crops, in points of 100; None for a single crop or a whole view.
        stderr: Standard error of the mean, in points of 100; None for a single crop or a whole view.
        stage_weights: Mean weights of the four stages; None if the network has none.
        crops: The crops that were scored.
        width: Width of the upright picture, in pixels.
        height: Height of the upright picture, in pixels.
        format: Format of the picture, as in ``images.FORMATS``.
        sha256: Hash of the bytes that were scored, hexadecimal.
        description: Numbers that are alike for pictures that are alike; empty if the network gives none.
        warnings: What was done to the picture, or makes its score less certain.
        model: The checkpoint that computed it.
        calibration: Id of the calibration that corrected the score; "" for none.
        contract: The contract of that checkpoint, with the raw scale.
    """

    score: float
    raw_score: float
    interval: ScoreInterval | None = None
    defects: Mapping[str, Defect] = field(default_factory=dict)
    std: float | None
    stderr: float | None
    stage_weights: tuple[float, ...] | None
    crops: tuple[CropScore, ...]
    width: int
    height: int
    format: str
    sha256: str
    description: "array[float]" = field(default_factory=lambda: array("f"), repr=False)
    warnings: tuple[ImageWarning, ...]
    model: ModelId
    calibration: str = ""
    contract: Contract = field(repr=False)

    @property
    def percentile(self) -> float | None:
        """Percentage of the training photos with a lower score; None if unknown, as it is of a corrected score."""
        return None if self.calibration else self.contract.percentile(self.score)

    @property
    def grade(self) -> str | None:
        """The word for the score (bad to excellent); None if the contract has no grades."""
        return self.contract.grade(self.score)

    def to_dict(self) -> dict[str, Any]:
        """The score as a JSON object, the same from the service, the command line and Python."""
        scale = self.contract.scale
        return {
            "score": self.score,
            "scale": {"min": 0, "max": 100, "higher_is_better": True},
            "grade": self.grade,
            "percentile": self.percentile,
            "raw_score": self.raw_score,
            "raw_scale": {
                "dataset": scale.dataset,
                "min": scale.min,
                "max": scale.max,
                "higher_is_better": scale.higher_is_better,
            },
            **({} if self.interval is None else {"interval": self.interval.to_dict()}),
            **({"defects": {name: asdict(defect) for name, defect in self.defects.items()}} if self.defects else {}),
            "std": self.std,
            "stderr": self.stderr,
            "crops": len(self.crops),
            "model": {
                "name": self.model.name,
                "digest": self.model.digest,
                "contract": "+".join(filter(None, (self.contract.id, self.calibration))),
            },
            "image": {"width": self.width, "height": self.height, "format": self.format, "sha256": self.sha256},
            "warnings": [str(warning) for warning in self.warnings],
        }


def aggregate(rounds: CropRounds, facts: Facts, contract: Contract, model: ModelId) -> QualityScore:
    """Compute the score of a picture from the rows of its crops.

    Args:
        rounds: The crops of the picture, scored.
        facts: Size, format, hash and warnings of the picture.
        contract: The contract that the crops were cut by.
        model: The checkpoint that the rows come from.
    """
    scale = contract.scale
    rows_ND, boxes = rounds.scored()
    # float64 from here on. The order of the crops is fixed, so the sum is reproducible.
    columns = contract.columns(rows_ND)
    whole = contract.view == "whole"
    # A close look finds defects; the score is that of the whole view.
    raw_N = columns.raw_N[:1] if whole else columns.raw_N
    raw = float(raw_N.mean())
    std = scale.spread_to_percent(float(raw_N.std(ddof=1))) if len(raw_N) > 1 else None
    # The mean over the crops; of a whole picture, what its whole view says.
    interval_K = columns.interval_NK[: len(raw_N)].mean(axis=0)
    warnings = {*facts.warnings, *rounds.warnings}
    return QualityScore(
        score=round(scale.to_percent(raw), 4),
        raw_score=round(raw, 6),
        interval=_interval(raw, interval_K, contract, outside=ImageWarning.OUT_OF_DOMAIN in warnings),
        defects=_defects(columns, contract),
        std=None if std is None else round(std, 4),
        stderr=None if std is None else round(std / math.sqrt(len(raw_N)), 4),
        stage_weights=_rounded(columns.stage_weights_NS[: len(raw_N)].mean(axis=0)),
        crops=tuple(
            CropScore(box=box, score=round(scale.to_percent(float(raw_crop)), 4), stage_weights=_rounded(weights))
            for box, raw_crop, weights in zip(boxes, columns.raw_N, columns.stage_weights_NS, strict=True)
        ),
        width=facts.width,
        height=facts.height,
        format=facts.format,
        sha256=facts.sha256,
        # Four bytes a number: scores are kept by the ten thousand.
        description=array("f", columns.description_NK[0].tolist()),
        warnings=tuple(sorted(warnings)),
        model=model,
        contract=contract,
    )


def _interval(raw: float, columns_K: NDArray[np.float64], contract: Contract, *, outside: bool) -> ScoreInterval | None:
    if contract.interval is None:
        return None
    ends = contract.interval.around(contract.output(raw), columns_K, outside=outside)
    low, high = sorted(round(contract.scale.to_percent(contract.slope * end + contract.intercept), 2) for end in ends)
    deviation = contract.interval.deviation(columns_K, outside=outside)
    return ScoreInterval(
        low=low,
        high=high,
        coverage=contract.interval.coverage,
        deviation=contract.scale.spread_to_percent(abs(contract.slope) * deviation),
    )


def _defects(columns: Columns, contract: Contract) -> dict[str, Defect]:
    """The defects of a picture, from its crops, or from its whole view and its close look."""
    views = 1 if contract.view == "whole" else len(columns.raw_N)
    found = {}
    for place, name in enumerate(contract.defects):
        severities_N, probabilities_N = columns.severities_ND[:, place], columns.probabilities_ND[:, place]
        severity, probability = float(severities_N[:views].mean()), float(probabilities_N[:views].mean())
        close = False
        if len(severities_N) > views and name in CLOSE_DEFECTS:
            # What is sharp somewhere is in focus there, and was not meant to be so everywhere.
            of_squares = _everywhere if name in SHARPNESS else _worst
            nearer = of_squares(severities_N[views:], probabilities_N[views:])
            close = nearer[0] > severity
            if close:
                severity, probability = nearer
        found[name] = Defect(severity=round(severity, 3), probability=round(probability, 3), close=close)
    return found


def _worst(severities_N: NDArray[np.float64], probabilities_N: NDArray[np.float64]) -> tuple[float, float]:
    """Severity and probability of a defect of which one square is enough."""
    place = int(severities_N.argmax())
    return float(severities_N[place]), float(probabilities_N[place])


def _everywhere(severities_N: NDArray[np.float64], probabilities_N: NDArray[np.float64]) -> tuple[float, float]:
    """Severity and probability of a defect that a picture has only if all of it has.

    Log odds are averaged: a square that surely has it not outweighs one that may have it, one without detail says
    little. As in ``model.networks.findings``, what is less likely than not is less severe for it; here by the square,
    because then a square speaks against it.
    """
    likely_N = probabilities_N.clip(1e-6, 1 - 1e-6)
    probability = 1 / (1 + math.exp(-float(np.log(likely_N / (1 - likely_N)).mean())))
    severity = float((likely_N * severities_N / (2 * likely_N).clip(max=1)).sum() / likely_N.sum())
    return severity * min(2 * probability, 1.0) ** 2, probability


def _rounded(weights: NDArray[np.float64]) -> tuple[float, ...] | None:
    return tuple(round(float(weight), 6) for weight in weights) or None
