"""Any name on any terminal: encodings that lack its signs, and streams that are closed."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import main
from model.inference import autotune
from model.scorer import Scorer
from tests.cli.brightness import Brightness, folder_of, grey
from tests.conftest import ROOT

NAMES = (
    "emoji \U0001f600.png",
    "umlaut ä.png",
    "line\nend.png",
    "escape \x1b[31m.png",
    os.fsdecode(b"bytes \xff\xfe.png"),
)
CLOSED = """
import sys
from cli.console import notes, results
with open(sys.argv[1], "w") as file:
    print("printed")
    results.print("printed")
    notes.print("printed")
    sys.stdout.flush()
    sys.stderr.flush()
    file.write("written" + sys.stdin.read())
"""


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = folder_of(tmp_path / "photos", a=10)
    for name in NAMES:
        (folder / name).write_bytes(grey(50))
    (folder / "broken \U0001f600.png").write_bytes(b"broken")
    return folder


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
def test_no_name_stops_a_run(form: str, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    scorer = Brightness()
    scorer.engine.calibrated = True
    monkeypatch.setattr(Scorer, "load", lambda *_, **__: scorer)
    monkeypatch.setattr(autotune, "autotune", lambda *_, **__: None)
    monkeypatch.setattr(sys, "argv", ["smart-iqa", "score", "photos", "--format", form])
    with pytest.raises(SystemExit) as end:
        main()
    monkeypatch.undo()
    assert end.value.code == 1, "of the broken picture"
    for stream in (out, err):
        stream.flush()
    shown, told = (stream.buffer.getvalue() for stream in (out, err))
    assert b"1 of 7 pictures could not be scored" in told
    assert told.decode(encoding)
    text = shown.decode("utf-8" if form == "csv" else encoding, errors="surrogateescape")
    if form == "table":
        assert "\x1b[31m" not in text
        assert ("\U0001f600" if encoding == "utf-8" else "\\U0001f600") in text
        assert ("\\xe4" if encoding == "ascii" else "ä") in text
        return
    lines = csv.DictReader(io.StringIO(text, newline="")) if form == "csv" else map(json.loads, text.splitlines())
    found = {line["path"] for line in lines}
    assert found == {f"photos/{name}" for name in ("a.png", "broken \U0001f600.png", *NAMES)}


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_printed_to_closed_streams_is_lost(closed: str, tmp_path: Path) -> None:
    """It never ends up in a file that the command has opened."""
    command = [sys.executable, "-c", CLOSED, str(tmp_path / "file")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        ["bash", "-c", f'"$@" {closed}', "bash", *command],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, (tmp_path / "file").read_text()) == (0, "written")
    assert ended.stdout == (b"" if ">&-" in closed.replace("2>&-", "") else b"printed\nprinted\n")
