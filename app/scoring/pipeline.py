"""The life of a picture inside the service: shed or let in, hashed, looked up, decoded, scored."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import trace

from app.batching.jobs import DeadlineExceeded, EngineFailed, Queue, Reservation
from app.decode.decoder import Decoder
from app.decode.sandbox import Sandbox
from app.http.problems import Problem
from app.http.upload import UploadBudget
from app.observability import tracing
from app.observability.metrics import Metrics
from app.scoring.cache import CacheKey, ScoreCache
from app.scoring.passage import Passage
from app.scoring.quarantine import Quarantine
from app.scoring.rate_limit import TokenBuckets
from app.scoring.request import PreparedPicture, ScoreRequest, ScoreResult, Timing
from app.settings import Settings
from model import crop_rounds
from model.crop_rounds import AUTO, CropRounds
from model.images import Limits
from model.maps.activations import read_stage
from model.maps.map_crops import MapCrops
from model.maps.overlay import render_activity
from model.score import QualityScore, aggregate

INLINE_BYTES = 2**18
"""Uploads up to this size are hashed on the event loop, in well under a millisecond."""


class Scoring:
    """Takes pictures to their scores.

    Args:
        settings: How to run.
        metrics: Where it reports.
        queue: Takes work items to their rows.
        clock: Seconds from a monotonic clock.
        tracer: Takes spans of where the time of answers went.

    Attributes:
        uploads: The budget of bytes.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        queue: Queue,
        *,
        clock: Callable[[], float],
        tracer: trace.Tracer,
    ) -> None:
        self._metrics = metrics
        self._queue = queue
        self._clock = clock
        self._tracer = tracer
        self._quarantine = Quarantine(clock)
        self._rates = TokenBuckets(settings.key_crops_per_second, clock)
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

    def check_room(self, order: ScoreRequest) -> None:
        """Shed before anything is read: work that would be refused later should not be done.

        Raises:
            BatcherError: The queue is full, or the device is lost.
            RateExceeded: The owner has asked for too much lately.
        """
        self._queue.check_room(order.count, order.count * order.model.config.contract.least_item_bytes)
        self._rates.take(order.owner, order.count)

    @contextmanager
    def reserve(self, order: ScoreRequest, pictures: int) -> Iterator[Reservation]:
        """Let in several pictures, all or none: those let in will neither find the queue full nor the decoder.

        The first picture of them has been counted by ``check_room``.

        Raises:
            BatcherError, RateExceeded: As for ``check_room``.
            DecoderFull: Too many pictures are being decoded.
        """
        crops = pictures * order.count
        with (
            self._queue.reserve(crops, crops * order.model.config.contract.most_item_bytes) as place,
            self._decoder.reserve(),
        ):
            if pictures > 1:
                self._rates.take(order.owner, crops - order.count)
            yield place

    def deadline(self, order: ScoreRequest) -> float:
        """When the answer to what has arrived now is of no use any more, on the service's clock."""
        return self._clock() + order.seconds

    async def name(self, data: bytes, order: ScoreRequest) -> CacheKey:
        """Name what an order of some bytes will give."""
        if len(data) <= INLINE_BYTES:
            digest = hashlib.sha256(data)
        else:
            digest = await asyncio.to_thread(hashlib.sha256, data)
        crops = crop_rounds.AUTO_ID if order.crops == AUTO else order.crops
        return CacheKey(digest.hexdigest(), order.model.key, order.model.config.contract.id, crops)

    async def decode(
        self, data: bytes, order: ScoreRequest, name: CacheKey, deadline: float, place: Reservation | None = None
    ) -> PreparedPicture:
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
        known = self._cache.get(name) if order.extra != "stages" else None
        if known is not None and order.extra is None:
            return PreparedPicture(name, deadline, known, None, 0.0)
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
                    spots=order.spots,
                    reserved=place is not None,
                )
        except TimeoutError as error:
            raise DeadlineExceeded from error
        return PreparedPicture(name, deadline, known, decoded, self._clock() - began)

    async def score(
        self, upload: PreparedPicture, order: ScoreRequest, place: Reservation | None = None
    ) -> ScoreResult:
        """Score a decoded upload, and map its quality if that was asked for.

        Args:
            upload: From ``decode``.
            order: What is asked of it.
            place: From ``reserve``, if it is one of several.

        Raises:
            BatcherError: The batcher's reasons.
            Problem: The model failed on this picture lately.
        """
        decoded, score, score_map = upload.decoded, upload.known, None
        contract = order.model.config.contract
        spots = decoded.spots if decoded is not None else None
        # A known score is not made again for the sake of what goes with it.
        rounds = decoded.rounds if decoded is not None and score is None else None
        timing = Timing(decode=upload.decode_seconds)
        if rounds is not None or spots is not None:
            with self._passage(upload, order, (rounds, spots), place) as passage:
                while rounds is not None and (items := rounds.items) is not None:
                    rounds.add(await passage.rows(order.model.key, items))
                if spots is not None:
                    score_map = spots.score_map(await passage.rows(order.model.key, spots.items), contract)
            timing = passage.timing
        if rounds is not None:
            assert decoded is not None
            score = aggregate(rounds, decoded.facts, contract, order.model.id)
            self._cache.put(upload.name, score)
        assert score is not None, "what is not known has been decoded"
        crops = len(score.crops) + (spots.count if spots is not None else 0)
        self._count(score, order, crops)
        if upload.known is None:
            self._trace(timing, crops)
        return ScoreResult(score, timing, upload.known is not None, decoded.preview if decoded else None, score_map)

    async def activity(self, upload: PreparedPicture, order: ScoreRequest, stage: int) -> Callable[[], bytes]:
        """Map the activity of a stage over a decoded upload.

        Args:
            upload: From ``decode``.
            order: One of ``stages``.
            stage: Which one, from 1.

        Raises:
            BatcherError: The batcher's reasons.
            Problem: The model failed on this picture lately.

        Returns:
            What draws it as a PNG, in some ten milliseconds of any thread.
        """
        assert upload.decoded is not None
        preview, spots = upload.decoded.preview, upload.decoded.spots
        assert preview is not None
        assert spots is not None
        with self._passage(upload, order, (spots,)) as passage:
            rows_ND = await passage.rows(order.model.stages_key, spots.items)
        self._rates.give_back(order.owner, order.count, spots.count)
        self._trace(passage.timing, spots.count)
        maps_NHW = read_stage(rows_ND, order.model.stage_shapes, stage)
        return lambda: render_activity(preview, spots.activity_map(maps_NHW))

    @contextmanager
    def _passage(
        self,
        upload: PreparedPicture,
        order: ScoreRequest,
        parts: Sequence[CropRounds | MapCrops | None],
        place: Reservation | None = None,
    ) -> Iterator[Passage]:
        """Keep room for parts of a picture on the device, and remember a picture that the model fails on."""
        failing = upload.name.sha256, order.model.digest
        if failing in self._quarantine:
            raise Problem(
                "image_quarantined", "the model failed on this picture; it is not tried again for five minutes"
            )
        there = [part for part in parts if part is not None]
        count, size = sum(part.count for part in there), sum(part.nbytes for part in there)
        try:
            with self._queue.reserve(count, size, place) as own:
                yield Passage(self._queue, upload, order, own)
        except EngineFailed:
            self._quarantine.failed(failing)
            raise
        self._quarantine.went_well(failing)

    def _trace(self, timing: Timing, crops: int) -> None:
        tracing.record(
            self._tracer,
            time.time_ns(),
            decode=timing.decode,
            queue=timing.queue,
            compute=timing.compute,
            crops=crops,
        )

    def _count(self, score: QualityScore, order: ScoreRequest, used: int) -> None:
        """Report a score, and charge the crops that were used alone to the owner."""
        name = order.model.config.name
        self._metrics.score.labels(name).observe(score.score)
        for warning in score.warnings:
            self._metrics.image_warnings.labels(name, warning).inc()
        if order.crops == AUTO:
            self._metrics.auto_crops.observe(len(score.crops))
        self._rates.give_back(order.owner, order.count, used)


def _sandbox(settings: Settings, metrics: Metrics) -> Sandbox | None:
    if settings.decoder == "threads":
        return None
    return Sandbox(
        workers=settings.decode_threads,
        memory_bytes=settings.decoder_memory_bytes,
        seconds=settings.decoder_seconds,
        replaced=metrics.decoders_replaced,
    )
