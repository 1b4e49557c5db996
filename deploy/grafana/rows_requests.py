"""Rows of the dashboard about requests: overview, traffic, time, batches, queue."""

from grafana_foundation_sdk.models import units

from deploy.grafana.panels import Panel, Query, heat, lines, number
from deploy.grafana.queries import ONE, RATE, ROUTES, mean, quantiles, share


def glance() -> list[Panel]:
    """Overview: key figures of the service."""
    answers = f"sum(rate(smartiqa_requests_total{{{ROUTES},@}}[1h]))"
    failed = answers.replace("@", 'code=~"5..",@')
    # The alternative covers the time before the first such answer, when the series does not exist.
    errors = f"({failed} or 0 * {answers}) / {answers}"
    shed = share('smartiqa_rejections_total{reason="queue_full",@}', f"smartiqa_requests_total{{{ROUTES},@}}")
    ((slow, _),) = quantiles(f"smartiqa_request_seconds_bucket{{{ONE},@}}", 0.99)
    hits = share('smartiqa_cache_total{result="hit",@}', "smartiqa_cache_total{@}")
    return [
        number(
            "Instances",
            "How many are ready, and how many Prometheus knows.",
            units.Short,
            ("sum(smartiqa_ready{@})", "ready"),
            ("count(smartiqa_ready{@})", "known"),
        ),
        number(
            "Requests",
            "Requests for scores in a second.",
            units.RequestsPerSecond,
            (f"sum(rate(smartiqa_requests_total{{{ROUTES},@}}{RATE}))", "requests"),
        ),
        number(
            "Errors, one hour",
            "Answers with a 5xx among all to requests for scores. The objective is 0.5 % over a month.",
            units.PercentUnit,
            (errors, "errors"),
            levels=[(0.005, "orange"), (0.05, "red")],
        ),
        number(
            "Slowest hundredth",
            "Time that 99 of 100 requests of one picture stay below, uploads included.",
            units.Seconds,
            (slow, "p99"),
            levels=[(2, "orange"), (4, "red")],
        ),
        number(
            "Work waiting",
            "Seconds that the device, and the decoder, need for what waits, on the instance with the most.",
            units.Seconds,
            ("max(smartiqa_queue_drain_seconds{@})", "device"),
            ("max(smartiqa_decode_drain_seconds{@})", "decoder"),
            levels=[(2, "orange"), (5, "red")],
        ),
        number(
            "Turned away",
            "Requests answered with 429 because too much work waits, among all.",
            units.PercentUnit,
            (shed, "shed"),
            levels=[(0.001, "orange"), (0.05, "red")],
        ),
        number(
            "Devices busy",
            "Time in which the lanes compute, among all; from about 80 % on, work begins to wait.",
            units.PercentUnit,
            (f"sum(rate(smartiqa_compute_seconds_sum{{@}}{RATE})) / sum(smartiqa_lanes{{@}})", "busy"),
            levels=[(0.8, "orange"), (0.95, "red")],
        ),
        number(
            "From memory", "Pictures whose score was known, among those looked up.", units.PercentUnit, (hits, "hits")
        ),
    ]


