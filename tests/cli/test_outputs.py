import csv
import io
import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cli.score import outputs
from cli.score.outputs import COLUMNS
from tests.cli.brightness import folder_of, grey
from tests.cli.conftest import Score


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = folder_of(tmp_path / "photos", b=50, a__one=20, c=90)
    (folder / "broken.png").write_bytes(grey(1)[:40])
    return folder


def table_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_files_hold_what_stdout_would(photos: Path, tmp_path: Path, score: Score) -> None:
    for form in ("csv", "jsonl"):
        shown = score(photos, "-f", form)
        told = score(photos, "--out", tmp_path / f"scores.{form}")
        assert (tmp_path / f"scores.{form}").read_bytes().decode() == shown.stdout
        assert (told.status, told.stdout) == (1, "")
        assert f"4 of 4 pictures are in {tmp_path}/scores.{form}" in told.stderr.replace("\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "scores.csv", "scores.jsonl"]


def test_parquet(photos: Path, tmp_path: Path, score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "GROUP_ROWS", 3)
    # Parquet's text is UTF-8, and this is not.
    (photos / "z\udcff.png").write_bytes(grey(30))
    shown = [json.loads(line) for line in score(photos, "-f", "jsonl").stdout.splitlines()]
    score(photos, "-o", tmp_path / "scores.parquet")
    table = pq.read_table(tmp_path / "scores.parquet")
    assert tuple(table.column_names) == COLUMNS
    assert table.column("score").to_pylist() == [line.get("score") for line in shown]
    assert table.column("warnings").to_pylist() == [line.get("warnings") for line in shown]
    assert table.column("width").to_pylist() == [48, 48, None, 48, 48]
    assert table.column("path").to_pylist()[4] == f"{photos}/z\N{REPLACEMENT CHARACTER}.png"
    assert table.column("error").to_pylist()[2] == shown[2]["error"]
    assert pq.ParquetFile(tmp_path / "scores.parquet").num_row_groups == 2


def test_without_pyarrow_one_sentence_says_what_to_install(
    photos: Path, tmp_path: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    told = score(photos, "-o", tmp_path / "scores.parquet")
    assert told.status == 2
    assert "pip install 'smart-iqa[parquet]'" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "scores.txt"], "must end in .csv, .jsonl, .ndjson or .parquet"),
        (["-o", "nowhere/scores.csv"], "nowhere: no such folder"),
        (["--html", "photo.jpg"], "must end in .html or .htm"),
        (["--html", "nowhere/report.html"], "nowhere: no such folder"),
        (["--below", "40", "--above", "40"], "no score is above 40 and below 40"),
        (["--move-to", "low"], "need --below or --above"),
        (["--move-to", "low", "--copy-to", "low", "--below", "4"], "either copied or moved"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_scored(
    arguments: list[str], words: str, photos: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    told = score(photos, *arguments)
    assert told.status == 2
    assert words in told.stderr
    assert told.stdout == ""


def test_a_table_has_an_end(photos: Path, score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "TABLE_ROWS", 2)
    monkeypatch.chdir(photos)
    told = score(".", "--sort", "best")
    assert [line.split()[0] for line in told.stdout.splitlines() if "png" in line] == ["89.80", "49.80"]
    assert "1 more pictures are not shown" in told.stderr


def test_names_cannot_steer_a_terminal(tmp_path: Path, score: Score) -> None:
    folder = folder_of(tmp_path / "photos", **{"\x1b[31m[bold]red": 50})
    (folder / "\x1b[2Jbroken.png").write_bytes(b"")
    told = score(folder)
    assert "\\x1b[31m[bold]red.png" in told.stdout
    assert "\\x1b[2Jbroken.png: not a picture" in told.stderr
    assert "\x1b" not in told.stdout + told.stderr


def test_failures_are_listed_at_the_end_but_not_all(tmp_path: Path, score: Score) -> None:
    for place in range(30):
        (tmp_path / f"{place:02d}.png").write_bytes(b"broken")
    told = score(tmp_path, "-f", "csv")
    lines = told.stderr.splitlines()
    assert [line.split(":")[0] for line in lines[:20]] == [f"{tmp_path}/{place:02d}.png" for place in range(20)]
    assert lines[20:] == ["... and 10 more; -f csv and --out FILE have all", "30 of 30 pictures could not be scored"]
    assert len(table_rows(told.stdout)) == 30


def test_failures_keep_their_place(tmp_path: Path, score: Score) -> None:
    folder = folder_of(tmp_path, b=20, d=40)
    for name in ("a", "c", "e"):
        (folder / f"{name}.zip").write_bytes(b"no archive")
    told = score(*(folder / name for name in ("a.zip", "b.png", "c.zip", "d.png", "e.zip")), "-f", "csv")
    assert [Path(row["path"]).stem for row in table_rows(told.stdout)] == list("abcde")
