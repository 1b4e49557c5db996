import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from cli.main import main
from model.scorer import Scorer
from tests.cli.brightness import Brightness


class Told(NamedTuple):
    """What a command has left behind."""

    status: int
    stdout: str
    stderr: str


Score = Callable[..., Told]


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Score:
    """``smart-iqa score`` in this process, with brightness for quality."""

    def run(*arguments: object, scorer: Brightness | None = None) -> Told:
        used = scorer or Brightness()
        monkeypatch.setattr(Scorer, "load", lambda *_, **__: used)
        monkeypatch.setattr(sys, "argv", ["smart-iqa", "score", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = (data.decode(errors="surrogateescape") for data in capsysbinary.readouterr())
        assert isinstance(end.value.code, int)
        return Told(end.value.code, out, err)

    return run