def traffic() -> list[Panel]:
    """Traffic: requests by route, answers by status and problem, connections, sizes and formats of pictures."""
    return [
        lines(
            "Requests by route",
            "Requests answered in a second.",
            units.RequestsPerSecond,
            (f"sum by (route) (rate(smartiqa_requests_total{{{ROUTES},@}}{RATE}))", "{{route}}"),
            stacked=True,
        ),
        lines(
            "Answers by status",
            "499: the client left. 429: turned away. 5xx count against the objective.",
            units.RequestsPerSecond,
            (f"sum by (code) (rate(smartiqa_requests_total{{{ROUTES},@}}{RATE}))", "{{code}}"),
            stacked=True,
        ),
        lines(
            "Problems by code",
            "What was told to clients whose request failed; pictures of a batch are counted one by one.",
            units.CountsPerSecond,
            (f"sum by (reason) (rate(smartiqa_rejections_total{{@}}{RATE})) > 0", "{{reason}}"),
            stacked=True,
        ),
        lines(
            "Requests by key",
            "Requests answered in a second; further keys than SMARTIQA_KEY_METRICS are other. Nothing without keys.",
            units.RequestsPerSecond,
            (f"sum by (key) (rate(smartiqa_key_requests_total{{@}}{RATE}))", "{{key}}"),
            stacked=True,
        ),
        lines(
            "Work by key",
            "Seconds of decoding and computing in a second: who keeps the service busy.",
            units.Short,
            (
                f'sum by (key) (rate(smartiqa_key_stage_seconds_total{{stage=~"decode|compute",@}}{RATE}))',
                "{{key}}",
            ),
            stacked=True,
        ),
        lines(
            "Connections and requests in flight",
            "Open connections, and requests that are being worked on.",
            units.Short,
            ("sum(smartiqa_connections{@})", "connections"),
            ("sum(smartiqa_requests_in_flight{@})", "in flight"),
        ),
        lines(
            "Sizes of pictures",
            "Megapixels: half of the pictures are smaller than p50.",
            units.Short,
            *quantiles("smartiqa_input_megapixels_bucket{@}", 0.5, 0.95),
        ),
        lines(
            "Formats of pictures",
            "Pictures decoded in a second.",
            units.CountsPerSecond,
            (f"sum by (format) (rate(smartiqa_input_format_total{{@}}{RATE}))", "{{format}}"),
            stacked=True,
        ),
    ]


def latency() -> list[Panel]:
    """Time: latencies, and the time of each phase."""
    stages = ("decode_wait", "decode", "queue", "compute")

    def by_stage(point: float) -> list[Query]:
        asked = (quantiles(f"smartiqa_{stage}_seconds_bucket{{@}}", point) for stage in stages)
        return [(query, stage) for stage, ((query, _),) in zip(stages, asked, strict=True)]

    return [
        lines(
            "Requests of one picture",
            "From the first header to the last byte, so slow uploads are part of it.",
            units.Seconds,
            *quantiles(f"smartiqa_request_seconds_bucket{{{ONE},@}}", 0.5, 0.95, 0.99),
        ),
        lines(
            "Stages, median",
            "Waiting to be decoded, decoding, waiting for the device, one batch on the device.",
            units.Seconds,
            *by_stage(0.5),
        ),
        lines("Stages, slowest hundredth", "As beside: what 99 of 100 stay below.", units.Seconds, *by_stage(0.99)),
        heat(
            "How long requests take",
            "Requests of one picture by their time; two bands mean two kinds of requests.",
            units.Seconds,
            f"smartiqa_request_seconds_bucket{{{ONE},@}}",
        ),
        lines(
            "Slow requests",
            "Requests above SMARTIQA_SLOW_SECONDS, within an hour; the log has a warning with all stages for each.",
            units.Short,
            ("sum by (instance) (increase(smartiqa_slow_requests_total{@}[1h]))", "{{instance}}"),
            width=12,
        ),
        lines(
            "Slowest hundredth by instance",
            "One line above the others: that instance has a slower device, or too much to do.",
            units.Seconds,
            *quantiles(f"smartiqa_request_seconds_bucket{{{ONE},@}}", 0.99, by="instance, ", legend="{{instance}} "),
            width=12,
        ),
    ]


