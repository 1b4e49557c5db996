"""Training by the workers of a cluster: the numbers of torchrun, whatever is lost on the way."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from model import checkpoint
from tests import commands
from tests.e2e.ray.conftest import add_node, cluster_of
from tests.training.conftest import RECIPE
from tests.training.layouts import blurred
from training import recipe as recipes
from training import run

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
ONE_CORE = {"num_cpus": 1}
# A lost node is noticed within a second or two.
HEAD = {"num_cpus": 0, "_system_config": {"health_check_period_ms": 500, "health_check_failure_threshold": 3}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that does not work, and two nodes of a core each."""
    with cluster_of(HEAD, ONE_CORE, ONE_CORE) as started:
        yield started


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A training of 36 steps; the folder for it is left out."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "recipe.toml").write_text(recipes.dump(RECIPE))
    options = ["--root", blurred(folder), "--init", "random", "--decoders", 0, "--set", "visits=12"]
    return [str(commands.folder() / "smart-iqa"), "train", str(folder / "recipe.toml"), *map(str, options)]


def environment(**more: str) -> dict[str, str]:
    ours = {"CUDA_VISIBLE_DEVICES": "", "RAY_ADDRESS": "", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.3"}
    return {**os.environ, **ours, **more}


def workers(cluster: Any, node: Any) -> list[int]:
    """Processes on a node that train."""
    alive = cluster.global_state.actor_table(None, None, "ALIVE").values()
    training = [actor for actor in alive if "RayTrainWorker" in actor["ActorClassName"]]
    return [actor["Pid"] for actor in training if actor["Address"]["NodeID"] == node.node_id]


def steps(out: Path) -> int:
    """How far the saved state of a run is."""
    if not (out / run.STATE).exists():
        return 0
    progress = torch.load(out / run.STATE, weights_only=True)["progress"]
    return int(18 * (progress["epoch"] - 1) + progress["step"])


def wait_for(process: "subprocess.Popen[str]", out: Path, step: int) -> int:
    deadline = time.monotonic() + 180
    while steps(out) < step:
        assert process.poll() is None, "it ended early"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return steps(out)


def test_a_lost_process_and_a_lost_node_change_no_number(cluster: Any, command: list[str], tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    subprocess.run([*TORCHRUN, *command, "--out", str(whole)], check=True, env=environment(), capture_output=True)

    on_ray = [*command, "--ray", "--workers", "2", "--save-every", "0", "--out", str(out)]
    with subprocess.Popen(
        on_ray, env=environment(RAY_ADDRESS=cluster.address), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    ) as process:  # fmt: skip
        first, second = sorted(cluster.worker_nodes, key=lambda node: node.unique_id)
        killed_at = wait_for(process, out, 5)
        [victim] = workers(cluster, first)
        os.kill(victim, signal.SIGKILL)
        lost_at = wait_for(process, out, killed_at + 10)
        assert len(workers(cluster, second)) == 1
        cluster.remove_node(second, allow_graceful=False)
        add_node(cluster, **ONE_CORE)
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert killed_at < lost_at < 36
    # Started again twice, each time from a state that was saved.
    assert (out / run.LOG).read_text().count("going on in epoch") == 2
    assert run.read_metrics(out) == run.read_metrics(whole)
    digests = {checkpoint.inspect(folder / run.CHECKPOINT)[1] for folder in (out, whole)}
    assert len(digests) == 1


def test_what_a_user_did_wrong_is_told_once(cluster: Any, command: list[str], tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,mos\n" + "".join(f"{index}.jpg,{index}\n" for index in range(12)))
    failed = subprocess.run(
        [*command, "--ray", "--workers", "2", "--root", str(tmp_path / "labels.csv"), "--out", str(tmp_path / "out")],
        env=environment(RAY_ADDRESS=cluster.address), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert "Traceback" not in failed.stderr
    # A second time would tell of a lost worker before.
    assert failed.stderr.count("no such picture") == 1
    assert failed.stderr.splitlines()[-1].startswith("error: ")


def test_without_a_cluster_this_machine_is_one_and_must_be_large_enough(command: list[str], tmp_path: Path) -> None:
    failed = subprocess.run(
        [*command, "--ray", "--workers", "999", "--out", str(tmp_path)],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert failed.returncode == 2
    cores = re.search(r"error: 999 workers need 999 cores; this machine has (\d+)", failed.stderr)
    assert cores is not None, failed.stderr
    assert 1 <= int(cores[1]) < 999
    assert "Traceback" not in failed.stderr


def test_workers_need_ray(command: list[str], tmp_path: Path) -> None:
    failed = subprocess.run(
        [*command, "--workers", "2", "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 2
    assert "--ray" in failed.stderr
