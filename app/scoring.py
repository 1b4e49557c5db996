"""The life of a picture inside the service: shed or let in, hashed, looked up, decoded, scored."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from opentelemetry import trace
from PIL import Image

from app import tracing
from app.batcher import Batcher
from app.cache import Name, ScoreCache
from app.decoding import Decoded, Decoder, DecoderFull
from app.errors import Problem
from app.metrics import Metrics
from app.models import ServedModel
from app.quarantine import Quarantine
from app.rates import RateExceeded, Rates
from app.sandbox import Sandbox
from app.settings import Settings
from app.upload import UploadBudget
from app.work import BatcherError, DeadlineExceeded, EngineFailed, Place, Priority, QueueFull
from model import adaptive
from model.adaptive import AUTO, Crops
from model.images import Limits
from model.scorer import QualityScore, aggregate

REFUSALS = (BatcherError, DecoderFull, RateExceeded)
"""Why a picture that may be sound gets no score."""
INLINE_BYTES = 2**18
"""Uploads up to this size are hashed on the event loop, in well under a millisecond."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked of a picture.

    Attributes:
        model: Which model is to score it.
        crops: How many crops; None for the contract's count, ``auto`` for as many of those as it needs.
        priority: Its class.
        owner: Name of the key that asks; "" where there are no keys.
        seconds: How long it may take from the arrival of the bytes to the answer.
        preview: Whether a small copy of the picture is wanted too.
    """

    model: ServedModel
    crops: Crops | None = None
    priority: Priority = Priority.INTERACTIVE
    owner: str = ""
    seconds: float
    preview: bool = False

    @property
    def count(self) -> int:
        """Work items that one picture makes at most."""
        contract = self.model.config.contract
        return adaptive.most(self.crops, contract) if contract.view == "crops" else 1


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Where the time of an answer went, in seconds."""

    decode: float = 0.0
    queue: float = 0.0
    compute: float = 0.0


class Upload(NamedTuple):
    """A picture that has arrived.

    Attributes:
        name: What its score is kept under.
        deadline: When its score is of no use any more.
        known: Its score, if it was given before.
        decoded: Its work items; None if the score alone is enough.
        decode_seconds: How long the decoding took, and the waiting for it.
    """

    name: Name
    deadline: float
    known: QualityScore | None
    decoded: Decoded | None
    decode_seconds: float


class Scored(NamedTuple):
    """A score, where the time went, a small copy of the picture if one was asked for, and if the score was known."""

    score: QualityScore
    timing: Timing
    preview: Image.Image | None
    cached: bool


