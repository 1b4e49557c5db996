"""Runs as processes: killed in the middle of an epoch, on a full disk, several at once."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from model import checkpoint
from tests import commands
from tests.training.conftest import RECIPE
from training import recipe as recipes
from training import run

PROCESS = (sys.executable, "-c", "from cli.main import main; main()")
"""Instead of the command of ``tests/commands.py``, for a run that is killed or limited itself."""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def command(root: Path, init: Path, tmp_path: Path) -> list[str]:
    """A training of the test recipe from the command line."""
    (tmp_path / "recipe.toml").write_text(recipes.dump(RECIPE))
    options = ["--root", root, "--init", init, "--decoders", 0]
    return [str(commands.folder() / "smart-iqa"), "train", str(tmp_path / "recipe.toml"), *map(str, options)]


def test_a_run_killed_in_the_middle_of_an_epoch_ends_like_an_uninterrupted_one(
    command: list[str], tmp_path: Path
) -> None:
    long = [*command, "--set", "epochs=3", "--set", "visits=6"]
    subprocess.run([*long, "--out", str(tmp_path / "whole")], check=True, env=ENVIRONMENT, capture_output=True)
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [*PROCESS, *long[1:], "--out", str(out), "--save-every", "0"], env=ENVIRONMENT, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    progress = {"epoch": 1, "step": 0}
    while progress["epoch"] < 2 or not 2 <= progress["step"] <= 6:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        if (out / run.STATE).exists():
            progress = torch.load(out / run.STATE, weights_only=True)["progress"]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    progress = torch.load(out / run.STATE, weights_only=True)["progress"]
    assert progress["step"] > 0
    resumed = subprocess.run([*long, "--out", str(out)], check=True, env=ENVIRONMENT, capture_output=True, text=True)
    assert f"going on in epoch {progress['epoch']} after {progress['step']} steps" in resumed.stderr
    assert run.read_metrics(out) == run.read_metrics(tmp_path / "whole")
    digests = {checkpoint.inspect(folder / "checkpoint")[1] for folder in (out, tmp_path / "whole")}
    assert len(digests) == 1


def test_a_full_disk_leaves_what_was_saved(command: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    subprocess.run([*command, "--out", str(out), "--set", "epochs=1"], check=True, env=ENVIRONMENT, capture_output=True)
    text = (out / run.RECIPE).read_text()
    (out / run.RECIPE).write_text(text.replace("epochs = 1\n", "epochs = 2\n"))
    before = (out / run.STATE).read_bytes()

    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    failed = subprocess.run(
        [*PROCESS, *command[1:], "--out", str(out)], env=ENVIRONMENT, capture_output=True, text=True, check=False,
        preexec_fn=no_large_files,
    )  # fmt: skip
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert "File too large" in failed.stderr
    assert "untouched" in failed.stderr
    assert (out / run.STATE).read_bytes() == before
    assert checkpoint.inspect(out / "best")
    assert not list(out.glob("*.partial"))


def test_two_processes_take_the_steps_of_one(command: list[str], tmp_path: Path) -> None:
    """One step an epoch: the first loss shows the batch put together, the second the gradient of the whole."""
    changes = ["network=smart-mobile-no-attention", "dropout=0.0", "batch_pictures=6", "loss=srcc", "epochs=2"]
    options = [word for change in changes for word in ("--set", change)]
    subprocess.run(
        [*command, "--out", str(tmp_path / "one"), *options], check=True, env=ENVIRONMENT, capture_output=True
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    subprocess.run(
        [*torchrun, *command, "--out", str(tmp_path / "two"), *options],
        check=True, env=ENVIRONMENT, capture_output=True, timeout=600,
    )  # fmt: skip
    one, two = (run.read_metrics(tmp_path / name) for name in ("one", "two"))
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-4)
    assert one[0]["loss"] != pytest.approx(one[1]["loss"], rel=1e-3)
    assert (tmp_path / "two" / "checkpoint" / checkpoint.CONFIG).exists()
