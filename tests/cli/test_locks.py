"""Every command that writes keeps a second run out of what it writes, before it loads a model."""

import errno
import fcntl
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from model import checkpoint
from model.files import LOCK, locked
from model.scorer import Scorer
from tests.cli.brightness import folder_of
from tests.cli.conftest import Score

LABELS = "path,thumb\n" + "".join(f"{place}.png,{'up' if place % 2 else 'down'}\n" for place in range(20))
COMMANDS = {
    "score": ("score photos --out target.csv", "target.csv"),
    "score --html": ("score photos --html target.html", "target.html"),
    "score-bulk": ("score-bulk photos target", "target/_job/"),
    "pick": ("pick photos --out target.csv", "target.csv"),
    "pick --html": ("pick photos --html target.html", "target.html"),
    "calibrate": ("calibrate labels.csv --out target.json", "target.json"),
    "evaluate": ("evaluate --root labels.csv --dataset csv --out target", "target"),
    "heads": ("heads checkpoint target --root labels.csv", "target"),
    "sweep": ("sweep ablations-koniq --root labels.csv --out target", "target/"),
    "import": ("models import weights.pt --out target", "target"),
}
"""What writes which target; a target that ends in a slash has its lock within."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "photos", a=10)
    (tmp_path / "labels.csv").write_text(LABELS)
    return tmp_path


def end_of(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    """Exit status and stderr of a command that must not come as far as loading a model."""

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model is loaded")

    from cli.models import importing

    monkeypatch.setattr(Scorer, "load", load)
    monkeypatch.setattr(checkpoint, "load", load)
    monkeypatch.setattr(importing, "read", lambda _: {})
    monkeypatch.setattr(importing, "detect", lambda _: "hyperiqa")
    monkeypatch.setattr(sys, "argv", ["smart-iqa", *command.split()])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_second_run_is_refused(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, target = COMMANDS[name]
    with locked(target, here / target / LOCK if target.endswith("/") else None):
        before = sorted(here.rglob("*"))
        status, told = end_of(command, monkeypatch, capsys)
        assert status == 2
        assert "another run is writing" in told
        assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_results_are_written_where_there_are_no_locks(
    number: int, here: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    assert score("photos", "--out", "scores.csv").status == 0
    assert sorted(path.name for path in here.iterdir()) == ["labels.csv", "photos", "scores.csv"]


def test_no_empty_file_is_left_of_a_run_that_could_not_begin(here: Path, score: Score) -> None:
    assert score("photos/*.gif", "--out", "scores.csv", "--policy", "none").status == 2
    (here / ".scores.csv.lock").mkdir()
    assert score("photos", "--out", "scores.csv").status == 2
    assert sorted(path.name for path in here.iterdir()) == [".scores.csv.lock", "labels.csv", "photos"]
