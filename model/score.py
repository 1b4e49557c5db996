"""Scores of pictures, and the arithmetic from the rows of a picture's crops to its score. Imports no torch."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.contract import Box, Contract
from model.crop_rounds import CropRounds
from model.images import Facts, ImageWarning


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
class QualityScore:
    """The quality of one picture.

    Attributes:
        score: 0 (worst) to 100 (best), rounded to four decimals.
        raw_score: Mean over the crops on the scale of the training labels, rounded to six decimals.
        std: Standard deviation over the crops, in points of 100; None for a single crop.
        stderr: Standard error of the mean, in points of 100; None for a single crop.
        stage_weights: Mean weights of the four stages; None if the network has none.
        crops: The crops that were scored.
        width: Width of the upright picture, in pixels.
        height: Height of the upright picture, in pixels.
        format: Format of the picture, as in ``images.FORMATS``.
        sha256: Hash of the bytes that were scored, hexadecimal.
        warnings: What was done to the picture, or makes its score less certain.
        model: The checkpoint that computed it.
        contract: The contract of that checkpoint, with the raw scale.
    """

    score: float
    raw_score: float
    std: float | None
    stderr: float | None
    stage_weights: tuple[float, ...] | None
    crops: tuple[CropScore, ...]
    width: int
    height: int
    format: str
    sha256: str
    warnings: tuple[ImageWarning, ...]
    model: ModelId
    contract: Contract = field(repr=False)

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
            "percentile": self.contract.percentile(self.score),
            "raw_score": self.raw_score,
            "raw_scale": {
                "dataset": scale.dataset,
                "min": scale.min,
                "max": scale.max,
                "higher_is_better": scale.higher_is_better,
            },
            "std": self.std,
            "stderr": self.stderr,
            "crops": len(self.crops),
            "model": {"name": self.model.name, "digest": self.model.digest, "contract": self.contract.id},
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
    raw_N = contract.raw(rows_ND[:, 0].astype(np.float64))
    weights_N4 = rows_ND[:, 1:].astype(np.float64)
    raw = float(raw_N.mean())
    std = scale.spread_to_percent(float(raw_N.std(ddof=1))) if len(raw_N) > 1 else None
    return QualityScore(
        score=round(scale.to_percent(raw), 4),
        raw_score=round(raw, 6),
        std=None if std is None else round(std, 4),
        stderr=None if std is None else round(std / math.sqrt(len(raw_N)), 4),
        stage_weights=_rounded(weights_N4.mean(axis=0)),
        crops=tuple(
            CropScore(box=box, score=round(scale.to_percent(float(raw_crop)), 4), stage_weights=_rounded(weights))
            for box, raw_crop, weights in zip(boxes, raw_N, weights_N4, strict=True)
        ),
        width=facts.width,
        height=facts.height,
        format=facts.format,
        sha256=facts.sha256,
        warnings=tuple(sorted({*facts.warnings, *rounds.warnings})),
        model=model,
        contract=contract,
    )


def _rounded(weights: NDArray[np.float64]) -> tuple[float, ...] | None:
    return tuple(round(float(weight), 6) for weight in weights) or None
