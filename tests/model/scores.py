"""Scores made by hand, for what is decided and compared by them."""

from collections.abc import Mapping

from model.contract import Contract
from model.defects import DEFECTS
from model.images import ImageWarning
from model.interval import Interval
from model.scale import Scale
from model.score import CropScore, Defect, ModelId, QualityScore, ScoreInterval

CONTRACT = Contract(
    view="whole",
    shapes=((256, 256),),
    crops=3,
    scale=Scale(dataset="made-up", min=0.0, max=1.0),
    defects=DEFECTS,
    interval=Interval(),
    percentiles=tuple(float(step) for step in range(0, 101, 5)),
)


def scored(
    score: float = 70.0,
    *,
    low: float = 60.0,
    high: float = 80.0,
    deviation: float = 6.0,
    size: tuple[int, int] = (1600, 1200),
    format_: str = "JPEG",
    sha256: str = "ab",
    warnings: tuple[ImageWarning, ...] = (),
    severities: Mapping[str, float] | None = None,
    **more: float,
) -> QualityScore:
    """A score of a picture with some defects, by their severities."""
    severities = {**(severities or {}), **more}
    return QualityScore(
        score=score,
        raw_score=score / 100,
        interval=ScoreInterval(low=low, high=high, coverage=0.9, deviation=deviation),
        defects={
            name: Defect(severity=severities.get(name, 0.0), probability=severities.get(name, 0.0), close=False)
            for name in DEFECTS
        },
        std=None,
        stderr=None,
        stage_weights=None,
        crops=(CropScore(box=(0, 0, *size), score=score, stage_weights=None),),
        width=size[0],
        height=size[1],
        format=format_,
        sha256=sha256,
        warnings=warnings,
        model=ModelId(name="made-up", digest="sha256:00"),
        contract=CONTRACT,
    )
