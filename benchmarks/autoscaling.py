"""A day of the autoscaler: a load that rises and falls, and all at once ten times of it for ten minutes.

The decisions are those of ``app/cluster/autoscaling.py``, delays included; what surrounds them is simulated, second by
second: pictures come at random (Poisson), Ray Serve sends each to the replica with the shortest
queue, a replica computes at a constant rate and refuses what its queue has no room for, reports reach the controller
every ten seconds, and a replica that is asked for comes some time later. It prints a table, writes
``benchmarks/results/autoscaling.json`` and draws ``docs/images/autoscaling.png``.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.cluster.autoscaling import DOWNSCALE_DELAY_SECONDS, DRAIN_WITHIN_SECONDS, TARGET_BUSY, Load, wanted
from benchmarks.plan import markdown

FOLDER = Path(__file__).parent / "results"
PLOT = Path(__file__).parents[1] / "docs" / "images" / "autoscaling.png"
HOUR, DAY = 3600, 86400
REPORT_SECONDS = 10
"""Between two reports of a replica, and so between two decisions (Ray Serve's default)."""
BIN_SECONDS = 0.1
NODE_SECONDS = 150.0
"""Assumed: from asking for a machine to a worker of Ray on it, its image pulled."""
DRAWN = ("warm nodes", "cold nodes")


def measured(file: str) -> Any:
    """What another benchmark found."""
    return json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8"))


@dataclass(frozen=True, kw_only=True)
class World:
    """What the fleet has to live with.

    Attributes:
        crops_per_second: What one replica computes.
        queue_crops: Crops that may wait on a replica (``SMARTIQA_MAX_QUEUE_CROPS``).
        deadline: Seconds after which an answer is of no use (``SMARTIQA_DEADLINE_SECONDS``).
        crops: Of one picture.
        base_seconds: What an answer takes where nothing waits.
        mean_work: The day's load, in replicas that compute all the time; it is half of this at night and one and a half
            times at noon.
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
    """How replicas are kept; ``start_seconds`` is from being asked for to ready."""

    least: int
    most: int
    start_seconds: float
    target_busy: float = TARGET_BUSY
    drain_within: float = DRAIN_WITHIN_SECONDS


@dataclass
class Autoscaler:
    """Ray Serve's controller around the policy: bounds, and the delay before there are fewer."""

    fleet: Fleet
    target: int
    fewer_since: float | None = None

    def decide(self, loads: Sequence[Load], now: float) -> int:
        """The number of replicas from now on."""
        fleet = self.fleet
        number = wanted(loads, target_busy=fleet.target_busy, drain_within=fleet.drain_within)
        number = min(max(number, fleet.least), fleet.most)
        if number >= self.target:
            self.target, self.fewer_since = number, None
        elif self.fewer_since is None:
            self.fewer_since = now
        elif now - self.fewer_since >= DOWNSCALE_DELAY_SECONDS:
            self.target, self.fewer_since = number, None
        return self.target


@dataclass
class Tally:
    """Crops over some time: what was asked for, what became of it, and how long it took."""

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
        """Count what will wait so long."""
        if not seconds.any():
            self.waits[0] += crops.sum()
            return
        bins = np.minimum((seconds / BIN_SECONDS).astype(int), len(self.waits) - 1)
        np.add.at(self.waits, bins, crops)

    def percentile(self, share: float) -> float:
        """Seconds that this share of what was taken waits at most, to a bin's width."""
        return BIN_SECONDS * float(np.searchsorted(self.waits.cumsum(), share * self.waits.sum()))


@dataclass
class Result:
    """What came of a day: all of it, its spike, and every ten seconds time, load in replicas, replicas, share shed."""

    day: Tally
    spike: Tally
    replica_hours: float = 0.0
    waiting: float = 0.0
    rows: list[tuple[int, float, int, float]] = field(default_factory=list)


def spread(queues: NDArray[np.float64], crops: float, full: float) -> NDArray[np.float64]:
    """How many crops each replica gets if each goes to the shortest queue; what finds all of them full is left out."""
    levels = np.sort(queues)
    # With the first n queues filled to one level, the level is what they hold and the crops together, by n.
    level = ((levels.cumsum() + crops) / np.arange(1, len(levels) + 1)).min()
    return np.maximum(min(level, full) - queues, 0.0)


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
        for tally in tallies:
            tally.count(offered, shed, float(done.sum()))
            # The first that comes in this second meets the queue; the last one what is left of it and of the others.
            tally.wait(queues / rate, taken / 2)
            tally.wait(np.maximum(queues + taken - rate, 0.0) / rate, taken / 2)
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


def cases() -> Iterator[tuple[str, Fleet, World]]:
    """What is compared; the first four differ in where replicas come from, the others in one thing each."""
    sizing, scaling, startup = (measured(file) for file in ("sizing", "scaling", "startup"))
    # A replica of two cores, with what the service leaves of the engine's rate.
    rate = 2e3 / sizing["engine_core_ms_per_crop"] * scaling["cores"][1]["ratio"]
    world = World(crops_per_second=rate)
    peak = math.ceil(1.5 * world.mean_work / TARGET_BUSY)
    spike = math.ceil(world.factor * world.mean_work / TARGET_BUSY)
    warm = Fleet(least=5, most=2 * spike, start_seconds=startup["later"]["ready"])
    cold = replace(warm, start_seconds=NODE_SECONDS + startup["first"]["ready"])
    gpu = replace(world, crops_per_second=2000.0)
    yield "fixed, for the daily peak", replace(warm, least=peak, most=peak), world
    yield "fixed, for the spike", replace(warm, least=spike, most=spike), world
    yield "warm nodes", warm, world
    yield "cold nodes", cold, world
    yield "warm nodes, least 15", replace(warm, least=15), world
    yield "cold nodes, least 15", replace(cold, least=15), world
    yield "cold nodes, least 50", replace(cold, least=50), world
    yield "warm nodes, busy 0.5", replace(warm, target_busy=0.5), world
    yield "cold nodes, busy 0.5", replace(cold, target_busy=0.5), world
    yield "cold nodes, drain within 0.5 s", replace(cold, drain_within=0.5), world
    yield "cold nodes, drain within 5 s", replace(cold, drain_within=5.0), world
    yield "cold nodes, drain within 20 s", replace(cold, drain_within=20.0), world
    yield "warm nodes, 2,000 crops/s each", warm, gpu
    yield "the same, 20,000 crops wait at most", warm, replace(gpu, queue_crops=20_000.0)


def row(result: Result, world: World) -> dict[str, float]:
    """What is told of a case."""
    shedding = [now for now, _, _, shed in result.rows if shed]
    return {
        "shed_spike_percent": round(100 * result.spike.shed_share, 1),
        "shed_day_percent": round(100 * result.day.shed_share, 2),
        "shedding_seconds": shedding[-1] + 1 - world.spike[0] if shedding else 0,
        "p99_spike_seconds": round(world.base_seconds + result.spike.percentile(0.99), 1),
        "p99_day_seconds": round(world.base_seconds + result.day.percentile(0.99), 1),
        "p50_day_seconds": round(world.base_seconds + result.day.percentile(0.5), 1),
        "most_replicas": max(replicas for _, _, replicas, _ in result.rows),
        "replica_hours": round(result.replica_hours),
    }


def table(report: dict[str, Any]) -> list[list[str]]:
    """The cases as the rows of a table."""
    head = ["fleet", "shed in the spike, %", "of the day, %", "sheds for, s", "p99 in the spike, s", "of the day, s"]
    rows = [
        [name, *(str(value) for key, value in found.items() if key != "p50_day_seconds")]
        for name, found in report["cases"].items()
    ]
    return [[*head, "most replicas", "replica hours"], *rows]


def main() -> None:
    """Simulate, print, write, draw."""
    report: dict[str, Any] = {"node_seconds_assumed": NODE_SECONDS, "cases": {}}
    drawn = {}
    for name, fleet, world in cases():
        result = simulate(fleet, world)
        report.setdefault("crops_per_second", round(world.crops_per_second, 1))
        report["cases"][name] = row(result, world)
        if name in DRAWN:
            drawn[name] = result.rows
    (FOLDER / "autoscaling.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(markdown(table(report)))
    draw(drawn, world, PLOT)


def draw(drawn: dict[str, list[tuple[int, float, int, float]]], world: World, file: Path) -> None:
    """Draw replicas over the day, and beside it the spike with what is shed."""
    from matplotlib.figure import Figure

    from training.figures import style

    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    day, spike = figure.subplots(1, 2)
    for (name, rows), colour in zip(drawn.items(), (style.BLUE, style.RED), strict=True):
        times, work, replicas, shed = (np.array(column) for column in zip(*rows, strict=True))
        minutes = (times - world.spike[0]) / 60
        near = (minutes > -5) & (minutes < 30)
        day.plot(times / HOUR, replicas, color=colour, label=f"replicas, {name}")
        spike.plot(minutes[near], replicas[near], color=colour)
        spike.fill_between(minutes[near], 100 * shed[near], color=colour, alpha=0.3, label=f"% shed, {name}")
    day.plot(times / HOUR, work, color=style.GREY, linestyle=":", label="load, in replicas")
    spike.plot(minutes[near], work[near], color=style.GREY, linestyle=":")
    day.set(xlabel="hour of the day", yscale="log", xlim=(0, 24))
    spike.set(xlabel="minutes from the start of the spike")
    for axes in (day, spike):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="upper left" if axes is day else "upper right")
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
