"""Prometheus metrics of the service: prefix ``smartiqa_``, in seconds and other base units."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from app.observability.access import STAGES

# Prometheus has no use for the time at which each series began, which would be a fifth of all lines.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library lacks the types

# Histogram buckets from 1 ms to 33 s, each twice the one before.
_SECONDS = tuple(0.001 * 2**power for power in range(16))


class Metrics:
    """All metrics of one service; each service has its own registry."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str, values: tuple[str, ...] = ()) -> Counter:
            made = Counter(f"smartiqa_{name}", text, labels, registry=registry)
            # Series with known labels start at 0: Prometheus would not count the first event of a new series as an
            # increase.
            for value in values:
                made.labels(value)
            return made

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"smartiqa_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"smartiqa_{name}", text, labels, buckets=buckets, registry=registry)

        self.requests = counter("requests", "Requests answered.", "route", "code")
        self.rejections = counter(
            "rejections", "Requests, and pictures of a batch, answered with a problem, by its code.", "reason"
        )
        self.dropped = counter(
            "dropped",
            "Accepted requests dropped before the device: disconnect, deadline.",
            "reason",
            values=("disconnect", "deadline"),
        )
        self.key_requests = counter(
            "key_requests", "Requests answered, by key and by class of the status.", "key", "code"
        )
        self.key_seconds = counter("key_stage_seconds", "Time of requests, by key and stage.", "key", "stage")
        self.slow_requests = counter("slow_requests", "Requests that took long enough for a warning in the log.")
        self.in_flight = gauge("requests_in_flight", "Requests being worked on.")

        self.connections = gauge("connections", "Connections that are open.")

        self.request_seconds = histogram("request_seconds", "From first header to last byte.", _SECONDS, "route")
        self.decode_wait_seconds = histogram(
            "decode_wait_seconds",
            "From queued for a decoder thread, and for room, to the thread that decodes.",
            _SECONDS,
        )
        self.decode_seconds = histogram(
            "decode_seconds", "Decoding, resizing and cropping one picture, without its wait.", _SECONDS
        )
        self.decode_threads = gauge("decode_threads", "Pictures that can be decoded at a time.")
        self.decode_pending = gauge(
            "decode_pending", "Pictures being decoded or waiting for it; a batch counts as one."
        )
        self.decode_drain = gauge(
            "decode_drain_seconds", "Pictures waiting to be decoded, in seconds by what pictures took lately."
        )
        self.decode_pixels = gauge("decode_pixels", "Pixels of the pictures being decoded.")
        self.decoders_replaced = counter(
            "decoders_replaced",
            "Decoder processes replaced by why: died, overran, memory, nonsense; idle if no picture is to blame.",
            "reason",
            values=("died", "overran", "memory", "nonsense", "idle"),
        )
        self.queue_seconds = histogram("queue_seconds", "From queued to the first crop on the device.", _SECONDS)
        self.compute_seconds = histogram("compute_seconds", "One batch on the device.", _SECONDS)

        self.batch_crops = histogram("batch_crops", "Crops in a batch.", tuple(float(2**power) for power in range(9)))
        self.batch_fill = histogram(
            "batch_fill_ratio", "Crops of a batch by the most that fit.", tuple(tenth / 10 for tenth in range(1, 11))
        )
        self.batch_flush = counter(
            "batch_flush",
            "Batches by what sent them off: full, idle device, retry.",
            "reason",
            values=("full", "idle", "retry"),
        )
        self.device_batches = counter("device_batches", "Batches that a device has computed.", "device")
        self.batch_failures = counter("batch_failures", "Batches that the engine failed on.", "kind")
        self.lanes = gauge("lanes", "Batches that can be under way at a time, on all devices together.")
        self.queue_crops = gauge("queue_crops", "Crops waiting for the device.")
        self.queue_bytes = gauge("queue_bytes", "Memory of the crops waiting for the device.")
        self.queue_wait = gauge(
            "queue_drain_seconds", "Work waiting for the device, in seconds by what its models took lately."
        )

        self.cache = counter(
            "cache", "Pictures looked up among the scores given before: hit, miss.", "result", values=("hit", "miss")
        )
        self.cache_crops = gauge("cache_crops", "Crops whose scores are kept.")

        self.score = histogram("score", "Scores given.", tuple(float(edge) for edge in range(5, 101, 5)), "model")
        self.training_score = gauge(
            "training_score", "Scores that a share of the training photos reach at most.", "model", "share"
        )
        self.image_warnings = counter("image_warnings", "Warnings in answers.", "model", "warning")
        self.decisions = counter("decisions", "Decisions by policy: accept, review, reject.", "policy", "outcome")
        self.decision_reasons = counter(
            "decision_reasons", "Reasons of decisions, by the codes of rules.", "policy", "outcome", "reason"
        )
        self.auto_crops = histogram(
            "auto_crops", "Crops behind the answers to crops=auto.", tuple(float(2**power) for power in range(7))
        )
        self.megapixels = histogram(
            "input_megapixels", "Sizes of pictures.", (0.1, 0.25, 0.5, 1, 2, 4, 8, 12, 16, 32, 64)
        )
        self.input_format = counter("input_format", "Pictures by format.", "format")
        self.model_info = gauge(
            "model_info", "Loaded models; always 1.", "name", "digest", "contract", "device", "precision"
        )
        self.reloads = counter("reloads", "Exchanges of the models: done, failed.", "result", values=("done", "failed"))
        self.ready = gauge("ready", "1 while the service is ready.")
        self.device_lost = gauge("device_lost", "1 once the device is lost, until the process ends.")
        self.build_info = gauge("build_info", "The release; always 1.", "version")
        # Memory, CPU time, open files and start time of this process, without its decoder processes.
        ProcessCollector(namespace="smartiqa", registry=registry)

    def answer(self, route: str, status: str) -> None:
        """Begin the series of a route's answers with a status at 0, as those of all known labels."""
        self.requests.labels(route, status)
        self.request_seconds.labels(route)

    def decided(self, policy: str, outcome: str, reasons: Iterable[str]) -> None:
        """Count a decision, and each of its reasons."""
        self.decisions.labels(policy, outcome).inc()
        for reason in reasons:
            self.decision_reasons.labels(policy, outcome, reason).inc()

    def collect(self) -> list[Metric]:
        """Collect the current values of all metrics."""
        return list(self._registry.collect())

    def render(self, accept: str = "") -> "Rendered":
        """Write all metrics.

        Args:
            accept: The header ``Accept`` of who asks.
        """
        return render(self._registry, accept)


