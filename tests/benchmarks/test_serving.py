import os
import subprocess
import sys

from benchmarks import measure, serving
from benchmarks.openloop import Trial
from benchmarks.serving import Row


def row(rate: float, *, sustained: bool) -> Row:
    trial = Trial(rate=rate, requests=10, p50_ms=1.0, p99_ms=2.0, late_ms=0.5, sustained=sustained)
    return Row(idle_ms=[10.0, 12.0, 11.0], saturated=[rate, rate + 2.0], trials=[trial])


def test_ratios_are_ours_over_the_peers() -> None:
    rows = {"small": {"smart-iqa": row(8.0, sustained=True), "fastapi": row(4.0, sustained=True)}}
    report = serving.assemble(rows, {"decode_ms": 1.0, "engine_ms": 7.0, "crops": 180.0}, {"small": 16})
    assert report["ratios"]["small"]["fastapi"]["sustained_pictures"] == 2.0
    assert report["pictures"]["small"]["smart-iqa"]["sustained_crops"] == 128.0
    assert report["overhead_ms"] == 3.0
    assert report["throughput_share"] == 0.8


def test_there_is_no_ratio_to_a_peer_that_sustains_nothing() -> None:
    rows = {"small": {"smart-iqa": row(8.0, sustained=True), "fastapi": row(4.0, sustained=False)}}
    report = serving.assemble(rows, {"decode_ms": 1.0, "engine_ms": 7.0, "crops": 180.0}, {"small": 16})
    assert report["ratios"]["small"]["fastapi"]["sustained_pictures"] is None


def test_memory_is_that_of_all_processes_of_a_session() -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as leader:
        assert leader.stdout is not None
        leader.stdout.readline()
        assert measure.session_megabytes(leader.pid) > measure.resident_megabytes(leader.pid)
        leader.kill()
    assert measure.session_megabytes(os.getsid(0)) >= measure.resident_megabytes(os.getpid())
