"""Traces by OpenTelemetry, through FastAPI's own support: a span per request, and below it where its time went.

FastAPI needs OpenTelemetry's interface anyway; the SDK and the exporter are an extra, imported only when asked for.
"""

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace

from app.settings import Settings

OFF: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


def telemetry(settings: Settings) -> TelemetryConfig:
    """What to tell FastAPI. Metrics are Prometheus's affair, and log records would hold texts of exceptions.

    Raises:
        ModuleNotFoundError: Traces are asked for, but the SDK is not installed.
    """
    if not settings.otel:
        return OFF
    import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: F401  # FastAPI would only warn without it
    from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

    class Redaction(SpanProcessor):
        """Takes the address out, which is anybody's text; the route stays."""

        def on_start(self, span: Span, parent_context: object = None) -> None:  # noqa: ARG002
            for name in ("url.path", "url.query"):
                if name in (span.attributes or {}):
                    span.set_attribute(name, "REDACTED")

        def on_end(self, span: ReadableSpan) -> None:
            """Nothing is left to do."""

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


def tracer(config: TelemetryConfig) -> trace.Tracer | None:
    """The tracer for the service's own spans; None if there are to be none."""
    provider = config.get("tracer_provider")
    return provider.get_tracer("smart-iqa") if provider is not None else None


def record(tracer: trace.Tracer, ended_ns: int, *, decode: float, queue: float, compute: float, crops: int) -> None:
    """Write where an answer's time went as spans below the current one.

    They are written when all is over: decoding and computing happen on threads that know nothing of requests. So they
    stand end to end, and their lengths are right rather than their places.

    Args:
        tracer: Takes the spans.
        ended_ns: When the answer was there, in nanoseconds of the epoch.
        decode: Seconds of decoding.
        queue: Seconds of waiting for the device.
        compute: Seconds of its batches on the device.
        crops: How many crops were scored.
    """
    if not trace.get_current_span().is_recording():
        return
    start = ended_ns - round((decode + queue + compute) * 1e9)
    for name, seconds in (("decode", decode), ("queue", queue), ("compute", compute)):
        span = tracer.start_span(name, start_time=start, attributes={"smartiqa.crops": crops})
        start += round(seconds * 1e9)
        span.end(start)
