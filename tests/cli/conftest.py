import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.main import main
from model.inference import autotune
from model.scorer import Scorer
from tests.cli.brightness import Brightness


class Told(NamedTuple):
    """What a command has left behind."""

    status: int
    stdout: str
    stderr: str


Score = Callable[..., Told]
Bulk = Callable[..., Told]


WholeRun = Callable[..., tuple[int, str, str]]


@pytest.fixture
def smart_iqa(whole_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> WholeRun:
    """A command in this process, with a checkpoint that finds defects, gives intervals and describes pictures."""

    def run(command: str, *arguments: object, checkpoint: Path = whole_folder) -> tuple[int, str, str]:
        options = ("--checkpoint", checkpoint, "--device", "cpu", "--precision", "fp32")
        monkeypatch.setattr(sys, "argv", ["smart-iqa", command, *map(str, (*arguments, *options))])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Told]:
    """A command in this process, with brightness for quality; its engine is calibrated before it is used."""

    def run(command: str, *arguments: object, scorer: Brightness | None = None) -> Told:
        used = scorer or Brightness()
        monkeypatch.setattr(Scorer, "load", lambda *_, **__: used)
        monkeypatch.setattr(autotune, "autotune", lambda engine, *_, **__: setattr(engine, "calibrated", True))
        monkeypatch.setattr(sys, "argv", ["smart-iqa", command, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = (data.decode(errors="surrogateescape") for data in capsysbinary.readouterr())
        assert isinstance(end.value.code, int)
        return Told(end.value.code, out, err)

    return run


@pytest.fixture
def score(in_process: Callable[..., Told]) -> Score:
    """``smart-iqa score`` in this process."""
    return partial(in_process, "score")


@pytest.fixture
def bulk(in_process: Callable[..., Told]) -> Bulk:
    """``smart-iqa score-bulk`` in this process."""
    return partial(in_process, "score-bulk")
