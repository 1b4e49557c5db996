"""A run folder belongs to one run: by whoever writes it, and by everything that its weights come from."""

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from model import checkpoint
from model.files import LOCK, Locked, locked
from model.networks import registry
from tests.training.conftest import RECIPE
from training import datasets, finalize, provenance, sweep, trainer
from training.evaluator import EVALUATION
from training.run import PICTURES, STATE, evaluation_folder


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


@pytest.fixture
def own(root: Path, tmp_path: Path) -> Path:
    """A copy of the data set, to be changed."""
    shutil.copytree(root.parent, tmp_path / "data")
    return tmp_path / "data" / root.name


def relabelled(labels: Path) -> None:
    """The same pictures with the worst label first."""
    header, *lines = labels.read_text().splitlines()
    names, values = zip(*(line.split(",") for line in lines), strict=True)
    labels.write_text("\n".join([header, *map(",".join, zip(names, reversed(values), strict=True))]) + "\n")


def repainted(labels: Path) -> None:
    """One picture is another one, of the same name."""
    shutil.copy(labels.parent / "03.jpg", labels.parent / "07.jpg")


@pytest.mark.parametrize(
    ("change", "told"),
    [(relabelled, r"with other labels: .* had .*, and has"), (repainted, "other pictures: 07.jpg has")],
)
@pytest.mark.parametrize("swept", [False, True])
def test_a_finished_run_is_not_taken_for_one_of_other_data(
    change: Callable[[Path], None], told: str, swept: bool, own: Path, init: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "one"
    shutil.copytree(finished, out)
    change(own)
    before = contents(out)
    runs = [sweep.Variation(name="one", recipe=RECIPE)]
    again = partial(sweep.run, runs, own, out.parent) if swept else partial(trainer.train, RECIPE, own, out)
    with pytest.raises(ValueError, match=told):
        again(init=init, decoders=0)
    after = contents(out)
    assert {file for file in before if before[file] != after[file]} <= {str(out / "train.log")}


def test_the_same_data_in_another_place_are_the_same(own: Path, init: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "one"
    shutil.copytree(finished, out)
    weights = (out / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    sweep.run([sweep.Variation(name="one", recipe=RECIPE)], own, out.parent, init=init, decoders=0)
    assert (out / "checkpoint" / "model.safetensors").stat().st_mtime_ns == weights


def test_a_default_that_has_moved_is_another_run(
    root: Path, init: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A preset's default, which the recipe does not name, is another one in a later release."""
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    family, config = registry.PRESETS[RECIPE.network]
    monkeypatch.setitem(registry.PRESETS, RECIPE.network, (family, replace(config, dropout=config.dropout + 0.1)))
    with pytest.raises(ValueError, match="with other defaults"):
        trainer.train(RECIPE, root, out, init=init, decoders=0)


def test_a_run_that_did_not_note_its_pictures_is_not_trusted(
    root: Path, init: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / PICTURES).unlink()
    with pytest.raises(ValueError, match=r"pictures\.json"):
        trainer.train(RECIPE, root, out, init=init, decoders=0)


def test_evaluations_of_an_earlier_checkpoint_are_made_again(
    root: Path, init: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "one"
    shutil.copytree(finished, out)
    file = evaluation_folder(out, "test") / EVALUATION
    file.write_text(file.read_text().replace(checkpoint.inspect(out / "checkpoint")[1], "sha256:0"))
    assert not finalize.finished(out)
    sweep.run([sweep.Variation(name="one", recipe=RECIPE)], root, out.parent, init=init, decoders=0)
    assert finalize.finished(out)
    assert file.read_bytes().replace(str(out).encode(), b"") == (
        (evaluation_folder(finished, "test") / EVALUATION).read_bytes().replace(str(finished).encode(), b"")
    )


def test_files_are_read_again_only_if_their_size_or_times_have_changed(
    root: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = hashlib.file_digest

    def file_digest(stream: Any, name: str) -> Any:
        read.append(Path(stream.name).name)
        return real(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", file_digest)
    data = datasets.read("csv", own)
    fresh = provenance.look(data.samples, data.scale)
    assert {one.stamp for one in fresh.origins.values()} == {None}, "they may change within the same tick"
    monkeypatch.setattr(provenance, "SETTLED_SECONDS", -1.0)
    known = provenance.look(data.samples, data.scale, fresh)
    assert len(read) == 24
    assert provenance.look(data.samples, data.scale, known) == known
    assert len(read) == 24
    times = (own.parent / "07.jpg").stat()
    repainted(own)
    os.utime(own.parent / "07.jpg", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert provenance.look(data.samples, data.scale, known).difference(known).startswith("of other pictures: 07.jpg")
    assert read[24:] == ["07.jpg"], "its directory entry has changed, whatever its time is set to"
    assert datasets.read("csv", root).scale == data.scale


def test_what_pictures_were_is_kept_to_the_last_digit(own: Path, tmp_path: Path) -> None:
    data = datasets.read("csv", own)
    known = provenance.look(data.samples, data.scale)
    (tmp_path / PICTURES).write_text(provenance.dump(known))
    assert provenance.load(tmp_path / PICTURES) == known
    relabelled(own)
    other = datasets.read("csv", own)
    assert provenance.look(other.samples, other.scale).digest != known.digest
