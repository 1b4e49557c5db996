"""How many processors this process may use. Imports no torch."""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def usable() -> int:
    """Processors that this process may use: by its affinity and by the quotas of its cgroups, rounded up; at least one.

    Threads beyond them only wait: a quota that is used up stops all of them until the next period.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min([allowed, *map(math.ceil, _quotas())]), 1)


def _quotas() -> Iterator[float]:
    """The quotas of the cgroups that this process is in, in processors.

    Source: the kernel's ``cgroup-v2.rst`` (``cpu.max``) and ``sched-bwc.rst`` (``cpu.cfs_quota_us``).
    """
    for line in _text(ROOT / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = ROOT / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # Groups bound those in them. In a container the path may be the host's, and the files are at the top.
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            limit = " ".join(_text(folder / file) for file in files).split()
            # Without a limit the quota is "max", or -1.
            if len(limit) == 2 and limit[0].isdecimal():
                yield int(limit[0]) / int(limit[1])
            if folder == mount:
                break


def _text(file: Path) -> str:
    with contextlib.suppress(OSError):
        return file.read_text(encoding="utf-8")
    return ""
