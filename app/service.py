"""The service itself, without HTTP: upload bytes in, scores out, and the state that readiness tells of."""

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from opentelemetry import trace
from PIL import Image

from app import tracing
from app.batcher import Batcher
from app.decoding import Decoded, Decoder
from app.device import DeviceThread, Outcome
from app.errors import Problem
from app.generations import Generations
from app.metrics import Metrics
from app.models import ServedModel
from app.quarantine import Quarantine
from app.rates import Rates
from app.reload import Load, load_again
from app.sandbox import Sandbox
from app.settings import Settings
from app.upload import UploadBudget
from app.work import DeadlineExceeded, DeviceLost, EngineFailed, Priority
from model.allocator import keep_freed_memory
from model.images import Limits
from model.scorer import QualityScore, aggregate

log = logging.getLogger("smart_iqa.service")

WATCH_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Where the time of an answer went, in seconds."""

    decode: float
    queue: float
    compute: float


class Upload(NamedTuple):
    """A decoded upload, when its bytes had arrived, and how long the decoding took."""

    decoded: Decoded
    arrived: float
    decode_seconds: float


class Scored(NamedTuple):
    """A score, where the time went, and a small copy of the picture if one was asked for."""

    score: QualityScore
    timing: Timing
    preview: Image.Image | None


class Service:
    """Holds the models, the decoder and the batcher.

    Args:
        settings: How to run.
        metrics: Where it reports.
        load: Makes the models.
        clock: Seconds from a monotonic clock.
        on_loss: Called once when the device is lost; only a new process will have it again.
        tracer: Takes spans of where the time of answers went.

    Attributes:
        draining: Whether new work is refused.
        generations: The models, and who may hold them.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        load: Load,
        clock: Callable[[], float],
        on_loss: Callable[[], object] = lambda: None,
        tracer: trace.Tracer | None = None,
    ) -> None:
        self.settings = settings
        self.draining = False
        self.generations = Generations(self._forget)
        self._reloading = asyncio.Lock()
        self._tracer = tracer or trace.NoOpTracer()
        self._metrics = metrics
        self._load = load
        self._clock = clock
        self._decoder = Decoder(
            Limits(max_pixels=settings.max_pixels),
            threads=settings.decode_threads,
            max_decodes=settings.max_decodes,
            max_inflight_pixels=settings.max_inflight_pixels,
            sandbox=self._sandbox(),
            metrics=metrics,
        )
        self.uploads = UploadBudget(settings.max_upload_bytes)
        # Before the first thread: a thread that has taken memory stays with the arena that it took it from.
        keep_freed_memory()
        self._device = DeviceThread("device")
        self._batcher: Batcher | None = None
        self._quarantine = Quarantine(clock)
        self._rates = Rates(settings.key_crops_per_second, clock)
        self._on_loss = on_loss
        self._watch: asyncio.Task[None] | None = None
        self._broken = ""
        metrics.ready.set_function(lambda: float(self.unready_because() is None))

    def _sandbox(self) -> Sandbox | None:
        if self.settings.decoder == "threads":
            return None
        return Sandbox(
            workers=self.settings.decode_threads,
            memory_bytes=self.settings.decoder_memory_bytes,
            seconds=self.settings.decoder_seconds,
            replaced=self._metrics.decoders_replaced,
        )

    def start(self) -> None:
        """Begin to load the models; until then, and if that fails, the service is alive but not ready."""
        loop = asyncio.get_running_loop()
        # On the device thread, like all work of the engines: a second thread that computes would cost the first one its
        # share of the cores, for as long as the process lives.
        self._device.run(
            partial(self._load, self.settings), lambda outcome: loop.call_soon_threadsafe(self._take, outcome)
        )
        self._watch = loop.create_task(self._watch_device())

    async def _watch_device(self) -> None:
        """Notice a device thread that has ended, or hangs, also when nobody asks."""
        while self.alive:
            await asyncio.sleep(WATCH_SECONDS)
        log.critical("the device is lost: whoever waits is told, and only a restart will help")
        if self._batcher is not None:
            self._batcher.give_up()
        self._on_loss()

    def _take(self, outcome: Outcome[Mapping[str, ServedModel]]) -> None:
        models = outcome.value
        if models is None:
            log.error("the models cannot be loaded: the service will not become ready")
            self._broken = f"the models cannot be loaded ({type(outcome.error).__name__})"
            return
        self._install(models)

    def _install(self, models: Mapping[str, ServedModel]) -> None:
        """Let requests have these models from now on."""
        if self._batcher is None:
            self._batcher = Batcher(
                {},
                self._device,
                self._metrics,
                clock=self._clock,
                max_queue_crops=self.settings.max_queue_crops,
                max_queue_bytes=self.settings.max_queue_bytes,
                hang_seconds=self.settings.hang_seconds,
            )
        for model in models.values():
            self._batcher.put_engine(model.key, model.engine)
        self._broken = ""
        self._metrics.model_info.clear()
        for model in models.values():
            self._metrics.model_info.labels(
                model.config.name, model.digest, model.config.contract.id, model.device, model.precision
            ).set(1)
        self.generations.replace(models)

    def _forget(self, keys: list[str]) -> None:
        assert self._batcher is not None
        for key in keys:
            self._batcher.drop_engine(key)
        # Tracebacks of failed requests may hold a model in a circle, and with torch loaded the collector hardly ever
        # comes to look by itself: there is too much to look at (0.15 s).
        self._device.run(gc.collect, lambda _: None)

    async def reload(self, folders: Sequence[Path] = ()) -> tuple[dict[str, str], dict[str, str]]:
        """Load checkpoints, prove them, and exchange the models at once while requests go on.

        Args:
            folders: The checkpoints; the configured ones if empty.

        Returns:
            The digests by name, before and after.

        Raises:
            Problem: A checkpoint cannot be used; the models that were there stay.
        """
        async with self._reloading:
            old = {name: model.digest for name, model in self.models.items()}
            folders = folders or self.settings.checkpoints
            try:
                models = await load_again(self._load, self.settings, folders, self.models, self._device)
            except DeviceLost as error:
                raise Problem("device_lost", "nothing can be loaded until the service is restarted") from error
            except Exception as error:
                log.error("the models that are loaded stay: %s: %s", type(error).__name__, error)
                detail = f"the models that are loaded stay; the reason is {type(error).__name__}, the log says more"
                raise Problem("reload_failed", detail) from error
            self._install(models)
            new = {name: model.digest for name, model in models.items()}
            log.info("the models are now %s", ", ".join(f"{name} {digest[:19]}" for name, digest in new.items()))
            return old, new

    def drain(self, *, undo: bool = False) -> None:
        """Take no new work, or take it again; what was accepted is finished."""
        if self.draining == undo:
            log.info("new work is %s", "taken again" if undo else "refused")
        self.draining = not undo

    def close(self) -> None:
        """End the threads and processes; whatever was accepted has been answered by now."""
        if self._watch is not None:
            self._watch.cancel()
        self._decoder.close()
        self._device.close()

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """The loaded models by name, the default one first."""
        return self.generations.current

    @property
    def alive(self) -> bool:
        """Whether a restart would not help: false once the device thread has ended."""
        return self._device.alive if self._batcher is None else self._batcher.alive

    def unready_because(self) -> str | None:
        """Why requests should go elsewhere; None if they are welcome."""
        if self.draining:
            return "the service is about to stop"
        if self._broken:
            return self._broken
        if self._batcher is None:
            return "the models are being loaded"
        if not self.models:
            return "no model is loaded"
        if not self._batcher.alive:
            return "the device thread has ended"
        return None if self._batcher.healthy else "the engine keeps failing"

    def model(self, name: str | None) -> ServedModel:
        """Find a model by name, the default one for None.

        Raises:
            Problem: There is none of that name, or none yet.
        """
        if not self.models:
            raise Problem("not_ready", self.unready_because() or "no model is loaded", {"Retry-After": "5"})
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise Problem("unknown_model", f"the loaded models are {', '.join(self.models)}")
        return self.models[name]

    def check_room(self, model: ServedModel, crops: int | None, owner: str) -> None:
        """Shed before anything is read: work that would be refused later should not be done.

        Raises:
            BatcherError: The queue is full, or the device is lost.
            RateExceeded: The owner has asked for too much lately.
        """
        assert self._batcher is not None
        contract = model.config.contract
        count = (crops or contract.crops) if contract.view == "crops" else 1
        self._batcher.check_room(count, count * contract.least_item_bytes)
        self._rates.take(owner, count)

    async def decode(
        self, data: bytes, model: ServedModel, *, crops: int | None, preview: bool, seconds: float
    ) -> Upload:
        """Decode an upload into the model's work items.

        Args:
            data: The encoded picture.
            model: Which model.
            crops: How many crops; the contract's count if None.
            preview: Whether to keep a small copy of the picture.
            seconds: How long it may take.

        Raises:
            ImageError: The picture cannot be scored.
            DecoderFull: Too many pictures are being decoded.
            DeadlineExceeded: It took too long.
        """
        arrived = self._clock()
        try:
            async with asyncio.timeout(seconds):
                decoded = await self._decoder.decode(data, model.config.contract, crops, preview=preview)
        except TimeoutError as error:
            raise DeadlineExceeded from error
        return Upload(decoded, arrived, self._clock() - arrived)

    async def score(
        self, upload: Upload, model: ServedModel, *, priority: Priority, owner: str, seconds: float
    ) -> Scored:
        """Score a decoded upload.

        Args:
            upload: From ``decode``.
            model: The model that it was decoded for.
            priority: Its class.
            owner: Who asks.
            seconds: How long it may take from the arrival of the upload on.

        Raises:
            BatcherError: The batcher's reasons.
            Problem: The model failed on this picture lately.
        """
        assert self._batcher is not None
        decoded, contract = upload.decoded, model.config.contract
        name = decoded.facts.sha256, model.digest
        if name in self._quarantine:
            raise Problem(
                "image_quarantined", "the model failed on this picture; it is not tried again for five minutes"
            )
        try:
            answer = await self._batcher.submit(
                model.key,
                decoded.views.items,
                deadline=upload.arrived + seconds,
                priority=priority,
                owner=owner,
            )
        except EngineFailed:
            self._quarantine.failed(name)
            raise
        self._quarantine.went_well(name)
        score = aggregate(answer.rows_ND, decoded.facts, decoded.views, contract, model.id)
        self._metrics.score.labels(model.config.name).observe(score.score)
        timing = Timing(decode=upload.decode_seconds, queue=answer.queue_seconds, compute=answer.compute_seconds)
        tracing.record(
            self._tracer,
            time.time_ns(),
            decode=timing.decode,
            queue=timing.queue,
            compute=timing.compute,
            crops=len(score.crops),
        )
        return Scored(score, timing, decoded.preview)
