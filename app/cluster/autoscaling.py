"""How many engine replicas there should be: enough for what they compute, and for what waits.

Each replica's ``record_autoscaling_stats()`` returns a dictionary of three numbers:

    queued_crops    crops that wait for its device
    drain_seconds   time that its device needs for them, by what its models took lately; 0 before its first batch
    busy            share of the last ``LOOK_BACK_SECONDS`` in which it computed, 0 to 1, mean of its lanes

With ``options``, Ray Serve samples them every three seconds; every ten, its controller gets them. It calls
``by_queued_crops``.
Ray is not imported here: the decision is arithmetic, and ``benchmarks/autoscaling.py`` runs this code through a day.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

TARGET_BUSY = 0.7
"""The share of its time that a replica should compute. What is left takes up the chance in arrivals."""
DRAIN_WITHIN_SECONDS = 2.0
"""What waits should be done after this long, beside what arrives meanwhile."""
LOOK_BACK_SECONDS = 15.0
"""Ray Serve samples five times in it."""
UPSCALE_DELAY_SECONDS = 0.0
DOWNSCALE_DELAY_SECONDS = 600.0
"""Fewer replicas must have been enough for so long without a break before any is stopped."""
DOWNSCALING_FACTOR = 0.5
"""Half of those that are too many go at a time, so that a spike that comes back soon finds some of them."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one replica reports; the module says what the numbers mean."""

    queued_crops: float = 0.0
    drain_seconds: float = 0.0
    busy: float = 0.0


class Context(Protocol):
    """What is read of ``ray.serve.config.AutoscalingContext``."""

    raw_metrics: Mapping[str, Mapping[Any, Any]] | None
    target_num_replicas: int


def wanted(
    loads: Iterable[Load], *, target_busy: float = TARGET_BUSY, drain_within: float = DRAIN_WITHIN_SECONDS
) -> int:
    """How many replicas the load wants, those that there are included.

    What is being computed, in replicas, is the sum of the shares; spread over enough of them, each is at the target.
    What waits is as much work as it takes seconds, and wants as many replicas more as get it done in time. How many
    replicas there are is no part of it: one that has just started and reports nothing changes nothing, and while
    replicas start, the same load wants no more of them. A replica that does not know yet how long its crops take has
    the pace of the others.

    Args:
        loads: What the replicas report.
        target_busy: The share of its time that a replica should compute.
        drain_within: Seconds within which the queues should be empty.

    Returns:
        The number, without regard to the least and the most that there may be; 0 where nothing is asked for.
    """
    loads = list(loads)
    computing = sum(load.busy for load in loads)
    timed = [load for load in loads if load.drain_seconds > 0]
    crops = sum(load.queued_crops for load in timed)
    seconds_per_crop = sum(load.drain_seconds for load in timed) / crops if crops else 0.0
    waiting = seconds_per_crop * sum(load.queued_crops for load in loads)
    # Rounded: 0.7 three times, by 0.7, is a little above three.
    return math.ceil(round(computing / target_busy + waiting / drain_within, 6))


def by_queued_crops(context: Context) -> tuple[int, dict[str, Any]]:
    """Ray Serve's autoscaling policy for engine replicas.

    It reads each replica's latest sample, not the mean over the look-back: ``busy`` is a mean already, and a queue
    counts as it is now. Serve itself clips the number to ``min_replicas`` and ``max_replicas``, and applies delays and
    the factor.

    Args:
        context: From Serve's controller, an ``AutoscalingContext``.

    Returns:
        How many replicas there should be, and nothing to remember. Where no replica has reported, as after a restart
        of the controller, it stays at what it is.
    """
    latest: dict[Any, dict[str, float]] = {}
    for name in ("queued_crops", "drain_seconds", "busy"):
        for replica, samples in ((context.raw_metrics or {}).get(name) or {}).items():
            if samples:
                latest.setdefault(replica, {})[name] = samples[-1].value
    if not latest:
        return context.target_num_replicas, {}
    return wanted(Load(**numbers) for numbers in latest.values()), {}


def options(least: int, most: int) -> dict[str, Any]:
    """The ``autoscaling_config`` of a deployment whose replicas report as above.

    Args:
        least: Replicas that are always there; they alone meet a sudden rise, until others have started.
        most: Replicas at most; what they cannot do is shed.
    """
    return {
        "min_replicas": least,
        "max_replicas": most,
        "upscale_delay_s": UPSCALE_DELAY_SECONDS,
        "downscale_delay_s": DOWNSCALE_DELAY_SECONDS,
        "downscaling_factor": DOWNSCALING_FACTOR,
        "look_back_period_s": LOOK_BACK_SECONDS,
        "policy": {"policy_function": "app.cluster.autoscaling:by_queued_crops"},
    }