def batches() -> list[Panel]:
    """Batches: how full they are, and the use of the devices."""
    return [
        lines(
            "Batch fill",
            "Crops of a batch by the most that fit, on average. Low at little load, and that is right: nothing waits.",
            units.PercentUnit,
            (
                mean("batch_fill_ratio"),
                "mean",
            ),
            *quantiles("smartiqa_batch_fill_ratio_bucket{@}", 0.1),
            most=1,
        ),
        lines(
            "Batches by what sent them off",
            "full: the most crops that fit; idle: the device was free; retry: alone, after a failure.",
            units.CountsPerSecond,
            (f"sum by (reason) (rate(smartiqa_batch_flush_total{{@}}{RATE}))", "{{reason}}"),
            stacked=True,
        ),
        lines(
            "Crops computed",
            "What the devices get done in a second.",
            units.CountsPerSecond,
            (f"sum by (instance) (rate(smartiqa_batch_crops_sum{{@}}{RATE}))", "{{instance}}"),
            stacked=True,
        ),
        lines(
            "Busy",
            "Time in which the lanes of an instance compute.",
            units.PercentUnit,
            (f"rate(smartiqa_compute_seconds_sum{{@}}{RATE}) / smartiqa_lanes{{@}}", "{{instance}}"),
            most=1,
        ),
        lines(
            "Batches by device",
            "How the work is shared.",
            units.CountsPerSecond,
            (f"sum by (instance, device) (rate(smartiqa_device_batches_total{{@}}{RATE}))", "{{instance}} {{device}}"),
            stacked=True,
        ),
        lines(
            "Failures of the engine",
            "Batches that raised, and pictures that failed again alone.",
            units.CountsPerSecond,
            (f"sum by (kind) (rate(smartiqa_batch_failures_total{{@}}{RATE}))", "batch: {{kind}}"),
            (f'sum(rate(smartiqa_rejections_total{{reason="engine_failed",@}}{RATE}))', "pictures"),
        ),
    ]


def queue() -> list[Panel]:
    """Queue: waiting crops, refused and dropped requests, decoders, cache."""
    shed = "queue_full|rate_limited|too_many_connections|draining|not_ready|device_lost|deadline_exceeded"
    return [
        lines(
            "Work waiting",
            "Seconds that the device, and the decoder, need for what waits. Scale on these.",
            units.Seconds,
            ("smartiqa_queue_drain_seconds{@}", "{{instance}} device"),
            ("smartiqa_decode_drain_seconds{@}", "{{instance}} decoder"),
        ),
        lines("Crops waiting", "Work items in the queue.", units.Short, ("smartiqa_queue_crops{@}", "{{instance}}")),
        lines(
            "Memory of what waits",
            "Bytes of the crops or tokens in the queue.",
            units.BytesIEC,
            ("smartiqa_queue_bytes{@}", "{{instance}}"),
        ),
        lines(
            "Turned away, by code",
            "Requests that were sound and got no score.",
            units.CountsPerSecond,
            (f'sum by (reason) (rate(smartiqa_rejections_total{{reason=~"{shed}",@}}{RATE}))', "{{reason}}"),
            stacked=True,
        ),
        lines(
            "Accepted work dropped",
            "Before it reached the device: its client left, or its deadline passed.",
            units.CountsPerSecond,
            (f"sum by (reason) (rate(smartiqa_dropped_total{{@}}{RATE}))", "{{reason}}"),
            stacked=True,
        ),
        lines(
            "Decoder processes replaced",
            "By reason, within an hour. died and nonsense are worth a look.",
            units.Short,
            ("sum by (reason) (increase(smartiqa_decoders_replaced_total{@}[1h]))", "{{reason}}"),
        ),
        lines(
            "Pictures in the decoder",
            "Being decoded, or waiting for it. Wherever it stays above the number of threads, pictures wait.",
            units.Short,
            ("smartiqa_decode_pending{@}", "{{instance}}"),
        ),
        lines(
            "Decoder busy",
            "Time in which the decoder threads of an instance decode.",
            units.PercentUnit,
            (f"rate(smartiqa_decode_seconds_sum{{@}}{RATE}) / smartiqa_decode_threads{{@}}", "{{instance}}"),
            most=1,
        ),
        lines(
            "Pixels being decoded",
            "All pictures together; each takes 9 to 34 bytes a pixel.",
            units.Short,
            ("smartiqa_decode_pixels{@}", "{{instance}}"),
        ),
        lines(
            "Pictures that came again",
            "Pictures looked up in a second, by whether their score was in memory.",
            units.CountsPerSecond,
            (f"sum by (result) (rate(smartiqa_cache_total{{@}}{RATE}))", "{{result}}"),
            stacked=True,
        ),
        lines(
            "Crops in memory",
            "Crops whose scores are kept; about 0.5 KB each.",
            units.Short,
            ("smartiqa_cache_crops{@}", "{{instance}}"),
        ),
    ]
