"""Programs in a small container: a root that is read-only, one processor, 256 threads and processes, 64 MB of shared
memory, no home folder."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.scorer import Scorer
from tests.conftest import ROOT
from tests.e2e.conftest import Launch

PROGRAM = (sys.executable, "-m", "cli")
GROUPS = Path("/sys/fs/cgroup")
PHOTO = ROOT / "examples" / "cat.jpg"
WITHIN = """
for group in "$@"; do
    [ "$group" = -- ] && break
    echo $$ > "$group/cgroup.procs"
    shift
done
shift
mount -t tmpfs -o size=64m tmpfs /dev/shm
mount -o remount,bind,ro /
unset HOME TORCHINDUCTOR_CACHE_DIR
exec "$@"
"""
"""Joins the groups before the ``--``, makes shared memory small and all else read-only, and becomes the command."""


@pytest.fixture
def container() -> Iterator[tuple[str, ...]]:
    """What a command is put behind, to run within the limits."""
    one = GROUPS / f"smart-iqa-test-{os.getpid()}"
    if (GROUPS / "cgroup.controllers").exists():
        limits = {one: {"cpu.max": "100000 100000", "pids.max": "256"}}
    else:
        limits = {
            GROUPS / "cpu" / one.name: {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"},
            GROUPS / "pids" / one.name: {"pids.max": "256"},
        }
    try:
        try:
            for group, files in limits.items():
                group.mkdir()
                for name, text in files.items():
                    (group / name).write_text(text)
        except OSError as error:
            pytest.skip(f"this test may not make control groups: {error}")
        if shutil.which("unshare") is None or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
            pytest.skip("this test may not make namespaces")
        yield ("unshare", "--mount", "sh", "-euc", WITHIN, "sh", *map(str, limits), "--")
    finally:
        for group in limits:
            if group.exists():
                group.rmdir()


@pytest.fixture(scope="module")
def unlimited() -> float:
    """The score without limits."""
    return Scorer.load(device="cpu").score(PHOTO).score


def test_a_quota_is_seen(container: tuple[str, ...]) -> None:
    command = [*container, sys.executable, "-c", "from model.inference import processors; print(processors.usable())"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "1\n"


def test_the_service_starts_and_scores_within_a_small_container(
    container: tuple[str, ...], unlimited: float, launch: Launch, tmp_path: Path
) -> None:
    with launch(tmp_path / "log", program=(*container, *PROGRAM), cwd=ROOT) as service:
        answer = service.post(PHOTO.read_bytes())
        assert answer.json()["score"] == unlimited


def test_the_command_scores_within_a_small_container(container: tuple[str, ...], unlimited: float) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [*container, *PROGRAM, "score", str(PHOTO), "--format", "jsonl"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["score"] == unlimited
