"""From measured costs of one picture to the machines for many: the tables of ``docs/scale.md``.

    python -m benchmarks.plan --pictures-per-day 1e9

reads ``benchmarks/results/sizing.json`` and prints the tables as Markdown. What was measured comes from that file;
everything else is an option, and an assumption: give your own.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.cluster.autoscaling import TARGET_BUSY

SIZING = Path(__file__).parent / "results" / "sizing.json"
GPU_RATES = (500, 2000, 8000)
"""Assumed crops a second of one GPU."""
QUEUE_CROPS = 1024
"""Crops that may wait on a replica, by default."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Assumptions of the plan.

    Attributes:
        pictures_per_day: The load.
        peak: The busiest hour's rate, in those of the mean.
        busy: The share of its time that anything should be busy at the peak.
        machine_cores: Cores of one machine.
        seconds_in_store: From the decoder's crops to the end of the engine's batch, for the object store.
        core_hour: Price of a core for an hour, in any currency.
        gpu_hour: Price of a GPU for an hour, without the cores beside it.
    """

    pictures_per_day: float = 1e9
    peak: float = 2.0
    busy: float = TARGET_BUSY
    machine_cores: int = 32
    seconds_in_store: float = 1.0
    core_hour: float = 0.04
    gpu_hour: float = 1.0

    @property
    def mean(self) -> float:
        """Pictures a second, of the day."""
        return self.pictures_per_day / 86400

    @property
    def at_peak(self) -> float:
        """Pictures a second in the busiest hour."""
        return self.mean * self.peak

    def units(self, rate: float, seconds: float) -> float:
        """Cores, or GPUs, for so many pictures a second that take so many seconds each of one."""
        return rate * seconds / self.busy


def cores(plan: Plan, sizing: dict[str, Any]) -> list[list[str]]:
    """By size of the pictures: cores for each part on CPUs alone, machines, and money."""
    engine = sizing["crops"] * sizing["engine_core_ms_per_crop"] / 1e3
    passing = sizing["ray"]["serve, upload and crops, core ms"] / 1e3
    rows = []
    for size, ms in sizing["decode_core_ms"].items():
        each = ms / 1e3 + engine + passing
        parts = [plan.units(plan.at_peak, seconds) for seconds in (ms / 1e3, passing, engine)]
        rows.append(
            [
                size,
                f"{ms:.1f}",
                *(f"{math.ceil(part):,}" for part in parts),
                f"{math.ceil(sum(parts) / plan.machine_cores):,}",
                f"{plan.busy * plan.machine_cores / each:.0f}",
                # What runs follows the load, and is busy as planned on average.
                f"{plan.units(1e6, each) / 3600 * plan.core_hour:.2f}",
            ]
        )
    head = ["JPEG", "decode, core ms", "decode", "Ray", "engine", "machines", "pictures/s each", "price of a million"]
    return [head, *rows]


def gpus(plan: Plan, sizing: dict[str, Any]) -> list[list[str]]:
    """By what a GPU is assumed to do: how many, and what each wants of the cores and the network around it."""
    passing = sizing["ray"]["serve, upload and crops, core ms"]
    rows = []
    for rate in GPU_RATES:
        pictures = rate / sizing["crops"]
        # Both as busy as planned, so that cancels.
        beside = [pictures * (sizing["decode_core_ms"][size] + passing) / 1e3 for size in ("0.2 MP", "12 MP")]
        prices = [plan.units(1e6, 1 / pictures) / 3600 * (plan.gpu_hour + count * plan.core_hour) for count in beside]
        rows.append(
            [
                f"{rate:,}",
                f"{math.ceil(plan.units(plan.at_peak, 1 / pictures)):,}",
                " to ".join(f"{math.ceil(count):,}" for count in beside),
                f"{plan.busy * pictures * sizing['picture_bytes'] * 8 / 1e9:.1f}",
                f"{QUEUE_CROPS / rate:.1f}",
                " to ".join(f"{price:.2f}" for price in prices),
            ]
        )
    head = ["crops/s of a GPU, assumed", "GPUs", "cores beside each", "Gbit/s of crops into each"]
    return [[*head, "a full queue, s", "price of a million"], *rows]


def bytes_moved(plan: Plan, sizing: dict[str, Any]) -> list[list[str]]:
    """What the network and the object stores hold and move, all together."""
    crops = sizing["picture_bytes"]
    rows = [
        [f"uploads, JPEG of {size}", f"{size_bytes / 1e6:.2f}", *_rates(plan, size_bytes)]
        for size, size_bytes in sizing["upload_bytes"].items()
    ]
    rows.append(["crops from decode to engine", f"{crops / 1e6:.2f}", *_rates(plan, crops)])
    return [["what", "MB a picture", "GB/s, mean", "GB/s, peak"], *rows]


def _rates(plan: Plan, size: float) -> list[str]:
    return [f"{rate * size / 1e9:.1f}" for rate in (plan.mean, plan.at_peak)]


def markdown(table: Iterable[list[str]]) -> str:
    """A table as Markdown."""
    head, *rows = table
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for one in dataclasses.fields(Plan):
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=type(one.default), default=one.default)
    plan = Plan(**vars(parser.parse_args()))
    sizing = json.loads(SIZING.read_text(encoding="utf-8"))
    stored = plan.at_peak * plan.seconds_in_store * sizing["picture_bytes"] / 1e9
    print(f"{plan.mean:,.0f} pictures/s on average, {plan.at_peak:,.0f} at the peak; {stored:.0f} GB in stores")
    for table in (cores, gpus, bytes_moved):
        print(f"\n{markdown(table(plan, sizing))}")


if __name__ == "__main__":
    main()
