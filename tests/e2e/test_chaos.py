"""The short form of ``make chaos``: a process under fire, and nothing lost."""

import asyncio
import json
from pathlib import Path

from benchmarks.chaos import Chaos


def test_a_quarter_of_a_minute_under_fire(tmp_path: Path) -> None:
    report = asyncio.run(Chaos(tmp_path, pictures=6, queue_crops=64, deadline=10).run(seconds=15, load=3))
    whole = json.dumps(report, indent=2)
    assert all(report["passed"].values()), whole
    assert sum(count for outcome, count in report["outcomes"].items() if outcome.endswith(" 200")) > 30, whole
