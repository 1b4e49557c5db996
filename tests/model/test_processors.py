"""How many processors this process may use."""

import os
from pathlib import Path

import pytest

from model.inference import processors

SIXTY_FOUR = set(range(64))

IN_A_CONTAINER = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}
IN_A_SLICE = {
    "proc/self/cgroup": "0::/system.slice/iqa.service\n",
    "sys/fs/cgroup/cpu.stat": "",
    "sys/fs/cgroup/system.slice/cpu.max": "400000 100000\n",
    "sys/fs/cgroup/system.slice/iqa.service/cpu.max": "max 100000\n",
}
OLD = {
    "proc/self/cgroup": "5:memory:/docker/7f\n3:cpu,cpuacct:/docker/7f\n0::/\n",
    # As a container sees it: its own group is at the top.
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}
OLD_WITHOUT_A_LIMIT = {**OLD, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n"}
LESS_THAN_ONE = {**IN_A_CONTAINER, "sys/fs/cgroup/cpu.max": "25000 100000\n"}


@pytest.mark.parametrize(
    ("files", "usable"),
    [
        ({}, 64),
        (IN_A_CONTAINER, 2),
        (IN_A_SLICE, 4),
        (OLD, 3),
        (OLD_WITHOUT_A_LIMIT, 64),
        (LESS_THAN_ONE, 1),
    ],
)
def test_quotas_bound_the_processors(
    files: dict[str, str], usable: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(processors, "ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: SIXTY_FOUR)
    assert processors.usable() == usable


def test_affinity_bounds_the_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7})
    assert processors.usable() == 3
