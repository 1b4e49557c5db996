"""Decides the number of engine replicas: enough for the crops that they compute, and for those that wait.

Each replica's ``record_autoscaling_stats()`` returns a dictionary of three numbers:

    queued_crops    crops that wait for its device
    drain_seconds   estimated device time for them, from the recent batch times of its models; 0 before its first batch
    busy            share of the last ``LOOK_BACK_SECONDS`` in which it computed, 0 to 1, mean of its lanes

With ``options``, Ray Serve samples these numbers every three seconds and sends them to its controller every ten. The
controller calls ``by_queued_crops``.
Pictures that wait to be decoded are not among them: ingress replicas decode, and Ray Serve scales those by the requests
that they have, waiting ones included.

Ray is not imported here: the decision is arithmetic, and ``benchmarks/autoscaling.py`` simulates a day with this code.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

TARGET_BUSY = 0.7
"""Target share of its time that a replica computes. The rest absorbs random peaks in arrivals."""
DRAIN_WITHIN_SECONDS = 2.0
"""Time in which the queues should be empty, besides new arrivals."""
LOOK_BACK_SECONDS = 15.0
"""Period that ``busy`` is averaged over; Ray Serve takes five samples in it."""
UPSCALE_DELAY_SECONDS = 0.0
DOWNSCALE_DELAY_SECONDS = 600.0
"""Replicas are stopped only after fewer have been enough for this long without a break."""
DOWNSCALING_FACTOR = 0.5
"""Share of the surplus replicas that is stopped at a time, so that some are left for a spike that soon recurs."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """The numbers that one replica reports; the module docstring defines them."""

    queued_crops: float = 0.0
    drain_seconds: float = 0.0
    busy: float = 0.0


class Context(Protocol):
    """The attributes of ``ray.serve.config.AutoscalingContext`` that are used here."""

    raw_metrics: Mapping[str, Mapping[Any, Any]] | None
    target_num_replicas: int


def wanted(
    loads: Iterable[Load], *, target_busy: float = TARGET_BUSY, drain_within: float = DRAIN_WITHIN_SECONDS
) -> int:
    """Number of replicas that the load needs in total.

    The sum of the busy shares is the work under way, in replicas; divided by the target share, it is the number of
    replicas for it. The waiting crops need a number of device seconds, and as many more replicas as finish them in
    time. The current number of replicas has no influence: a new one that reports nothing changes nothing, and while
    replicas start, the same load does not ask for more. A replica without batch times yet is assumed to be as fast as
    the others.

    Args:
        loads: The reports of the replicas.
        target_busy: Target share of its time that a replica computes.
        drain_within: Seconds within which the queues should be empty.

    Returns:
        The number, before it is clipped to the limits of the deployment; 0 without load.
    """
    loads = list(loads)
    computing = sum(load.busy for load in loads)
    timed = [load for load in loads if load.drain_seconds > 0]
    crops = sum(load.queued_crops for load in timed)
    seconds_per_crop = sum(load.drain_seconds for load in timed) / crops if crops else 0.0
    waiting = seconds_per_crop * sum(load.queued_crops for load in loads)
    # Rounded first, so that a floating-point error just above a whole number does not add a replica.
    return math.ceil(round(computing / target_busy + waiting / drain_within, 6))


def by_queued_crops(context: Context) -> tuple[int, dict[str, Any]]:
    """Ray Serve's autoscaling policy for engine replicas.

    It reads each replica's latest sample, not the mean over the look-back period: ``busy`` is a mean already, and only
    the current queue matters. Serve itself clips the number to ``min_replicas`` and ``max_replicas``, and applies the
    delays and the downscaling factor.

    Args:
        context: From Serve's controller, an ``AutoscalingContext``.

    Returns:
        The number of replicas, and an empty state. If no replica has reported, as after a restart of the controller,
        the number stays as it is.
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
        least: Smallest number of replicas; they alone serve a sudden rise until others have started.
        most: Largest number of replicas; load beyond their capacity is shed.
    """
    return {
        "min_replicas": least,
        "max_replicas": most,
        "upscale_delay_s": UPSCALE_DELAY_SECONDS,
        "downscale_delay_s": DOWNSCALE_DELAY_SECONDS,
        "downscaling_factor": DOWNSCALING_FACTOR,
        "look_back_period_s": LOOK_BACK_SECONDS,
        "policy": {"policy_function": f"{__name__}:by_queued_crops"},
    }
