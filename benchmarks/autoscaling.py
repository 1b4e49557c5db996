"""Simulates a day of the autoscaler: a load that rises and falls, with a ten-minute spike of ten times the load.

Fleets that differ in where their replicas come from, and in the settings of the policy, take the same day
(``benchmarks/fleet.py``). It prints a table, writes ``benchmarks/results/autoscaling.json`` and draws
``docs/images/autoscaling.png``.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from app.cluster.autoscaling import TARGET_BUSY
from benchmarks.fleet import HOUR, Fleet, Result, World, simulate
from benchmarks.plan import markdown

FOLDER = Path(__file__).parent / "results"
PLOT = Path(__file__).parents[1] / "docs" / "images" / "autoscaling.png"
NODE_SECONDS = 150.0
"""Assumed: from asking for a machine to a worker of Ray on it, its image pulled."""
DRAWN = ("warm nodes", "cold nodes")


def measured(file: str) -> Any:
    """Figures from the result file of another benchmark."""
    return json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8"))


def cases() -> Iterator[tuple[str, Fleet, World]]:
    """The compared fleets: the first four differ in where replicas come from, the others in one setting each."""
    sizing, scaling, startup = (measured(file) for file in ("sizing", "scaling", "startup"))
    # A replica of two cores, with what the service leaves of the engine's rate.
    rate = 2e3 / sizing["engine_core_ms_per_crop"] * scaling["cores"][1]["ratio"]
    world = World(crops_per_second=rate)
    peak = math.ceil(round(1.5 * world.mean_work / TARGET_BUSY, 6))
    spike = math.ceil(round(world.factor * world.mean_work / TARGET_BUSY, 6))
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
    """The figures of a case."""
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
        spike.fill_between(
            minutes[near], 100 * shed[near], color=colour, alpha=0.3, linewidth=0, label=f"% shed, {name}"
        )
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
