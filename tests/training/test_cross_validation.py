import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cli.main import app
from model import checkpoint
from model.networks import registry
from tests.training.conftest import RECIPE
from training import cross_validation, datasets, recipe, sweep, sweep_results, trainer
from training.evaluator import EVALUATION
from training.run import CHECKPOINT, evaluation_folder


@pytest.fixture(scope="module")
def swept(root: Path, init: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over three folds of twelve pictures."""
    folder = tmp_path_factory.mktemp("folds")
    base = replace(RECIPE, split="folds", folds=3, selection="last", epochs=1, crops=4)
    (folder / "base.toml").write_text(recipe.dump(base))
    runs = "".join(f"\n[[runs]]\nname = 'fold {fold}'\nfold = {fold}\n" for fold in range(3))
    (folder / "sweep.toml").write_text(f"base = 'base.toml'\n{runs}")
    sweep.run(sweep.load(folder / "sweep.toml"), root, folder / "out", init=init, decoders=0)
    return folder / "out"


def test_all_folds_together(swept: Path) -> None:
    found = cross_validation.read(swept)
    rows = sweep_results.read(swept)
    assert (found.folds, found.pictures) == (3, 12)
    srcc = [row["figures"]["csv-test"]["srcc"] for row in rows]
    assert found.mean["srcc"] == pytest.approx(np.mean(srcc))
    assert found.spread["srcc"] == pytest.approx(np.std(srcc, ddof=1))
    tables = [pd.read_csv(evaluation_folder(swept / row["folder"], "test") / "predictions.csv") for row in rows]
    # Labels of this set run from 1/12 to 1: what a point is, the contract knows.
    scale = checkpoint.inspect(swept / "fold-0" / CHECKPOINT)[0].contract.scale
    errors = pd.concat(tables)["error"].abs() / (scale.max - scale.min) * 100
    assert found.error == pytest.approx(errors.mean())
    assert found.within == pytest.approx(tuple(np.percentile(errors, (50, 68, 95))))
    stderr = pd.concat(tables)["stderr"]
    assert found.coverage[1] == pytest.approx((errors <= 2 * stderr).mean())
    assert found.figures()["srcc_sd"] == round(found.spread["srcc"], 4)


def test_a_checkpoint_carries_them(swept: Path, root: Path, init: Path, tmp_path: Path) -> None:
    whole = replace(RECIPE, validation_share=0, test_share=0, selection="last", epochs=1)
    folder = trainer.train(
        whole, root, tmp_path / "run", init=init, decoders=0, cross_validation=cross_validation.by_sources(swept, ())
    )
    config, _ = checkpoint.inspect(folder)
    assert config.figures == {"csv-folds": cross_validation.read(swept).figures()}
    card = (folder / checkpoint.CARD).read_text()
    assert f"---|\n| 3 folds | 12 | {cross_validation.read(swept).mean['srcc']:.4f} ± " in card
    assert "points of 100 away" in card


def test_sources_that_are_not_learned_from_are_told_apart(swept: Path, root: Path, init: Path, tmp_path: Path) -> None:
    shutil.copytree(swept, tmp_path / "out")
    for file in (tmp_path / "out").glob("*/evaluation-test/predictions.csv"):
        table = pd.read_csv(file, dtype={"name": str})
        odd = table["name"] == table["name"].max()
        table.assign(source=np.where(odd, "odd", "even")).to_csv(file, index=False)
    learned, everything = cross_validation.by_sources(tmp_path / "out", ("odd",))
    assert (learned.pictures, everything.pictures) == (9, 12)
    assert everything.mean == cross_validation.read(swept).mean != learned.mean
    whole = replace(RECIPE, validation_share=0, test_share=0, selection="last", epochs=1)
    folder = trainer.train(whole, root, tmp_path / "run", init=init, decoders=0, cross_validation=[learned, everything])
    assert [*checkpoint.inspect(folder)[0].figures] == ["csv-folds-without-odd", "csv-folds"]
    card = (folder / checkpoint.CARD).read_text()
    assert f"| 3 folds, without odd | 9 | {learned.mean['srcc']:.4f} ± " in card
    assert f"| 3 folds | 12 | {everything.mean['srcc']:.4f} ± " in card


def test_runs_that_are_no_folds(swept: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sweep\.json"):
        cross_validation.read(tmp_path)
    (tmp_path / "sweep.json").write_text((swept / "sweep.json").read_text().replace("fold-1", "fold-0"))
    for name in ("fold-0", "fold-2"):
        (tmp_path / name).symlink_to(swept / name)
    with pytest.raises(ValueError, match="is tested twice"):
        cross_validation.read(tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "sweep.json").write_text(json.dumps({"runs": sweep_results.read(swept)[:1]}))
    with pytest.raises(ValueError, match="two at least"):
        cross_validation.predictions(tmp_path / "one")
    (tmp_path / "fold-2").unlink()
    with pytest.raises(ValueError, match="fold-2"):
        cross_validation.read(tmp_path)


FOLDS = replace(RECIPE, selection="last", epochs=1, crops=4)
"""The recipe of the sweep, for all pictures."""


def described(recipe_: recipe.Recipe = FOLDS) -> dict[str, Any]:
    return registry.described(recipe_.network, **recipe_.network_changes())


def test_folds_are_of_the_recipe_that_they_tell_of(swept: Path, root: Path) -> None:
    data = datasets.read("csv", root)
    cross_validation.check(swept, described(), data, replace(FOLDS, validation_share=0))
    with pytest.raises(ValueError, match=r"of another recipe: head_lr is 0\.001, not 0\.002"):
        cross_validation.check(swept, described(), data, replace(FOLDS, head_lr=0.002))
    with pytest.raises(ValueError, match="of another network: its attention is True"):
        cross_validation.check(swept, {**described(), "attention": False}, data)


def test_folds_are_of_the_labels_and_pictures_that_they_tell_of(swept: Path, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root.parent, tmp_path / "data")
    labels = tmp_path / "data" / root.name
    cross_validation.check(swept, described(), datasets.read("csv", labels))
    shutil.copy(labels.parent / "03.jpg", labels.parent / "07.jpg")
    with pytest.raises(ValueError, match=r"of other pictures: 07\.jpg has changed"):
        cross_validation.check(swept, described(), datasets.read("csv", labels))
    labels.write_text(labels.read_text().replace("03.jpg,0.75", "03.jpg,0.76"))
    with pytest.raises(ValueError, match=r"other labels: 03\.jpg had 0\.75, and has 0\.76"):
        cross_validation.check(swept, described(), datasets.read("csv", labels))
    labels.write_text("\n".join(root.read_text().splitlines()[:-1]))
    with pytest.raises(ValueError, match=r"tested on 11\.jpg, which the data set has not"):
        cross_validation.check(swept, described(), datasets.read("csv", labels))


def test_a_sweep_that_was_broken_off_is_no_cross_validation(swept: Path, tmp_path: Path) -> None:
    shutil.copytree(swept, tmp_path / "out")
    sweep_results.write(tmp_path / "out", sweep_results.read(swept)[:2])
    with pytest.raises(ValueError, match="not complete: fold 2 is missing"):
        cross_validation.read(tmp_path / "out")


def test_evaluations_of_another_checkpoint_are_not_read(swept: Path, tmp_path: Path) -> None:
    shutil.copytree(swept, tmp_path / "out")
    file = evaluation_folder(tmp_path / "out" / "fold-1", "test") / EVALUATION
    file.write_text(file.read_text().replace('"digest": "sha256:', '"digest": "sha256:0'))
    with pytest.raises(ValueError, match="not of the checkpoint beside it"):
        cross_validation.read(tmp_path / "out")


def test_the_command_asks_before_it_trains(swept: Path, root: Path, init: Path, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(recipe.dump(replace(FOLDS, weight_decay=0.5)))
    arguments = ["train", tmp_path / "own.toml", "--root", root, "--init", init, "--out", tmp_path / "run"]
    told = CliRunner().invoke(app, [*map(str, arguments), "--folds", str(swept)])
    assert "of another recipe: weight_decay is 0.0001, not 0.5" in str(told.exception)
    assert not (tmp_path / "run").exists()
