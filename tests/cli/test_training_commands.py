import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from cli.main import app
from model.networks import registry
from tests.commands import python, smart_iqa
from tests.conftest import encode, photo
from tests.training import layouts
from tests.training.layouts import put, write_csv


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's CSV with five pictures."""
    folder = tmp_path_factory.mktemp("own")
    for index in range(5):
        put(folder / f"{index}.jpg", encode(photo(seed=index)))
    write_csv(folder / "own.csv", ("path", "mos"), [(f"{index}.jpg", index) for index in range(5)])
    return folder / "own.csv"


def test_datasets_list() -> None:
    listed = smart_iqa("datasets", "list")
    assert listed.returncode == 0
    for name in (*layouts.BUILDERS, "csv"):
        assert name in listed.stdout


def test_datasets_check_tells_what_a_folder_is(tmp_path: Path) -> None:
    layouts.koniq10k(tmp_path)
    checked = smart_iqa("datasets", "check", tmp_path)
    assert checked.returncode == 0
    for words in ("koniq10k", "10 of 10,073", "MOS_zscore, 0 to 90", "train 6, validation 2, test 2"):
        assert words in checked.stdout


def test_datasets_check_names_what_is_missing_or_broken(tmp_path: Path) -> None:
    layouts.kadid10k(tmp_path)
    (tmp_path / "images" / "I01_01_01.png").unlink()
    file = tmp_path / "images" / "I02_01_02.png"
    file.write_bytes(file.read_bytes()[:200])
    checked = smart_iqa("datasets", "check", tmp_path)
    assert checked.returncode == 1
    assert "I01_01_01.png: no such picture" in checked.stderr
    assert "I02_01_02.png: " in checked.stderr
    assert "5, kept together in splits" in checked.stdout
    assert "Traceback" not in checked.stderr


def test_evaluate_and_figures(own: Path, checkpoint_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    measured = smart_iqa("evaluate", checkpoint_folder, "--root", own, "--out", out)
    assert measured.returncode == 0, measured.stderr
    assert "SRCC" in measured.stdout
    assert len(pd.read_csv(out / "predictions.csv")) == 5
    assert json.loads((out / "evaluation.json").read_text())["part"] == "all"
    drawn = smart_iqa("figures", out)
    assert drawn.stdout.strip() == str(out / "report.html")
    assert (out / "report.html").exists()


def test_a_matrix_of_checkpoints_and_data_sets(own: Path, checkpoint_folder: Path, tmp_path: Path) -> None:
    # Two data sets of one kind must not be taken for one.
    layouts.put(tmp_path / "second" / "0.jpg", encode(photo(seed=7)))
    layouts.put(tmp_path / "second" / "1.jpg", encode(photo(seed=8)))
    write_csv(tmp_path / "second" / "own.csv", ("path", "mos"), [("0.jpg", 1), ("1.jpg", 2)])
    other = tmp_path / "other"
    other.symlink_to(checkpoint_folder)
    measured = smart_iqa(
        "evaluate",
        checkpoint_folder,
        other,
        "--root",
        own,
        "--root",
        tmp_path / "second" / "own.csv",
        "--out",
        tmp_path / "out",
    )
    assert measured.returncode == 0, measured.stderr
    assert "SRCC / PLCC" in measured.stdout
    assert measured.stdout.count("median") == 2
    assert len(list((tmp_path / "out").glob("*/predictions.csv"))) == 4


def test_benchmark_complexity() -> None:
    measured = smart_iqa("benchmark", "complexity", "smart-mobile", "--batch", 2, "--rounds", 1, "--json")
    cost = json.loads(measured.stdout)
    assert cost["parameters"] == 3_101_517
    assert 0.3 < cost["gmacs"] < 0.5


def test_benchmark_models() -> None:
    names = ("smart-mobile", "life-iqa-mobile")
    measured = smart_iqa("benchmark", "models", *names, "--batch", 1, "--rounds", 1, "--json")
    assert measured.returncode == 0, measured.stderr
    lines = [json.loads(line) for line in measured.stdout.splitlines()]
    costs = [line for line in lines if line["kind"] == "cost"]
    assert [cost["name"] for cost in costs] == list(names)
    assert costs[1]["parameters"] == costs[1]["trainable"] == 9_590_790
    measured_here = [line for line in lines if line["kind"] == "measured"]
    assert [here["part"] for here in measured_here] == ["folds-without-ss02", "folds"]
    assert all((here["dataset"], here["chosen_on"]) == ("biq2021", False) for here in measured_here)


def test_a_network_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The network is known to this process, not to the one that measures it.
    monkeypatch.setitem(registry.PRESETS, "broken", registry.PRESETS["smart-mobile"])
    arguments = ["broken", "loda-ti", "--batch", "1", "--rounds", "1", "--checkpoints", str(tmp_path)]
    measured = CliRunner().invoke(app, ["benchmark", "models", *arguments])
    assert measured.exit_code == 1
    assert "broken could not be measured: no network is called 'broken'" in measured.stderr
    for words in ("loda-ti", "crops/s", "LoDa, Table 4", ".914 .926", "PLCC after a logistic"):
        assert words in measured.stdout
    assert "here:" not in measured.stdout


def test_without_the_training_libraries_one_sentence_says_what_to_install(own: Path, tmp_path: Path) -> None:
    code = (
        "sys.modules['pandas'] = None; sys.argv = ['smart-iqa', 'evaluate', '--root', sys.argv[1]]\n"
        "from cli.main import main; main()"
    )
    result = python(code, tmp_path, own)
    assert result.returncode == 2
    assert "pip install 'smart-iqa[train]'" in result.stderr
    assert "Traceback" not in result.stderr
