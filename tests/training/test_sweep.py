from pathlib import Path

import pytest

from tests.training.conftest import RECIPE
from training import recipe, sweep, sweep_results
from training.figures import report


@pytest.fixture(scope="module")
def swept(root: Path, init: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs that differ in their split."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "base.toml").write_text(recipe.dump(RECIPE))
    runs = "".join(f"\n[[runs]]\nname = 'split {seed}'\nseed = {seed}\n" for seed in range(3))
    (folder / "sweep.toml").write_text(f"base = 'base.toml'\n{runs}")
    sweep.run(sweep.load(folder / "sweep.toml", ["epochs=1"]), root, folder / "out", init=init, decoders=0)
    return folder


def test_runs_and_their_median(swept: Path) -> None:
    rows = sweep_results.read(swept / "out")
    assert [row["name"] for row in rows] == ["split 0", "split 1", "split 2"]
    assert {row["parameters"] for row in rows} == {1_519_261}
    parts = [sweep_results.judged(row)[0] for row in rows]
    assert parts == ["test"] * 3
    assert sweep_results.median(rows)["rmse"] == sorted(sweep_results.judged(row)[1]["rmse"] for row in rows)[1]


def test_finished_runs_are_not_trained_again(swept: Path, root: Path, init: Path) -> None:
    weights = swept / "out" / "split-1" / "checkpoint" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    sweep.run(sweep.load(swept / "sweep.toml", ["epochs=1"]), root, swept / "out", init=init, decoders=0)
    assert weights.stat().st_mtime_ns == written


def test_the_report_of_a_sweep(swept: Path) -> None:
    page = report.make(swept / "out").read_text()
    assert "median" in page
    for name in ("runs", "cost"):
        assert (swept / "out" / "figures" / f"{name}.png").exists()
        assert f"figures/{name}.svg" in page
