"""A run folder belongs to one run: by whoever writes it, and by everything that its weights come from."""

import shutil
from pathlib import Path

import pytest

from model.files import LOCK, Locked, locked
from tests.training.conftest import RECIPE
from training import sweep, trainer
from training.run import STATE


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a run that a second one could spoil."""
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != LOCK}


def test_two_trainings_do_not_write_one_folder(root: Path, init: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / STATE).unlink()
    before = contents(out)
    with locked(out, out / LOCK), pytest.raises(Locked, match="another run is writing"):
        trainer.train(RECIPE, root, out, init=init, decoders=0)
    assert contents(out) == before


def test_a_training_does_not_write_into_a_sweep_at_work(root: Path, init: Path, tmp_path: Path) -> None:
    run = sweep.Variation(name="one", recipe=RECIPE)
    with locked(tmp_path / "one", tmp_path / "one" / LOCK), pytest.raises(Locked):
        sweep.run([run], root, tmp_path, init=init, decoders=0)
    with locked(tmp_path, tmp_path / LOCK), pytest.raises(Locked):
        sweep.run([run], root, tmp_path, init=init, decoders=0)
    assert not (tmp_path / "one" / STATE).exists()
