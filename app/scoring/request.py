"""Types of the pipeline: the request, the prepared picture, the result."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from PIL import Image

from app.batching.capacity import Reservation
from app.batching.submission import Priority
from app.decode.decoder import Decoded
from app.models.loading import ServedModel
from app.observability.access import RequestRecord
from app.scoring.cache import CacheKey
from model import crop_rounds
from model.crop_rounds import Crops
from model.maps import map_crops
from model.maps.map_crops import ScoreMap
from model.picking.look import Look
from model.policies import ENGLISH, Decision, Policy
from model.score import QualityScore

Detail = Literal["crops", "map"]
"""Extra output besides the score: the crops' scores, or those and a map of the picture's quality."""


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """The parameters of a request, which hold for each of its pictures.

    Attributes:
        model: The model that scores it.
        crops: Number of crops; None for the contract's count, ``auto`` for as many of those as the picture needs.
        detail: Extra output besides the score.
        overlay: Whether the answer is the picture, tinted by the weights of the stages.
        pick: Whether the answer names the best of the request's pictures.
        stage: If given, the answer is the picture, coloured by the activity of this stage; it is not scored.
        priority: Class of the request.
        owner: Name of the key that the request came with; "" without keys.
        policy: What decides about its pictures; None if nothing does.
        language: Language of the reasons of a decision.
        seconds: Time limit from the arrival of the picture's bytes to the answer.
        record: Is told what becomes of its pictures, for the access line.
    """

    model: ServedModel
    crops: Crops | None = None
    detail: Detail | None = None
    overlay: bool = False
    stage: int | None = None
    pick: bool = False
    priority: Priority = Priority.INTERACTIVE
    owner: str = ""
    policy: Policy | None = None
    language: str = ENGLISH
    seconds: float
    record: RequestRecord = field(default_factory=RequestRecord, compare=False)

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
        """Whether map crops are computed: for a map, or for a stage's activity."""
        return self.needs_map or not self.needs_score

    @property
    def needs_preview(self) -> bool:
        """Whether a small copy of the picture is needed."""
        return self.overlay or self.pick or not self.needs_score

    @property
    def max_crops(self) -> int:
        """Largest number of work items of one picture."""
        contract = self.model.config.contract
        crops = 1 if contract.view == "tokens" else crop_rounds.max_crops(self.crops, contract)
        return crops * self.needs_score + map_crops.MAX_CROPS * self.needs_map_crops


@dataclass(kw_only=True)
class Timing:
    """Time of an answer by phase, in seconds: waiting to be decoded, decoding, waiting for the device, computing."""

    decode_wait: float = 0.0
    decode: float = 0.0
    queue: float = 0.0
    compute: float = 0.0


class PreparedPicture(NamedTuple):
    """A picture that is ready for the device, or whose score is known.

    Attributes:
        request: The parameters of its request.
        key: Key of its score in the cache.
        deadline: Time after which its answer is useless, on the pipeline's clock.
        known: Its score, if that was in the cache.
        decoded: Its work items; None if the known score is all that the answer needs.
        decode_wait_seconds: Time of the wait to be decoded, and for what was decoded to come back from its thread.
        decode_seconds: Time of decoding alone.
        reservation: Queue capacity that was reserved for it; None if ``score`` is to reserve it.
    """

    request: ScoreRequest
    key: CacheKey
    deadline: float
    known: QualityScore | None
    decoded: Decoded | None
    decode_wait_seconds: float
    decode_seconds: float
    reservation: Reservation | None


class ScoreResult(NamedTuple):
    """A score with the extra output of its request.

    Attributes:
        score: The score.
        timing: Time by phase.
        cached: Whether the score was in the cache.
        preview: A small copy of the picture, if requested.
        score_map: The map of the picture's quality, if requested.
        decision: What the request's policy decides, if it has one.
        look: What picking needs of the picture, if requested.
    """

    score: QualityScore
    timing: Timing
    cached: bool
    preview: Image.Image | None
    score_map: ScoreMap | None
    decision: Decision | None
    look: Look | None = None

    def to_dict(self, detail: Detail | None) -> dict[str, Any]:
        """The JSON object of an answer with a score."""
        timing = self.timing
        milliseconds = {
            "decode_wait": round(timing.decode_wait * 1e3, 2),
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
        if self.decision is not None:
            answer["decision"] = self.decision.to_dict()
        return answer
