"""A fleet of engine replicas through a day, second by second.

Its size is decided by ``app/cluster/autoscaling.py``, delays included; what surrounds that is simulated. Pictures
come at random (Poisson); Ray Serve sends each to the replica with the shortest queue; a replica computes at a constant
rate and refuses crops that its queue has no capacity for; reports reach the controller every ten seconds; a requested
replica becomes ready some time later.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.cluster.autoscaling import (
    DOWNSCALE_DELAY_SECONDS,
    DOWNSCALING_FACTOR,
    DRAIN_WITHIN_SECONDS,
    TARGET_BUSY,
    Load,
    wanted,
)

HOUR, DAY = 3600, 86400
REPORT_SECONDS = 10
"""Between two reports of a replica, and so between two decisions (Ray Serve's default)."""
BIN_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class World:
    """Load and capacities of a simulated fleet.

    Attributes:
        crops_per_second: What one replica computes.
        queue_crops: Crops that may wait on a replica (``SMARTIQA_MAX_QUEUE_CROPS``).
        deadline: Seconds after which an answer is of no use (``SMARTIQA_DEADLINE_SECONDS``).
        crops: Of one picture.
        base_seconds: What an answer takes where nothing waits.
        mean_work: The day's load, in replicas that compute all the time; at night it is half of this, and at noon
            one and a half times.
        spike: From when to when it is ``factor`` times as much, in seconds.
        factor: See ``spike``.
        seconds: Length of the day.
    """

    crops_per_second: float
    queue_crops: float = 1024.0
    deadline: float = 30.0
    crops: int = 4
    base_seconds: float = 0.1
    mean_work: float = 7.0
    spike: tuple[int, int] = (18 * HOUR, 18 * HOUR + 600)
    factor: float = 10.0
    seconds: int = DAY

    def work(self, second: int) -> float:
        """The load at a time, in replicas that compute all the time."""
        curve = 1 - 0.5 * math.cos(2 * math.pi * second / DAY)
        return self.mean_work * curve * (self.factor if self.spike[0] <= second < self.spike[1] else 1.0)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Settings of the autoscaling; ``start_seconds`` is the time from the request of a replica until it is ready."""

    least: int
    most: int
    start_seconds: float
    target_busy: float = TARGET_BUSY
    drain_within: float = DRAIN_WITHIN_SECONDS


@dataclass
class Autoscaler:
    """Ray Serve's controller around the policy: bounds, the delay before there are fewer, how many go at once."""

    fleet: Fleet
    target: int
    fewer_since: float | None = None

    def decide(self, loads: Sequence[Load], now: float) -> int:
        """The number of replicas from now on, given what those that run report."""
        fleet, running = self.fleet, len(loads)
        number = wanted(loads, target_busy=fleet.target_busy, drain_within=fleet.drain_within)
        if number < running:
            number = min(math.ceil(running + DOWNSCALING_FACTOR * (number - running)), running - 1)
        if number >= self.target:
            self.target, self.fewer_since = number, None
        elif self.fewer_since is None:
            self.fewer_since = now
        elif now - self.fewer_since >= DOWNSCALE_DELAY_SECONDS:
            self.target, self.fewer_since = number, None
        self.target = min(max(self.target, fleet.least), fleet.most)
        return self.target


@dataclass
class Tally:
    """Crops over some time: how many were offered, their outcomes and their waiting times."""

    offered: float = 0.0
    shed: float = 0.0
    answered: float = 0.0
    waits: NDArray[np.float64] = field(default_factory=lambda: np.zeros(round(60 / BIN_SECONDS)))

    @property
    def shed_share(self) -> float:
        """Of what was offered."""
        return self.shed / self.offered if self.offered else 0.0

    def count(self, offered: float, shed: float, answered: float) -> None:
        """Count what happened in a second; what is lost to rounding was not shed."""
        self.offered += offered
        self.shed += shed if shed > 1e-6 else 0.0
        self.answered += answered

    def wait(self, seconds: NDArray[np.float64], crops: NDArray[np.float64]) -> None:
        """Count crops by their waiting time."""
        bins = np.minimum((seconds / BIN_SECONDS).astype(int), len(self.waits) - 1)
        np.add.at(self.waits, bins, crops)

    def percentile(self, share: float) -> float:
        """Seconds that this share of what was taken waits at most, to a bin's width."""
        return BIN_SECONDS * float(np.searchsorted(self.waits.cumsum(), share * self.waits.sum()))


@dataclass
class Result:
    """Tallies of a day and of its spike; every ten seconds: time, load in replicas, replicas, share shed."""

    day: Tally
    spike: Tally
    replica_hours: float = 0.0
    waiting: float = 0.0
    rows: list[tuple[int, float, int, float]] = field(default_factory=list)


def spread(queues: NDArray[np.float64], crops: float, full: float) -> NDArray[np.float64]:
    """How many crops each replica gets if each goes to the shortest queue; what finds all full is left out."""
    levels = np.sort(queues)
    # With the first n queues filled to one level, the level is what they hold and the crops together, by n.
    level = ((levels.cumsum() + crops) / np.arange(1, len(levels) + 1)).min()
    room: NDArray[np.float64] = np.maximum(min(float(level), full) - queues, 0.0)
    return room


def simulate(fleet: Fleet, world: World, seed: int = 0) -> Result:
    """A day, in steps of a second."""
    rate = world.crops_per_second
    work = np.array([world.work(second) for second in range(world.seconds)])
    arrivals = world.crops * np.random.default_rng(seed).poisson(work * rate / world.crops).astype(float)
    # Beside what waits, a replica takes what it computes in the same second.
    full = min(world.queue_crops, world.deadline * rate) + rate
    queues, busy = np.zeros(fleet.least), np.zeros(fleet.least)
    ready: list[float] = []
    scaler, result = Autoscaler(fleet, fleet.least), Result(Tally(), Tally())
    since = Tally()
    for now, offered in enumerate(arrivals.tolist()):
        while ready and ready[0] <= now:
            ready.pop(0)
            queues, busy = np.append(queues, 0.0), np.append(busy, 0.0)
        taken = spread(queues, offered, full)
        done = np.minimum(queues + taken, rate)
        shed = max(offered - float(taken.sum()), 0.0)
        tallies = [since, result.day, result.spike] if world.spike[0] <= now < world.spike[1] else [since, result.day]
        # The first crop of this second waits for the queue; the last one for the rest of it and of the second's crops.
        waits = queues / rate, np.maximum(queues + taken - rate, 0.0) / rate
        calm = not waits[0].any() and not waits[1].any()
        for tally in tallies:
            tally.count(offered, shed, float(done.sum()))
            if calm:
                tally.waits[0] += offered
            else:
                for wait in waits:
                    tally.wait(wait, taken / 2)
        queues += taken - done
        busy += done / rate
        result.replica_hours += (len(queues) + len(ready)) / HOUR
        if now % REPORT_SECONDS == REPORT_SECONDS - 1:
            result.rows.append((now, float(work[now]), len(queues), since.shed_share))
            since = Tally()
            loads = [
                Load(queued_crops=queued, drain_seconds=queued / rate, busy=used / REPORT_SECONDS)
                for queued, used in zip(queues.tolist(), busy.tolist(), strict=True)
            ]
            target = scaler.decide(loads, now)
            ready += [now + fleet.start_seconds] * (target - len(queues) - len(ready))
            del ready[max(target - len(queues), 0) :]
            # The emptiest go first, and finish what they hold.
            keep = np.argsort(-queues, kind="stable")[:target]
            result.day.answered += float(queues.sum() - queues[keep].sum())
            queues, busy = queues[keep], np.zeros(len(keep))
    result.waiting = float(queues.sum())
    return result
