"""What is asked of a picture, and what becomes of it on its way through the pipeline."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from PIL import Image

from app.batching.capacity import Reservation
from app.batching.jobs import Priority
from app.decode.decoder import Decoded
from app.models.loading import ServedModel
from app.scoring.cache import CacheKey
from model import crop_rounds
from model.crop_rounds import Crops
from model.maps import map_crops
from model.maps.map_crops import ScoreMap
from model.score import QualityScore

Detail = Literal["crops", "map"]
"""What an answer says beside the score: each crop's, or those and a map of the picture's quality."""


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """What is asked of each picture of a request.

    Attributes:
        model: Which model is to score it.
        crops: How many crops; None for the contract's count, ``auto`` for as many of those as it needs.
        detail: What the answer says beside the score.
        overlay: Whether the answer is the picture, tinted by the weights of the stages.
        stage: If given, the answer is the picture, coloured by the activity of this stage; it is not scored.
        priority: Class of the request.
        owner: Name of the key that asks; "" where there are no keys.
        seconds: How long it may take from the arrival of the bytes to the answer.
    """

    model: ServedModel
    crops: Crops | None = None
    detail: Detail | None = None
    overlay: bool = False
    stage: int | None = None
    priority: Priority = Priority.INTERACTIVE
    owner: str = ""
    seconds: float

    @property
    def needs_score(self) -> bool:
        """Whether the answer has a score."""
        return self.stage is None

    @property
    def needs_map(self) -> bool:
        """Whether the answer has a map of the picture's quality."""
        return self.detail == "map" and not self.overlay and self.needs_score

    @property
    def needs_map_crops(self) -> bool:
        """Whether crops are computed that lie closer than those of the score: for a map, or a stage's activity."""
        return self.needs_map or not self.needs_score

    @property
    def needs_preview(self) -> bool:
        """Whether a small copy of the picture is needed."""
        return self.overlay or not self.needs_score

    @property
    def max_crops(self) -> int:
        """Work items that one picture makes at most."""
        contract = self.model.config.contract
        crops = crop_rounds.max_crops(self.crops, contract) if contract.view == "crops" else 1
        return crops * self.needs_score + map_crops.MAX_CROPS * self.needs_map_crops


@dataclass(kw_only=True)
class Timing:
    """Where the time of an answer went, in seconds."""

    decode: float = 0.0
    queue: float = 0.0
    compute: float = 0.0


class PreparedPicture(NamedTuple):
    """A picture that is ready for the device, or whose score is known.

    Attributes:
        request: What is asked of it.
        key: What its score is cached under.
        deadline: When its answer is of no use any more.
        known: Its score, if that was in the cache.
        decoded: Its work items; None if the known score is all that is needed.
        decode_seconds: How long decoding took, waiting for it included.
        reservation: Queue capacity that was reserved for it; None if that is still to be done.
    """

    request: ScoreRequest
    key: CacheKey
    deadline: float
    known: QualityScore | None
    decoded: Decoded | None
    decode_seconds: float
    reservation: Reservation | None


class ScoreResult(NamedTuple):
    """A score, and what goes with it.

    Attributes:
        score: The score.
        timing: Where the time went.
        cached: Whether the score was in the cache.
        preview: A small copy of the picture, if one was asked for.
        score_map: The map, if it was asked for.
    """

    score: QualityScore
    timing: Timing
    cached: bool
    preview: Image.Image | None
    score_map: ScoreMap | None

    def to_dict(self, detail: Detail | None) -> dict[str, Any]:
        """What every answer with a score holds, as JSON can."""
        timing = self.timing
        milliseconds = {
            "decode": round(timing.decode * 1e3, 2),
            "queue": round(timing.queue * 1e3, 2),
            "compute": round(timing.compute * 1e3, 2),
        }
        answer = {**self.score.to_dict(), "timing_ms": milliseconds}
        if detail is not None:
            answer["crop_scores"] = [
                {"box": crop.box, "score": crop.score, "stage_weights": crop.stage_weights} for crop in self.score.crops
            ]
        if self.score_map is not None:
            answer["map"] = self.score_map.to_dict()
        return answer
