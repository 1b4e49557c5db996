import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from model import checkpoint
from tests.training.conftest import RECIPE
from training import cross_validation, recipe, sweep, sweep_results, trainer
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
