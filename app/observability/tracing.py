"""OpenTelemetry traces, through FastAPI's own support: a span per request, with child spans for its phases.

FastAPI needs OpenTelemetry's API anyway; the SDK and the exporter are an extra, imported only if traces are enabled.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.settings import Settings

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

OFF: "TelemetryConfig" = {"tracing": False, "metrics": False, "logs": False}


def telemetry(settings: Settings) -> "TelemetryConfig":
    """FastAPI's telemetry configuration: traces only.

    Prometheus exports the metrics. Log records stay here, since they hold texts of exceptions.

    Raises:
        ModuleNotFoundError: Traces are enabled, but the SDK is not installed.
    """
    if not settings.otel:
        return OFF
    import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: F401  # FastAPI would only warn without it
    from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

    class Redaction(SpanProcessor):
        """Redacts the requested URL, which clients can fill with any text; the route template stays."""

        def on_start(self, span: Span, parent_context: object = None) -> None:  # noqa: ARG002
            for name in ("url.path", "url.query"):
                if name in (span.attributes or {}):
                    span.set_attribute(name, "REDACTED")

        def on_end(self, span: ReadableSpan) -> None:
            """Do nothing: the span was redacted at its start."""

    provider = TracerProvider()
    provider.add_span_processor(Redaction())
    return {
        "tracer_provider": provider,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "auto_configure": True,
        "exclude": lambda scope: scope["path"].startswith("/health/") or scope["path"] == "/metrics",
    }


def tracer(config: "TelemetryConfig") -> trace.Tracer | None:
    """The tracer for the service's own spans; None if traces are off."""
    provider = config.get("tracer_provider")
    return provider.get_tracer("smart-iqa") if provider is not None else None


@contextmanager
def joined(headers: Mapping[str, str]) -> Iterator[str]:
    """Work for a request within its trace: of its own span, or, if traces are off, of its caller's ``traceparent``.

    Args:
        headers: The headers of the request.

    Yields:
        The id of the trace, 32 hexadecimal digits; "" without one.
    """
    token = None
    if not trace.get_current_span().get_span_context().is_valid and "traceparent" in headers:
        token = context.attach(TraceContextTextMapPropagator().extract(headers))
    try:
        current = trace.get_current_span().get_span_context()
        yield trace.format_trace_id(current.trace_id) if current.is_valid else ""
    finally:
        if token is not None:
            context.detach(token)


def exemplar() -> dict[str, str] | None:
    """The exemplar of what is measured now: the id of its trace, if that is kept; else None."""
    current = trace.get_current_span().get_span_context()
    if not current.is_valid or not current.trace_flags.sampled:
        return None
    return {"trace_id": trace.format_trace_id(current.trace_id)}


def record(
    tracer: trace.Tracer,
    ended_ns: int,
    *,
    decode_wait: float,
    decode: float,
    queue: float,
    compute: float,
    crops: int,
) -> None:
    """Record the time of an answer as child spans of the current span: decode_wait, decode, queue, compute.

    They are recorded afterwards, since decoding and computing happen on threads that know nothing of requests. The
    spans are laid end to end up to ``ended_ns``: their lengths are exact, their start times are not.

    Args:
        tracer: Records the spans.
        ended_ns: When the answer was complete, in nanoseconds since the epoch.
        decode_wait: Seconds of waiting to be decoded.
        decode: Seconds of decoding.
        queue: Seconds of waiting for the device.
        compute: Seconds of its batches on the device.
        crops: How many crops were scored.
    """
    if not trace.get_current_span().is_recording():
        return
    start = ended_ns - round((decode_wait + decode + queue + compute) * 1e9)
    phases = {"decode_wait": decode_wait, "decode": decode, "queue": queue, "compute": compute}
    for name, seconds in phases.items():
        span = tracer.start_span(name, start_time=start, attributes={"smartiqa.crops": crops})
        start += round(seconds * 1e9)
        span.end(start)