class Scoring:
    """Takes pictures to their scores.

    Args:
        settings: How to run.
        metrics: Where it reports.
        batcher: Takes work items to their rows.
        clock: Seconds from a monotonic clock.
        tracer: Takes spans of where the time of answers went.

    Attributes:
        uploads: The budget of bytes.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        batcher: Batcher,
        *,
        clock: Callable[[], float],
        tracer: trace.Tracer,
    ) -> None:
        self._metrics = metrics
        self._batcher = batcher
        self._clock = clock
        self._tracer = tracer
        self._quarantine = Quarantine(clock)
        self._rates = Rates(settings.key_crops_per_second, clock)
        self._cache = ScoreCache(settings.cache_crops, metrics)
        self._decoder = Decoder(
            Limits(max_pixels=settings.max_pixels),
            threads=settings.decode_threads,
            max_decodes=settings.max_decodes,
            max_inflight_pixels=settings.max_inflight_pixels,
            sandbox=_sandbox(settings, metrics),
            metrics=metrics,
        )
        self.uploads = UploadBudget(settings.max_upload_bytes)

    def close(self) -> None:
        """End the decoder."""
        self._decoder.close()

    def check_room(self, order: Order) -> None:
        """Shed before anything is read: work that would be refused later should not be done.

        Raises:
            BatcherError: The queue is full, or the device is lost.
            RateExceeded: The owner has asked for too much lately.
        """
        self._batcher.check_room(order.count, order.count * order.model.config.contract.least_item_bytes)
        self._rates.take(order.owner, order.count)

    @contextmanager
    def reserve(self, order: Order, pictures: int) -> Iterator[Place]:
        """Let in several pictures, all or none: those let in will neither find the queue full nor the decoder.

        The first picture of them has been counted by ``check_room``.

        Raises:
            BatcherError, RateExceeded: As for ``check_room``.
            DecoderFull: Too many pictures are being decoded.
        """
        crops = pictures * order.count
        with (
            self._batcher.reserve(crops, crops * order.model.config.contract.most_item_bytes) as place,
            self._decoder.reserve(),
        ):
            if pictures > 1:
                self._rates.take(order.owner, crops - order.count)
            yield place

    def deadline(self, order: Order) -> float:
        """When the answer to what has arrived now is of no use any more, on the service's clock."""
        return self._clock() + order.seconds

    async def name(self, data: bytes, order: Order) -> Name:
        """Name what an order of some bytes will give."""
        if len(data) <= INLINE_BYTES:
            digest = hashlib.sha256(data)
        else:
            digest = await asyncio.to_thread(hashlib.sha256, data)
        crops = adaptive.PLAN if order.crops == AUTO else order.crops
        return Name(digest.hexdigest(), order.model.key, order.model.config.contract.id, crops)

    async def decode(
        self, data: bytes, order: Order, name: Name, deadline: float, place: Place | None = None
    ) -> Upload:
        """Decode an upload into the model's work items, unless its score is known.

        Args:
            data: The encoded picture.
            order: What is asked of it.
            name: From ``name``.
            deadline: From ``deadline``.
            place: From ``reserve``, if it is one of several.

        Raises:
            ImageError: The picture cannot be scored.
            DecoderFull: Too many pictures are being decoded.
            DeadlineExceeded: It took too long.
        """
        known = self._cache.get(name)
        if known is not None and not order.preview:
            return Upload(name, deadline, known, None, 0.0)
        began = self._clock()
        if began >= deadline:
            raise DeadlineExceeded
        try:
            async with asyncio.timeout(deadline - began):
                decoded = await self._decoder.decode(
                    data,
                    name.sha256,
                    order.model.config.contract,
                    order.crops,
                    preview=order.preview,
                    reserved=place is not None,
                )
        except TimeoutError as error:
            raise DeadlineExceeded from error
        return Upload(name, deadline, known, decoded, self._clock() - began)

    async def score(self, upload: Upload, order: Order, place: Place | None = None) -> Scored:
        """Score a decoded upload.

        Args:
            upload: From ``decode``.
            order: What is asked of it.
            place: From ``reserve``, if it is one of several.

        Raises:
            BatcherError: The batcher's reasons.
            Problem: The model failed on this picture lately.
        """
        preview = upload.decoded.preview if upload.decoded else None
        if upload.known is not None:
            self._count(upload.known, order)
            return Scored(upload.known, Timing(decode=upload.decode_seconds), preview, cached=True)
        assert upload.decoded is not None, "what is not known has been decoded"
        facts, rounds = upload.decoded.facts, upload.decoded.rounds
        failing = upload.name.sha256, order.model.digest
        if failing in self._quarantine:
            raise Problem(
                "image_quarantined", "the model failed on this picture; it is not tried again for five minutes"
            )
        queue = compute = 0.0
        try:
            with self._batcher.reserve(rounds.count, rounds.nbytes, place) as own:
                while (items := rounds.items) is not None:
                    answer = await self._batcher.submit(
                        order.model.key,
                        items,
                        deadline=upload.deadline,
                        priority=order.priority,
                        owner=order.owner,
                        place=own,
                    )
                    rounds.add(answer.rows_ND)
                    queue += answer.queue_seconds
                    compute += answer.compute_seconds
        except EngineFailed:
            self._quarantine.failed(failing)
            raise
        self._quarantine.went_well(failing)
        score = aggregate(rounds, facts, order.model.config.contract, order.model.id)
        self._cache.put(upload.name, score)
        self._count(score, order)
        timing = Timing(decode=upload.decode_seconds, queue=queue, compute=compute)
        tracing.record(
            self._tracer,
            time.time_ns(),
            decode=timing.decode,
            queue=timing.queue,
            compute=timing.compute,
            crops=len(score.crops),
        )
        return Scored(score, timing, preview, cached=False)

    def _count(self, score: QualityScore, order: Order) -> None:
        """Report a score, and charge its crops alone to the owner."""
        name = order.model.config.name
        self._metrics.score.labels(name).observe(score.score)
        for warning in score.warnings:
            self._metrics.image_warnings.labels(name, warning).inc()
        if order.crops == AUTO:
            self._metrics.auto_crops.observe(len(score.crops))
        self._rates.give_back(order.owner, order.count, len(score.crops))


def _sandbox(settings: Settings, metrics: Metrics) -> Sandbox | None:
    if settings.decoder == "threads":
        return None
    return Sandbox(
        workers=settings.decode_threads,
        memory_bytes=settings.decoder_memory_bytes,
        seconds=settings.decoder_seconds,
        replaced=metrics.decoders_replaced,
    )


def refusal(error: BatcherError | DecoderFull | RateExceeded, order: Order) -> Problem:
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
