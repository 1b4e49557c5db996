import io
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from cli.pictures.picture_ref import PictureRef
from cli.scoring import progress
from tests.conftest import ROOT

COMMAND = "import sys; sys.argv[0] = 'smart-iqa'; from cli.main import main; main()"


def told(**environment: str) -> str:
    """What the shell's script gets from the command."""
    result = subprocess.run(
        [sys.executable, "-c", COMMAND],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout


def test_show_completion_in_bash() -> None:
    shell = shutil.which("bash")
    assert shell is not None
    script = f'"{sys.executable}" -c "{COMMAND}" --show-completion bash; exit $?'
    shown = subprocess.run([shell, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "complete -o default -F _smart_iqa_completion smart-iqa" in shown


@pytest.mark.parametrize(("shell", "words"), [("zsh", "#compdef smart-iqa"), ("fish", "complete --command smart-iqa")])
def test_scripts_of_other_shells(shell: str, words: str) -> None:
    assert words in told(_SMART_IQA_COMPLETE=f"source_{shell}")


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("smart-iqa train smart-s", ["smart-small-koniq"]),
        ("smart-iqa sweep lo", ["losses-koniq"]),
        ("smart-iqa score -f ", ["table", "jsonl", "csv"]),
        ("smart-iqa scor", ["score", "score-bulk"]),
    ],
)
def test_completions(line: str, completions: list[str]) -> None:
    last = str(len(line.split(" ")) - 1)
    shown = told(_SMART_IQA_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=last)
    assert shown.split() == completions


def test_progress_tells_rate_and_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    now = 0.0
    console = Console(file=screen, force_terminal=True, width=120, get_time=lambda: now)
    monkeypatch.setattr(progress, "notes", console)
    found = [PictureRef(f"{place}.png", Path()) for place in range(30)]
    with progress.progress(lambda: iter(found), done=10, results=True) as advance:
        for thread in threading.enumerate():
            if thread.name == "count":
                thread.join()
        for _ in range(5):
            advance()
        now = 2.0
    assert "15/30" in screen.getvalue()
    assert "2.5 pictures/s, 0:00:06 left" in screen.getvalue()


def test_results_on_a_terminal_take_the_place_of_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "notes", Console(file=screen, force_terminal=True, width=120))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    for results in (True, False):
        with progress.progress(None, done=0, results=results) as advance:
            advance()
        assert ("scoring" in screen.getvalue()) == (not results)


def test_there_is_no_bar_where_nobody_sees_it(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress(lambda: pytest.fail("counted"), done=0, results=False) as advance:
        advance()
    assert capsys.readouterr() == ("", "")
