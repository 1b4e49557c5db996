"""The pipeline of a picture from admission to result, the same for ``/score``, ``/attention`` and ``/score/batch``.

    shed      refuse a request that the queue or the rate limit has no capacity for, before a byte is read
    reserve   (several pictures) reserve queue capacity for all of them or none
    prepare   look the score up; else decode the picture and cut its crops
    score     reserve queue capacity unless ``reserve`` has, compute the rows, aggregate them

Capacity is reserved once for each picture. ``shed`` reserves nothing: an upload may take half a minute, and a
reservation would keep others out meanwhile.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from opentelemetry import trace

from app.batching.capacity import Reservation
from app.batching.errors import DeadlineExceeded, EngineFailed
from app.batching.submission import Items, Queue, Rows, Submission
from app.decode.decoder import Decoder
from app.decode.sandbox import Sandbox
from app.observability import tracing
from app.observability.metrics import Metrics
from app.scoring.cache import CacheKey, ImageQuarantined, Quarantine, ScoreCache
from app.scoring.rate_limit import TokenBuckets
from app.scoring.request import PreparedPicture, ScoreRequest, ScoreResult, Timing
from app.settings import Settings
from model import crop_rounds
from model.crop_rounds import AUTO
from model.images import Limits
from model.maps.activations import read_stage
from model.maps.overlay import render_activity
from model.score import QualityScore, aggregate

INLINE_BYTES = 2**18
"""Uploads up to this size are hashed on the event loop, in well under a millisecond."""


class Pipeline:
    """Scores pictures: looks them up, decodes them, has their crops computed, and aggregates the rows.

    Args:
        settings: How to run.
        metrics: The metrics of the service.
        queue: Computes the rows of work items.
        clock: Returns seconds of a monotonic clock.
        tracer: Records a span for each phase of an answer; None records none.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        queue: Queue,
        *,
        clock: Callable[[], float],
        tracer: trace.Tracer | None,
    ) -> None:
        self._metrics = metrics
        self._queue = queue
        self._clock = clock
        self._tracer = tracer
        self._cache = ScoreCache(settings.cache_crops, metrics)
        self._quarantine = Quarantine(clock)
        rate = settings.key_crops_per_second
        self._rate_limit = TokenBuckets(rate, clock) if rate else None
        self._decoder = Decoder(
            Limits(max_pixels=settings.max_pixels, seconds=settings.decode_seconds),
            threads=settings.decode_threads,
            max_decodes=settings.max_decodes,
            max_inflight_pixels=settings.max_inflight_pixels,
            sandbox=make_sandbox(settings, metrics),
            metrics=metrics,
            clock=clock,
        )

    def close(self) -> None:
        """End the decoder."""
        self._decoder.close()

    def shed(self, request: ScoreRequest) -> None:
        """Refuse a request before its body is read, if there is no capacity for one of its pictures now.

        Raises:
            BatcherError: The queue is full, or the device is lost.
            RateExceeded: The owner's token bucket has too few crops.
        """
        crops = request.max_crops
        self._queue.check(crops, crops * request.model.config.contract.least_item_bytes)
        if self._rate_limit is not None:
            self._rate_limit.take(request.owner, crops)

    @contextmanager
    def reserve(self, request: ScoreRequest, pictures: int) -> Iterator[list[Reservation]]:
        """Reserve capacity for several pictures, all or none: a queue reservation for each, one decoder slot for all.

        They must be decoded one after the other. ``shed`` has already charged the first one to the rate limit.

        Raises:
            BatcherError, RateExceeded: As for ``shed``.
            DecoderFull: Too many pictures are being decoded.
        """
        crops = request.max_crops
        size = crops * request.model.config.contract.most_item_bytes
        with ExitStack() as stack:
            reservations = [stack.enter_context(self._queue.reserve(crops, size)) for _ in range(pictures)]
            stack.enter_context(self._decoder.reserve(request.owner, request.priority))
            if self._rate_limit is not None and pictures > 1:
                self._rate_limit.take(request.owner, crops * (pictures - 1))
            yield reservations

    def deadline(self, request: ScoreRequest) -> float:
        """Deadline of a picture whose bytes have just arrived, on the pipeline's clock."""
        return self._clock() + request.seconds

    async def cache_key(self, data: bytes, request: ScoreRequest) -> CacheKey:
        """The key of a picture's score in the cache."""
        if len(data) <= INLINE_BYTES:
            digest = hashlib.sha256(data)
        else:
            digest = await asyncio.to_thread(hashlib.sha256, data)
        crops = crop_rounds.AUTO_ID if request.crops == AUTO else request.crops
        calibration = request.policy.calibration if request.policy is not None else None
        own = "" if calibration is None else calibration.id
        return CacheKey(digest.hexdigest(), request.model.key, request.model.config.contract.id, crops, own)

    async def prepare(
        self,
        data: bytes,
        request: ScoreRequest,
        key: CacheKey,
        deadline: float,
        reservation: Reservation | None = None,
    ) -> PreparedPicture:
        """Look the score of a picture up, and decode the picture unless the score is all that is needed.

        Args:
            data: The encoded picture.
            request: The parameters of its request.
            key: From ``cache_key``.
            deadline: From ``deadline``.
            reservation: From ``reserve``, if it is one of several pictures.

        Raises:
            ImageError: The picture cannot be scored.
            DecoderFull: Too many pictures are being decoded or wait for it.
            DeadlineExceeded: It took too long.
        """
        known = self._cache.get(key) if request.needs_score else None
        if request.needs_score:
            request.record.look_up(hit=known is not None)
        if known is not None and not (request.needs_preview or request.needs_map_crops):
            return PreparedPicture(request, key, deadline, known, None, 0.0, 0.0, reservation)
        began = self._clock()
        if began >= deadline:
            raise DeadlineExceeded(request.seconds)
        try:
            async with asyncio.timeout(deadline - began):
                decoded = await self._decoder.decode(
                    data,
                    key.sha256,
                    request.model.config.contract,
                    request.crops,
                    preview=request.needs_preview,
                    map_crops=request.needs_map_crops,
                    look=request.pick,
                    reserved=reservation is not None,
                    owner=request.owner,
                    priority=request.priority,
                    record=request.record,
                )
        except TimeoutError as error:
            raise DeadlineExceeded(request.seconds) from error
        wait = max(self._clock() - began - decoded.seconds, 0.0)
        return PreparedPicture(request, key, deadline, known, decoded, wait, decoded.seconds, reservation)

    async def score(self, picture: PreparedPicture) -> ScoreResult:
        """Score a prepared picture, and map its quality if requested.

        Raises:
            BatcherError: The queue is full, the deadline passed, the engine failed, or the device is lost.
            ImageQuarantined: The model failed on this picture lately.
        """
        request, decoded = picture.request, picture.decoded
        contract = request.model.config.contract
        timing = Timing(decode_wait=picture.decode_wait_seconds, decode=picture.decode_seconds)
        # Reuse a cached score even when a map must be computed.
        score, score_map = picture.known, None
        rounds = decoded.rounds if decoded is not None and score is None else None
        map_crops = decoded.map_crops if decoded is not None else None
        parts = [part for part in (rounds, map_crops) if part is not None]
        if parts:
            crops, size = sum(part.count for part in parts), sum(part.nbytes for part in parts)
            with self._computing(picture, crops, size) as reservation:
                while rounds is not None and (items := rounds.items) is not None:
                    rounds.add(await self._rows(picture, reservation, request.model.key, items, timing))
                if map_crops is not None:
                    rows_ND = await self._rows(picture, reservation, request.model.key, map_crops.items, timing)
                    score_map = map_crops.score_map(rows_ND, contract)
        if rounds is not None:
            assert decoded is not None
            score = aggregate(rounds, decoded.facts, contract, request.model.id)
            score = score if request.policy is None else request.policy.corrected(score)
            self._cache.put(picture.key, score)
        assert score is not None, "what is not known has been decoded"
        decision = None if request.policy is None else request.policy.decide(score, request.language)
        self._report(picture, score, timing, len(score.crops) + (map_crops.count if map_crops is not None else 0))
        if decision is not None:
            self._metrics.decided(decision.policy, decision.outcome, {reason.code for reason in decision.reasons})
        preview, look = (None, None) if decoded is None else (decoded.preview, decoded.look)
        return ScoreResult(score, timing, picture.known is not None, preview, score_map, decision, look)

    async def activity(self, picture: PreparedPicture) -> Callable[[], bytes]:
        """Compute the activity of a stage over a prepared picture.

        Raises:
            BatcherError: The queue is full, the deadline passed, the engine failed, or the device is lost.
            ImageQuarantined: The model failed on this picture lately.

        Returns:
            A function that draws it as a PNG; takes tens of milliseconds, on any thread.
        """
        request, decoded = picture.request, picture.decoded
        assert decoded is not None
        preview, map_crops = decoded.preview, decoded.map_crops
        assert preview is not None
        assert map_crops is not None
        assert request.stage is not None
        timing = Timing(decode_wait=picture.decode_wait_seconds, decode=picture.decode_seconds)
        with self._computing(picture, map_crops.count, map_crops.nbytes) as reservation:
            rows_ND = await self._rows(picture, reservation, request.model.stages_key, map_crops.items, timing)
        self._refund(request, map_crops.count)
        self._trace(timing, map_crops.count)
        maps_NHW = read_stage(rows_ND, request.model.stage_shapes, request.stage)
        return lambda: render_activity(preview, map_crops.activity_map(maps_NHW))

    @contextmanager
    def _computing(self, picture: PreparedPicture, crops: int, size: int) -> Iterator[Reservation]:
        """Hold the queue capacity of a picture, and report to the quarantine whether the engine failed on it."""
        failing = picture.key.sha256, picture.request.model.digest
        if failing in self._quarantine:
            raise ImageQuarantined
        try:
            with picture.reservation or self._queue.reserve(crops, size) as reservation:
                yield reservation
        except EngineFailed:
            self._quarantine.failed(failing)
            raise
        except DeadlineExceeded as error:
            raise DeadlineExceeded(picture.request.seconds) from error
        self._quarantine.went_well(failing)

    async def _rows(
        self, picture: PreparedPicture, reservation: Reservation, key: str, items: Items, timing: Timing
    ) -> Rows:
        """Compute the rows of some items of a picture, and add their time to ``timing``."""
        began, record = self._clock(), picture.request.record
        try:
            answer = await self._queue.submit(
                Submission(
                    key=key,
                    items=items,
                    deadline=picture.deadline,
                    priority=picture.request.priority,
                    owner=picture.request.owner,
                    reservation=reservation,
                )
            )
        except BaseException:
            # Most that come to nothing have waited: their deadline passed, or their client left.
            record.spend(queue=self._clock() - began)
            raise
        record.spend(queue=answer.queue_seconds, compute=answer.compute_seconds)
        timing.queue += answer.queue_seconds
        timing.compute += answer.compute_seconds
        return answer.rows_ND

    def _report(self, picture: PreparedPicture, score: QualityScore, timing: Timing, crops: int) -> None:
        """Record the metrics and the trace of a score, and refund the unused crops to the owner's rate limit."""
        name = picture.request.model.config.name
        # As the model scores, whoever's taste corrects it: it is shown beside the scores of the training photos.
        self._metrics.score.labels(name).observe(score.contract.scale.to_percent(score.raw_score))
        picture.request.record.warn(score.warnings)
        for warning in score.warnings:
            self._metrics.image_warnings.labels(name, warning).inc()
        if picture.request.crops == AUTO:
            self._metrics.auto_crops.observe(len(score.crops))
        self._refund(picture.request, crops)
        if picture.known is None:
            self._trace(timing, crops)

    def _refund(self, request: ScoreRequest, used: int) -> None:
        if self._rate_limit is not None:
            self._rate_limit.refund(request.owner, request.max_crops, used)

    def _trace(self, timing: Timing, crops: int) -> None:
        if self._tracer is not None:
            tracing.record(
                self._tracer,
                time.time_ns(),
                decode_wait=timing.decode_wait,
                decode=timing.decode,
                queue=timing.queue,
                compute=timing.compute,
                crops=crops,
            )


def make_sandbox(settings: Settings, metrics: Metrics) -> Sandbox | None:
    """The decoder processes that the settings ask for; None for threads."""
    if settings.decoder_kind == "threads":
        return None
    return Sandbox(
        workers=settings.decode_threads,
        memory_bytes=settings.decoder_memory_bytes,
        seconds=settings.decode_seconds,
        replaced=metrics.decoders_replaced,
    )
