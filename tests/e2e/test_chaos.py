"""The short form of ``make chaos``: a process under fire, and nothing lost."""

import asyncio
import json
from pathlib import Path

from benchmarks.chaos import Chaos


def test_ten_seconds_under_fire(tmp_path: Path, checkpoint_folder: Path) -> None:
    chaos = Chaos(tmp_path, checkpoint_folder, pictures=6, queue_crops=64, deadline=10)
    report = asyncio.run(chaos.run(seconds=10, load=3))
    whole = json.dumps(report, indent=2)
    assert all(report["passed"].values()), whole
    # How many depends on the machine; that it scored, refused what is too much and exchanged the checkpoint does not.
    assert {"good 200", "good 429", "reload 200"} <= set(report["outcomes"]), whole
