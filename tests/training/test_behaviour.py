import json
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFilter
from typer.testing import CliRunner

from cli.main import app
from model import domain
from model.scorer import Scorer
from tests.conftest import encode, photo
from training import behaviour, score_statistics
from training.datasets import Sample

PICTURES = 3


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    made = [folder / f"{seed}.png" for seed in range(PICTURES)]
    for seed, file in enumerate(made):
        file.write_bytes(encode(photo(230, 224, seed=seed).filter(ImageFilter.GaussianBlur(1)), "PNG"))
    return made


def test_rows_are_about_what_they_say(
    files: list[Path], checkpoint_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Instead of a network: the nearer the mean is to grey, the better.
    monkeypatch.setattr(
        behaviour, "_scores", lambda _, pictures: (100 - abs(float(one.mean()) - 128) for one in pictures)
    )
    found = behaviour.measure(Scorer.load(checkpoint_folder, device="cpu"), files)
    assert found.pictures == PICTURES
    rows = {row.kind: row for row in found.degraded}
    assert len(rows) == 10
    assert rows["underexposure"].violated == 0
    assert rows["underexposure"].levels[4] < rows["underexposure"].levels[0] < rows["underexposure"].untouched
    # Blur does not move the mean: its order is chance.
    assert rows["blur"].violated > 0.1
    assert found.violated == pytest.approx(np.mean([row.violated for row in found.degraded]))
    blanks = {row.kind: row for row in found.blanks}
    assert blanks["black"].highest == pytest.approx(100 - 128)
    assert blanks["black"].worse == 0
    assert blanks["noise"].highest > 60


def test_the_command(files: list[Path], finished: Path) -> None:
    asked = ["benchmark", "behaviour", str(finished / "checkpoint"), str(files[0].parent), "--pictures", "1"]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0, shown.output
    assert "salt-and-pepper noise" in shown.stdout
    told = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert told["pictures"] == 1
    assert len(told["degraded"]) == 10


def test_photos_that_it_was_trained_on_are_left_out(
    finished: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behaviour, "_scores", lambda _, pictures: (float(one.mean()) for one in pictures))
    checkpoint = finished / "checkpoint"
    asked = ["benchmark", "behaviour", str(checkpoint), str(root.parent), "--json"]
    told = json.loads(CliRunner().invoke(app, asked).stdout)
    assert told["pictures"] == 6
    trained = json.loads((checkpoint / "split.json").read_text())["train"]
    nothing = CliRunner().invoke(
        app, ["benchmark", "behaviour", str(checkpoint), *(str(root.parent / n) for n in trained)]
    )
    assert nothing.exit_code != 0
    assert "not trained on" in nothing.output


def test_what_scores_mean(files: list[Path], checkpoint_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer.load(checkpoint_folder, device="cpu")
    samples = [Sample(path=file, name=file.name, mos=0.5, group=file.name) for file in files]
    contract = scorer.checkpoint.contract
    assert score_statistics.describe(scorer, samples, contract) is contract
    monkeypatch.setattr(domain, "LEAST", PICTURES)
    told = score_statistics.describe(scorer, samples, contract)
    scores = sorted(scorer.score(file).score for file in files)
    assert told.percentiles[0] == pytest.approx(scores[0], abs=0.006)
    assert told.percentiles[10] == pytest.approx(scores[1], abs=0.006)
    assert told.percentiles[20] == pytest.approx(scores[2], abs=0.006)
    assert len(told.grades) == 4
    assert told.domain is not None
    assert told.domain.limit > 0
