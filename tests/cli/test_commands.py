import csv
import io
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from cli.main import main
from model.scorer import Scorer
from tests.commands import smart_iqa
from tests.conftest import EXAMPLES, encode, photo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures, one of them in a sub-folder, and two files that are none."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "b.JPG").write_bytes(encode(photo()))
    (folder / "a").mkdir()
    (folder / "a" / "grey.png").write_bytes(encode(photo(seed=1).convert("L"), "PNG"))
    (folder / "notes.txt").write_text("not a picture")
    (folder / "broken.jpg").write_bytes(encode(photo())[:2000])
    return folder


def test_score_as_json_lines(folder: Path, checkpoint_folder: Path, scorer: Scorer) -> None:
    result = smart_iqa("score", folder, "-f", "jsonl", "--checkpoint", checkpoint_folder, "--precision", "fp32")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(line["path"]).name for line in lines] == ["grey.png", "b.JPG", "broken.jpg"]
    assert lines[1] == {"path": str(folder / "b.JPG"), **scorer.score(folder / "b.JPG").to_dict()}
    assert "truncated" in lines[2]["error"]
    assert result.returncode == 1
    assert "1 of 3 pictures could not be scored" in result.stderr


def test_score_as_csv(folder: Path, checkpoint_folder: Path, scorer: Scorer) -> None:
    result = smart_iqa(
        "score", folder, folder / "none.jpg", "-f", "csv", "--crops", 2, "--checkpoint", checkpoint_folder,
        "--precision", "fp32",
    )  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["error"] != "" for row in rows] == [False, False, True, True]
    assert float(rows[0]["score"]) == scorer.score(folder / "a" / "grey.png", 2).score
    assert (rows[0]["crops"], rows[0]["warnings"]) == ("2", "grayscale")
    assert rows[3]["error"] == "No such file or directory"
    assert result.returncode == 1


def test_score_with_as_many_crops_as_it_takes(sixteen_crops: Path) -> None:
    scorer = Scorer.load(sixteen_crops, device="cpu", precision="fp32")
    options = ("-f", "jsonl", "--crops", "auto", "--device", "cpu", "--precision", "fp32")
    result = smart_iqa("score", *EXAMPLES, "--checkpoint", sixteen_crops, *options)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines == [{"path": str(file), **scorer.score(file, "auto").to_dict()} for file in EXAMPLES]
    assert min(line["crops"] for line in lines) < scorer.checkpoint.contract.crops


def test_score_as_a_table(folder: Path, checkpoint_folder: Path) -> None:
    result = smart_iqa("score", folder / "b.JPG", "--checkpoint", checkpoint_folder)
    assert result.returncode == 0
    assert "320x240" in result.stdout
    assert result.stderr.strip() == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["score"], "Missing argument"),
        (["score", "x.jpg", "--crops", "0"], "neither 1 to 64 nor auto"),
        (["score", "x.jpg", "--crops", "65"], "neither 1 to 64 nor auto"),
        (["evaluate", "--root", "x", "--crops", "few"], "neither 1 to 64 nor auto"),
        (["score", "x.jpg", "--device", "tpu"], "tpu"),
        (["score", "x.jpg", "--checkpoint", "nowhere"], "no such checkpoint folder"),
        (["serve", "--checkpoint", "nowhere"], "no such checkpoint folder"),
        (["serve", "--port", "99999"], "SMARTIQA_PORT"),
        (["models", "show", "smart-giant"], "neither a checkpoint folder nor a network"),
        (["train", "none.toml", "--root", "x", "--out", "y"], "none.toml"),
        (["evaluate", "--dataset", "imagenet", "--root", "x"], "no data set is called"),
        (["evaluate", "--root", "x", "--split", "dev"], "'dev' is not one of"),
        (["evaluate", "--root", ".", "--dataset", "csv", "--dataset", "spaq"], "2 names for 1 data sets"),
        (["evaluate", "--root", "."], "holds no data set that is known"),
        (["datasets", "check", "."], "holds no data set that is known"),
        (["sweep", "none.toml", "--root", "x", "--out", "y"], "none.toml"),
        (["train", "smart-tiny-koniq", "--root", "x", "--out", "y", "--set", "epoch=1"], "did you mean 'epochs'"),
        (["train", "smart-tiny-koniq", "--root", "x", "--out", "y"], "x: no such file or folder"),
        (["train", "smart-tiny-koniq", "--root", ".", "--out", "y"], "koniq10k_scores_and_distributions.csv: no such"),
        (["figures", "."], "holds no run"),
        (["benchmark", "complexity", "smart-giant"], "no network is called"),
        (["benchmark", "models", "smart-giant"], "no network is called"),
        (["benchmark", "precision", "."], "there are no pictures"),
        (["models", "quantise", "nowhere", "."], "no such checkpoint folder"),
        (["benchmark", "models", "--checkpoints", "nowhere"], "does not exist"),
        (["fly"], "No such command"),
    ],
)
def test_wrong_usage_ends_with_a_sentence_and_status_2(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process, since they are many."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["smart-iqa", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert words in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


def test_an_empty_folder_is_wrong_usage(tmp_path: Path) -> None:
    assert "no pictures" in smart_iqa("score", tmp_path).stderr


def test_models(checkpoint_folder: Path) -> None:
    listed = smart_iqa("models", "list", checkpoint_folder.parent)
    assert "smart-mobile-0" in listed.stdout
    assert "smart-base-no-attention" in listed.stdout
    shown = smart_iqa("models", "show", checkpoint_folder)
    assert '"dataset": "made-up"' in shown.stdout
    assert "# Random weights" in shown.stdout
    network = json.loads(smart_iqa("models", "show", "smart-mobile").stdout)
    assert network["parameters"] == 3_101_517


def test_help_of_every_command_does_not_wait_for_torch() -> None:
    """Nor does importing the command line."""
    check = """if True:
        import json, sys
        import typer
        from typer.testing import CliRunner
        from cli.main import app

        told = {"import": [0, "Usage", "torch" in sys.modules]}

        def show_help(command, path):
            result = CliRunner().invoke(app, [*path, "--help"])
            told[" ".join(path)] = [result.exit_code, result.output, "torch" in sys.modules]
            for name, sub_command in getattr(command, "commands", {}).items():
                show_help(sub_command, [*path, name])

        show_help(typer.main.get_command(app), [])
        print(json.dumps(told))
    """
    result = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    told = json.loads(result.stdout)
    assert {"import", "", "serve", "score", "score-bulk", "train", "benchmark models", "keys make"} < set(told)
    assert {command: status for command, (status, _, _) in told.items() if status != 0} == {}
    assert [command for command, (_, output, _) in told.items() if "Usage" not in output] == []
    assert [command for command, (_, _, torch) in told.items() if torch] == []


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_do_not_wait_for_torch(option: str) -> None:
    check = f"""if True:
        import atexit, sys
        from cli.main import main
        sys.argv[1:] = [{option!r}]
        atexit.register(lambda: print('torch' in sys.modules))
        main()
    """
    result = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "False"


def test_version() -> None:
    versions = [f"{name} {metadata.version(name)}" for name in ("smart-iqa", "torch")]
    assert smart_iqa("--version").stdout.splitlines() == versions
