"""What is asked of a picture, what becomes of it on its way, and how it may be refused."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from PIL import Image

from app.batching.jobs import BatcherError, DeadlineExceeded, EngineFailed, Priority, QueueFull
from app.decode.decoder import Decoded, DecoderFull
from app.http.problems import Problem
from app.models.loading import ServedModel
from app.scoring.cache import CacheKey
from app.scoring.rate_limit import RateExceeded
from model import crop_rounds
from model.crop_rounds import Crops
from model.maps import map_crops
from model.maps.map_crops import ScoreMap
from model.score import QualityScore

REFUSALS = (BatcherError, DecoderFull, RateExceeded)
"""Why a picture that may be sound gets no score."""
Extra = Literal["map", "overlay", "stages"]
"""What is wanted beside a picture's score: a map of it, a small copy of the picture to be tinted; or in its place: the
activity of the stages, with a copy."""


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """What is asked of a picture.

    Attributes:
        model: Which model is to score it.
        crops: How many crops; None for the contract's count, ``auto`` for as many of those as it needs.
        priority: Its class.
        owner: CacheKey of the key that asks; "" where there are no keys.
        seconds: How long it may take from the arrival of the bytes to the answer.
        extra: What is wanted beside the score, or in its place.
    """

    model: ServedModel
    crops: Crops | None = None
    priority: Priority = Priority.INTERACTIVE
    owner: str = ""
    seconds: float
    extra: Extra | None = None

    @property
    def preview(self) -> bool:
        """Whether a small copy of the picture is needed."""
        return self.extra in ("overlay", "stages")

    @property
    def spots(self) -> bool:
        """Whether its spots are needed."""
        return self.extra in ("map", "stages")

    @property
    def count(self) -> int:
        """Work items that one picture makes at most."""
        contract = self.model.config.contract
        crops = crop_rounds.max_crops(self.crops, contract) if contract.view == "crops" else 1
        return crops * (self.extra != "stages") + map_crops.MAX_CROPS * self.spots


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Where the time of an answer went, in seconds."""

    decode: float = 0.0
    queue: float = 0.0
    compute: float = 0.0


class PreparedPicture(NamedTuple):
    """A picture that has arrived.

    Attributes:
        name: What its score is kept under.
        deadline: When its score is of no use any more.
        known: Its score, if it was given before.
        decoded: Its work items; None if the score alone is enough.
        decode_seconds: How long the decoding took, and the waiting for it.
    """

    name: CacheKey
    deadline: float
    known: QualityScore | None
    decoded: Decoded | None
    decode_seconds: float


class ScoreResult(NamedTuple):
    """A score, and what goes with it.

    Attributes:
        score: The score.
        timing: Where the time went.
        cached: Whether the score was known.
        preview: A small copy of the picture, if one was asked for.
        score_map: The map, if it was asked for.
    """

    score: QualityScore
    timing: Timing
    cached: bool
    preview: Image.Image | None
    score_map: ScoreMap | None


def refusal(error: BatcherError | DecoderFull | RateExceeded, order: ScoreRequest) -> Problem:
    """What to tell the client of one of ``REFUSALS``."""
    match error:
        case QueueFull():
            detail = f"too much work waits; come again in {error.retry_after} s"
            return Problem("queue_full", detail, {"Retry-After": str(error.retry_after)})
        case RateExceeded():
            detail = f"this key has asked for too much; come again in {error.retry_after} s"
            return Problem("rate_limited", detail, {"Retry-After": str(error.retry_after)})
        case DecoderFull():
            detail = "too many pictures are being decoded; come again in 1 s"
            return Problem("queue_full", detail, {"Retry-After": "1"})
        case DeadlineExceeded():
            return Problem("deadline_exceeded", f"there was no answer within {order.seconds:g} s")
        case EngineFailed():
            return Problem("engine_failed", "the model failed on this picture twice; others are not affected")
    return Problem("device_lost", "nothing can be computed until the service is restarted")
