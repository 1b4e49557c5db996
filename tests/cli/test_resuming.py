import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cli.score.journal import Journal
from model import files
from model.score import ModelId
from tests.cli import brightness
from tests.cli.brightness import Brightness, folder_of, grey
from tests.cli.conftest import Score
from tests.cli.test_archives import write_zip
from tests.conftest import ROOT


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "photos", **{f"{place:02d}": 9 * place for place in range(10)})
    (tmp_path / "photos" / "03.png").write_bytes(b"broken")
    (tmp_path / "photos" / "08.png").write_bytes(b"broken")
    return Path("photos")


def test_a_killed_run_goes_on(photos: Path, score: Score) -> None:
    """The same picture twice is two rows, before and after."""
    arguments = [photos, photos / "01.png", photos / "09.png", "-o", "scores.csv", "--html", "report.html"]
    command = [sys.executable, "-W", "ignore", "-m", brightness.__name__, "6", "", "score", *map(str, arguments)]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    left = [".report.html.lock", ".scores.csv.lock", "photos", "scores.csv.part"]
    assert sorted(path.name for path in Path().iterdir()) == left
    with Path("scores.csv.part").open("ab") as part:
        part.write(b'{"path": "photos/06.png", "sco')
    scorer = Brightness()
    told = score(*arguments, scorer=scorer)
    assert "going on after 6 pictures in scores.csv.part" in told.stderr
    assert [Path(name).stem for name in scorer.asked] == ["06", "07", "08", "09", "01", "09"]
    assert "2 of 12 pictures could not be scored" in told.stderr
    assert "03.png" in told.stderr
    assert told.status == 1
    score(*arguments[:-3], "whole.csv")
    assert Path("scores.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert sorted(path.name for path in Path().iterdir()) == ["photos", "report.html", "scores.csv", "whole.csv"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_run_that_is_stopped_goes_on(form: str, number: int, status: int, photos: Path, score: Score) -> None:
    before = signal.getsignal(number)
    out = Path(f"scores.{form}")
    told = score(photos, "-o", out, "--sort", "worst", scorer=Brightness(4, lambda: os.kill(os.getpid(), number)))
    assert told.status == status
    assert "stopped after 4 pictures; they are kept in scores." in told.stderr
    assert signal.getsignal(number) == before
    assert not out.exists()
    scorer = Brightness()
    score(photos, "-o", out, "--sort", "worst", scorer=scorer)
    assert len(scorer.asked) == 6
    score(photos, "-o", f"whole.{form}", "--sort", "worst")
    if form == "parquet":
        assert pq.read_table(out).equals(pq.read_table("whole.parquet"))
    else:
        assert out.read_bytes() == Path(f"whole.{form}").read_bytes()


@pytest.mark.parametrize("sort", [(), ("--sort", "best")])
def test_what_was_scored_for_stdout_is_shown(sort: tuple[str, ...], photos: Path, score: Score) -> None:
    told = score(photos, *sort, scorer=Brightness(3, lambda: os.kill(os.getpid(), signal.SIGINT)))
    shown = [line.split()[0] for line in told.stdout.splitlines() if "png" in line]
    assert shown == (["18.04", "9.02", "0.00"] if sort else ["0.00", "9.02", "18.04"])
    assert "with --out FILE the same command could go on" in told.stderr


def test_stdout_has_all_rows_also_of_a_run_that_went_on(photos: Path, score: Score) -> None:
    dies = Brightness(4, lambda: os.kill(os.getpid(), signal.SIGINT))
    score(photos, "-o", "scores.csv", "-f", "csv", scorer=dies)
    told = score(photos, "-o", "scores.csv", "-f", "csv")
    assert Path("scores.csv").read_bytes().decode() == told.stdout


def test_moving_goes_on(photos: Path, score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (photos, "-o", "scores.csv", "--below", "20", "--move-to", "low")
    unlink = os.unlink
    with monkeypatch.context() as patch:

        def unlink_and_stop(path: str | Path) -> None:
            if "01" in str(path):
                os.kill(os.getpid(), signal.SIGTERM)
            unlink(path)

        patch.setattr(os, "unlink", unlink_and_stop)
        assert score(*arguments).status == 143
    assert sorted(file.name for file in Path("low/photos").iterdir()) == ["00.png", "01.png"]
    assert not (photos / "00.png").exists()
    told = score(*arguments)
    assert "3 of 3 pictures below 20 moved to low" in told.stderr
    assert sorted(file.name for file in Path("low/photos").iterdir()) == ["00.png", "01.png", "02.png"]
    assert len(Path("scores.csv").read_text().splitlines()) == 1 + 3 + 2


def test_a_complete_file_is_not_touched(photos: Path, score: Score) -> None:
    Path("scores.csv").write_text("mine")
    told = score(photos, "-o", "scores.csv")
    assert told.status == 2
    assert "scores.csv exists and is complete" in told.stderr
    assert Path("scores.csv").read_text() == "mine"
    assert score(photos, "-o", "scores.csv", "--overwrite").status == 1
    assert len(Path("scores.csv").read_text().splitlines()) == 11


def test_another_run_is_not_gone_on_with(photos: Path, score: Score) -> None:
    def interrupted() -> Brightness:
        return Brightness(4, lambda: os.kill(os.getpid(), signal.SIGINT))

    score(photos, "-o", "scores.csv", "--crops", "4", scorer=interrupted())
    part = Path("scores.csv.part").read_bytes()
    told = score(photos, "-o", "scores.csv")
    assert told.status == 2
    assert "scores.csv.part was begun with crops 4, not 1;" in told.stderr.replace("\n", " ")
    other = Brightness()
    other.model = ModelId(name="other", digest="sha256:1")
    assert "begun with model brightness" in score(photos, "-o", "scores.csv", "--crops", "4", scorer=other).stderr
    assert Path("scores.csv.part").read_bytes() == part
    assert score(photos, "-o", "scores.csv", "--overwrite", scorer=interrupted()).status == 130
    assert score(photos, "-o", "scores.csv").status == 1


@pytest.mark.parametrize("content", [b"", b'{"smart-iqa sc'])
def test_a_run_that_was_killed_at_once(content: bytes, photos: Path, score: Score) -> None:
    Path("scores.csv.part").write_bytes(content)
    score(photos, "-o", "scores.csv")
    assert len(Path("scores.csv").read_text().splitlines()) == 11


@pytest.mark.parametrize("content", [b"my notes\n", b'{"title": "mine"}\n'])
def test_a_file_of_something_else_is_left_alone(content: bytes, photos: Path, score: Score) -> None:
    Path("scores.csv.part").write_bytes(content)
    told = score(photos, "-o", "scores.csv")
    assert told.status == 2
    assert "is not what an interrupted run leaves behind" in told.stderr
    assert Path("scores.csv.part").read_bytes() == content


def test_two_runs_do_not_write_one_file(photos: Path, score: Score) -> None:
    with files.locked("scores.csv"):
        told = score(photos, "-o", "scores.csv")
    assert told.status == 2
    assert "another run is writing scores.csv" in told.stderr
    assert not Path("scores.csv.part").exists()


def test_pictures_in_memory_are_few_bytes(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "part", {}) as journal:
        for place in range(3):
            journal.add({"path": f"{place}.jpg", "score": float(place)})
        assert [record["path"] for record in journal.records([2, 0])] == ["2.jpg", "0.jpg"]
        journal.add({"path": "3.jpg", "score": 3.0})
        assert [record["score"] for record in journal.records(range(4))] == [0, 1, 2, 3]


def test_pictures_that_have_changed_are_scored_again(photos: Path, score: Score) -> None:
    """In archives too: the archive has changed then."""
    write_zip(Path("x.zip"), {"a.png": grey(60)})
    dies = Brightness(5, lambda: os.kill(os.getpid(), signal.SIGINT))
    score("x.zip", photos, "-o", "scores.jsonl", scorer=dies)
    (photos / "01.png").write_bytes(grey(90))
    write_zip(Path("x.zip"), {"a.png": grey(70)})
    told = score("x.zip", photos, "-o", "scores.jsonl")
    assert "2 pictures have changed since, and are scored again" in told.stderr
    lines = [json.loads(line) for line in Path("scores.jsonl").read_text().splitlines()]
    found = {line["path"]: round(line["score"]) for line in lines if "score" in line}
    assert (len(lines), found["photos/01.png"], found["x.zip/a.png"]) == (11, 90, 70)
    assert not any("stamp" in line for line in lines)


def test_other_pictures_are_not_gone_on_with(photos: Path, score: Score) -> None:
    score(photos, "-o", "scores.csv", scorer=Brightness(4, lambda: os.kill(os.getpid(), signal.SIGINT)))
    told = score(photos / "01.png", "-o", "scores.csv")
    assert told.status == 2
    assert "scores.csv.part was begun with inputs" in told.stderr.replace("\n", " ")
    told = score(photos, "-o", "scores.csv", "--exclude", "01.png")
    assert told.status == 2
    assert "scores.csv.part was begun with exclude" in told.stderr.replace("\n", " ")


def test_new_pictures_join_a_run_that_goes_on(photos: Path, score: Score) -> None:
    score(photos, "-o", "scores.csv", scorer=Brightness(4, lambda: os.kill(os.getpid(), signal.SIGINT)))
    (photos / "00a.png").write_bytes(grey(70))
    score(photos, "-o", "scores.csv")
    rows = Path("scores.csv").read_text().splitlines()[1:]
    assert len(rows) == len({row.split(",")[0] for row in rows}) == 11
