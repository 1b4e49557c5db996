import json
import subprocess
import sys

import pytest

from benchmarks import autoscaling, plan
from benchmarks.plan import Plan, markdown
from tests.conftest import ROOT

SIZING = {
    "crops": 4,
    "picture_bytes": 1_000_000,
    "upload_bytes": {"0.2 MP": 100_000, "12 MP": 3_000_000},
    "decode_core_ms": {"0.2 MP": 5.0, "12 MP": 45.0},
    "engine_core_ms_per_crop": 10.0,
    "ray": {"serve, upload and crops, core ms": 5.0},
}
EASY = Plan(pictures_per_day=86400 * 1000, peak=2.0, busy=0.5, machine_cores=10, core_hour=0.036, gpu_hour=1.8)


def test_cores_are_what_pictures_a_second_take_of_them() -> None:
    _, small, large = plan.cores(EASY, SIZING)
    # 2,000 pictures/s of 5, 5 and 40 ms are 10, 10 and 80 cores all of the time, and twice as many half of it.
    assert small[:7] == ["0.2 MP", "5.0", "20", "20", "160", "20", "100"]
    assert large[:7] == ["12 MP", "45.0", "180", "20", "160", "36", "56"]
    # A million of 50 ms are 50,000 core seconds, half of the time: 27.8 hours.
    assert small[7] == "1.00"


def test_gpus_are_what_pictures_a_second_take_of_them() -> None:
    rate, count, beside, gigabits, queue, price = plan.gpus(EASY, SIZING)[2]
    # 2,000 crops/s are 500 pictures/s, and half of that is planned with: eight for 2,000 pictures/s.
    assert (rate, count, queue) == ("2,000", "8", "0.5")
    assert beside == "5 to 25"
    assert gigabits == "2.0"
    # A million takes 4,000 seconds of a GPU at half of its time, with 5 to 25 cores.
    assert price == "2.20 to 3.00"


def test_bytes_are_those_of_the_pictures_in_a_second() -> None:
    assert plan.bytes_moved(EASY, SIZING)[1:] == [
        ["uploads, JPEG of 0.2 MP", "0.10", "0.1", "0.2"],
        ["uploads, JPEG of 12 MP", "3.00", "3.0", "6.0"],
        ["crops from decode to engine", "1.00", "1.0", "2.0"],
    ]


def test_twice_the_load_wants_twice_the_machines() -> None:
    twice = Plan(pictures_per_day=2 * EASY.pictures_per_day, busy=0.5, machine_cores=10)
    one, two = (int(plan.cores(which, SIZING)[1][5]) for which in (EASY, twice))
    assert two == 2 * one


def test_the_command_prints_for_the_load_that_it_is_given() -> None:
    command = [sys.executable, "-m", "benchmarks.plan", "--pictures-per-day", "8640000", "--peak", "3"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    assert printed.startswith("100 pictures/s on average, 300 at the peak")


@pytest.mark.parametrize("name", ["cores", "gpus", "bytes_moved"])
def test_the_page_has_the_tables_of_what_was_measured(name: str) -> None:
    sizing = json.loads(plan.SIZING.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert markdown(getattr(plan, name)(Plan(), sizing)) in page


def test_the_page_has_the_simulated_days() -> None:
    report = json.loads((autoscaling.FOLDER / "autoscaling.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert markdown(autoscaling.table(report)) in page