class KeyMetrics:
    """Counts requests by the name of their key: a bounded number of keys by name, all further ones as ``OTHER``.

    A name that was counted once keeps its series, so that a file of keys that changes often adds none beyond the bound.

    Args:
        metrics: The metrics of the service.
        most: How many keys are counted by name, the first by name; 0 counts none, nor the others.
        names: Returns the names of all keys.
    """

    OTHER = "other"
    CODES = ("2xx", "3xx", "4xx", "5xx")

    def __init__(self, metrics: Metrics, most: int, names: Callable[[], set[str]]) -> None:
        self._metrics = metrics
        self._most = most
        self._shown: set[str] = set()
        known = sorted(names())
        for name in known[:most]:
            self._begin(name)
        if 0 < most < len(known):
            self._begin(self.OTHER)

    def count(self, key: str, status: int, stages: Mapping[str, float]) -> None:
        """Count a request, and the seconds of its stages, by their names."""
        if not self._most:
            return
        if key not in self._shown and len(self._shown - {self.OTHER}) < self._most:
            self._begin(key)
        shown = key if key in self._shown else self.OTHER
        self._metrics.key_requests.labels(shown, f"{status // 100}xx").inc()
        for stage, seconds in stages.items():
            self._metrics.key_seconds.labels(shown, stage).inc(seconds)

    def _begin(self, name: str) -> None:
        """Begin the series of a key at 0."""
        self._shown.add(name)
        for code in self.CODES:
            self._metrics.key_requests.labels(name, code)
        for stage in STAGES:
            self._metrics.key_seconds.labels(name, stage)


class Rendered(NamedTuple):
    """Metrics as text.

    Attributes:
        text: The text.
        media_type: Its media type.
    """

    text: bytes
    media_type: str


def render(registry: Collector, accept: str = "") -> Rendered:
    """Write metrics in OpenMetrics, which has exemplars, if that is accepted; else in the Prometheus text format."""
    encode, media_type = choose_encoder(accept)
    return Rendered(encode(registry), media_type)
