"""Runs as processes: killed in the middle of an epoch, on a full disk, several at once."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from model import checkpoint
from tests import commands
from tests.training.conftest import RECIPE
from training import recipe as recipes
from training import run

KILLED = """
import os, signal
from cli.main import main

replace, saved = os.replace, 0

def replace_or_die(source, target):
    global saved
    saved += os.path.basename(target) == "state.pt"
    if saved == 11:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = replace_or_die
main()
"""
"""A run of six steps an epoch that saves after each, killed while it saves the fourth step of its second epoch."""
FULL_DISK = """
import resource
from cli.main import main

resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
main()
"""
TWO_PROCESSES = """
import sys
from torch.distributed.run import main

main(["--standalone", "--nproc-per-node=2", "--no-python", *sys.argv[1:]])
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def command(root: Path, init: Path, tmp_path: Path) -> list[str]:
    """A training of the test recipe from the command line."""
    (tmp_path / "recipe.toml").write_text(recipes.dump(RECIPE))
    options = ["--root", root, "--init", init, "--decoders", 0]
    return [str(commands.folder() / "smart-iqa"), "train", str(tmp_path / "recipe.toml"), *map(str, options)]


def python(script: str, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a script, as ``python script.py arguments`` does."""
    (folder / "script.py").write_text(script)
    return subprocess.run(
        [str(commands.folder() / "python"), str(folder / "script.py"), *arguments],
        env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_run_killed_in_the_middle_of_an_epoch_ends_like_an_uninterrupted_one(
    command: list[str], tmp_path: Path
) -> None:
    long = [*command, "--set", "epochs=2", "--set", "visits=4"]
    subprocess.run([*long, "--out", str(tmp_path / "whole")], check=True, env=ENVIRONMENT, capture_output=True)
    out = tmp_path / "killed"
    killed = python(KILLED, tmp_path, *long[1:], "--out", str(out), "--save-every", "0")
    assert killed.returncode != 0
    assert (out / f"{run.STATE}.partial").exists()
    progress = torch.load(out / run.STATE, weights_only=True)["progress"]
    assert (progress["epoch"], progress["step"]) == (2, 3)
    resumed = subprocess.run([*long, "--out", str(out)], check=True, env=ENVIRONMENT, capture_output=True, text=True)
    assert "going on in epoch 2 after 3 steps" in resumed.stderr
    assert run.read_metrics(out) == run.read_metrics(tmp_path / "whole")
    digests = {checkpoint.inspect(folder / "checkpoint")[1] for folder in (out, tmp_path / "whole")}
    assert len(digests) == 1
    assert not list(out.glob("*.partial"))


def test_a_full_disk_leaves_what_was_saved(command: list[str], finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    text = (out / run.RECIPE).read_text()
    (out / run.RECIPE).write_text(text.replace("epochs = 2\n", "epochs = 3\n"))
    before = (out / run.STATE).read_bytes()
    failed = python(FULL_DISK, tmp_path, *command[1:], "--out", str(out), "--set", "epochs=3")
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
    two_processes = python(TWO_PROCESSES, tmp_path, *command, "--out", str(tmp_path / "two"), *options)
    assert two_processes.returncode == 0, two_processes.stderr
    one, two = (run.read_metrics(tmp_path / name) for name in ("one", "two"))
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-4)
    assert one[0]["loss"] != pytest.approx(one[1]["loss"], rel=1e-3)
    assert (tmp_path / "two" / "checkpoint" / checkpoint.CONFIG).exists()
