"""``smart-iqa score-bulk`` in this process, with brightness for quality."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.bulk import job as jobs
from cli.bulk import listing
from cli.bulk.local import LocalScorer
from cli.bulk.progress import LINE_SECONDS, tally
from cli.bulk.rows import COLUMNS
from cli.bulk.stores import Store
from model.score import ModelId
from model.scorer import Scorer
from tests.cli import brightness
from tests.cli.brightness import Brightness, folder_of, grey
from tests.cli.conftest import Bulk
from tests.conftest import EXAMPLES, ROOT


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten pictures, two of them broken."""
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "photos", **{f"{place:02d}": 9 * place for place in range(10)})
    (tmp_path / "photos" / "03.png").write_bytes(b"broken")
    (tmp_path / "photos" / "08.png").write_bytes(b"broken")
    return Path("photos")


def rows(folder: Path | str = "out") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder).to_pylist()
    return found


def paths(folder: Path | str = "out") -> list[str]:
    return [row["path"] for row in rows(folder)]


def files(folder: Path | str = "out") -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path(folder).glob("*.parquet")}


def interrupted(after: int = 4) -> Brightness:
    return Brightness(after, lambda: os.kill(os.getpid(), signal.SIGINT))


def test_a_folder_becomes_files_of_rows(photos: Path, bulk: Bulk) -> None:
    told = bulk(photos, "out", "--unit", "4")
    assert told.status == 1
    assert told.stdout == ""
    assert "10 pictures are in out; 2 of them could not be scored" in told.stderr
    assert sorted(files()) == [f"scores-00000000000{unit}.parquet" for unit in range(3)]
    assert [pq.read_metadata(f"out/{file}").num_rows for file in sorted(files())] == [4, 4, 2]
    found = rows()
    assert [row["path"] for row in found] == [f"photos/{place:02d}.png" for place in range(10)]
    assert [None if row["score"] is None else round(row["score"]) for row in found[:4]] == [0, 9, 18, None]
    assert found[3]["error"].startswith("not a picture of an accepted format")
    assert found[4]["warnings"] == ["grayscale"]
    assert (found[4]["width"], found[4]["height"], found[4]["format"]) == (48, 32, "PNG")
    summary = json.loads(Path("out/_SUCCESS").read_text())
    assert (summary["rows"], summary["errors"], summary["units"]) == (10, 2, 3)


def test_rows_hold_what_the_scorer_says(scorer: Scorer, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(EXAMPLES[0].read_bytes()[:5000])
    inputs = [*map(str, EXAMPLES), str(tmp_path / "broken.jpg")]
    job = jobs.begin(Store(str(tmp_path / "out")), {"inputs": inputs}, listing.units(inputs, 3))
    counted = []
    for number, table in LocalScorer(scorer, None).tables(job, range(job.units), lambda *new: counted.append(new)):
        job.write(number, table)
    assert counted == [(1, 0)] * len(EXAMPLES) + [(1, 1)]
    *found, broken = rows(tmp_path / "out")
    for row, file in zip(found, EXAMPLES, strict=True):
        score = scorer.score(file)
        assert score.stage_weights is not None
        answer = score.to_dict()
        flat = {
            **answer,
            **answer["image"],
            "path": str(file),
            "stage_weights": list(score.stage_weights),
            "error": None,
        }
        # The checkpoint gives no intervals and finds no defects.
        assert row == {name: flat.get(name) for name in COLUMNS}
    assert broken["error"] == "the picture is truncated: its end is missing"
    assert {name for name, value in broken.items() if value is not None} == {"path", "error"}


def test_counts_have_64_bits(photos: Path, bulk: Bulk) -> None:
    bulk(photos, "out", "--unit", "4")
    schema = pq.read_schema("out/_job/list-000000000.parquet")
    assert {schema.field(name).type for name in ("number", "start", "count", "size")} == {pa.int64()}


def test_a_killed_run_goes_on(photos: Path, bulk: Bulk) -> None:
    arguments = [photos, "out", "--unit", "2"]
    program = [sys.executable, "-W", "ignore", "-m", brightness.__name__, "8", "out/*.parquet"]
    command = [*program, "score-bulk", *map(str, arguments)]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    there = len(files())
    assert 0 < there < 4
    # Units are written beside the scoring, so not always in their order.
    written = {path for name in files() for path in pq.read_table(f"out/{name}")["path"].to_pylist()}
    scorer = Brightness()
    told = bulk(*arguments, scorer=scorer)
    assert f"{there} of 5 units with {2 * there} pictures are there already" in told.stderr
    assert {str(name) for name in scorer.asked}.isdisjoint(written)
    assert len(scorer.asked) == 10 - 2 * there
    bulk(photos, "whole", "--unit", "2")
    assert files() == files("whole")
    assert Path("out/_SUCCESS").read_bytes() == Path("whole/_SUCCESS").read_bytes()
    assert not list(Path("out").glob(".*"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_goes_on(number: int, status: int, photos: Path, bulk: Bulk) -> None:
    before = signal.getsignal(number)
    told = bulk(photos, "out", "--unit", "2", scorer=Brightness(5, lambda: os.kill(os.getpid(), number)))
    assert told.status == status
    assert "stopped; 2 of 5 units are in out, and the same command goes on from there" in told.stderr
    assert signal.getsignal(number) == before
    assert not Path("out/_SUCCESS").exists()
    scorer = Brightness()
    bulk(photos, "out", "--unit", "2", scorer=scorer)
    assert len(scorer.asked) == 6
    bulk(photos, "whole", "--unit", "2")
    assert files() == files("whole")


def test_units_are_done_in_any_order(photos: Path, bulk: Bulk) -> None:
    bulk(photos, "whole", "--unit", "2")
    bulk(photos, "out", "--unit", "2")
    for unit in (1, 4):
        Path(f"out/scores-00000000000{unit}.parquet").unlink()
    scorer = Brightness()
    told = bulk(photos, "out", "--unit", "2", scorer=scorer)
    assert "3 of 5 units with 6 pictures are there already" in told.stderr
    assert [Path(name).stem for name in scorer.asked] == ["02", "03", "08", "09"]
    assert files() == files("whole")


def test_the_list_is_frozen(photos: Path, bulk: Bulk) -> None:
    bulk(photos, "out", "--unit", "4", scorer=interrupted(6))
    (photos / "00a.png").write_bytes(grey(70))
    (photos / "09.png").unlink()
    bulk(photos, "out", "--unit", "4")
    assert paths() == [f"photos/{place:02d}.png" for place in range(10)]
    assert rows()[-1]["error"] == "No such file or directory"


def test_a_list_that_was_broken_off_is_made_again(photos: Path, bulk: Bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its end there is no job."""
    monkeypatch.setattr(jobs, "FILE_UNITS", 2)
    put = Store.put

    def killed(store: Store, name: str, content: Any) -> None:
        if name == "_job/list-000000001.parquet":
            raise KeyboardInterrupt
        put(store, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", killed)
        assert bulk(photos, "out", "--unit", "2").status == 130
    assert os.listdir("out/_job") == ["list-000000000.parquet"]
    (photos / "00a.png").write_bytes(grey(70))
    bulk(photos, "out", "--unit", "2")
    assert len(paths()) == len(set(paths())) == 11


def test_lists_of_many_files(photos: Path, bulk: Bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "FILE_UNITS", 4)
    monkeypatch.setattr(jobs, "GROUP_UNITS", 2)
    bulk(photos, "out", "--unit", "1")
    assert paths() == [f"photos/{place:02d}.png" for place in range(10)]
    assert len(list(Path("out/_job").glob("list-*"))) == 3


def test_a_file_that_is_not_whole_is_made_again(photos: Path, bulk: Bulk) -> None:
    """A disk that lost its power may have its name and not its content."""
    bulk(photos, "out", "--unit", "4")
    whole = files()
    Path("out/scores-000000000001.parquet").write_bytes(whole["scores-000000000001.parquet"][:-20])
    Path("out/scores-000000000002.parquet").write_bytes(b"")
    told = bulk(photos, "out", "--unit", "4")
    assert "1 of 3 units" in told.stderr
    assert files() == whole


def test_a_job_that_is_complete_is_only_told(photos: Path, bulk: Bulk) -> None:
    bulk(photos, "out")
    scorer = Brightness()
    told = bulk(photos, "out", scorer=scorer)
    assert told.status == 1
    assert scorer.asked == []
    assert "10 pictures are in out; 2 of them could not be scored" in told.stderr


def test_all_went_well(tmp_path: Path, bulk: Bulk) -> None:
    assert bulk(folder_of(tmp_path / "photos", a=1), tmp_path / "out").status == 0


def test_a_job_goes_on_from_another_folder(photos: Path, bulk: Bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    bulk(photos, "out", "--unit", "2", scorer=interrupted())
    (photos.parent / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    bulk("../photos", "../out", "--unit", "2")
    assert paths("../out") == [f"photos/{place:02d}.png" for place in range(10)]
    assert sum(row["error"] is None for row in rows("../out")) == 8


def test_another_job_is_not_gone_on_with(photos: Path, bulk: Bulk) -> None:
    bulk(photos, "out", "--unit", "2", scorer=interrupted())
    before = files()
    refused = {
        ("--unit", "2", "--crops", "4"): "with crops 1, not 4;",
        (): "with unit 2, not 1000;",
        ("--unit", "2", "--column", "x"): "with column None, not x;",
    }
    for options, words in refused.items():
        told = bulk(photos, "out", *options)
        assert told.status == 2
        assert f"out was begun {words}" in told.stderr
    other = Brightness()
    other.model = ModelId(name="other", digest="sha256:1")
    assert "begun with model brightness" in bulk(photos, "out", "--unit", "2", scorer=other).stderr
    assert "begun with inputs" in bulk(photos / "01.png", "out", "--unit", "2").stderr
    assert files() == before


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"smart-iqa score-bulk": 2}'])
def test_a_job_of_something_else_is_left_alone(content: str, photos: Path, bulk: Bulk) -> None:
    Path("out/_job").mkdir(parents=True)
    Path("out/_job/job.json").write_text(content)
    told = bulk(photos, "out")
    assert told.status == 2
    assert "out holds no job that this release can go on with" in told.stderr
    assert Path("out/_job/job.json").read_text() == content


def test_scores_without_their_job_are_left_alone(photos: Path, bulk: Bulk) -> None:
    bulk(photos, "out", "--unit", "4")
    Path("out/_job/job.json").unlink()
    before = files()
    told = bulk(photos, "out", "--unit", "4")
    assert told.status == 2
    assert "out holds scores, but not the list of a job" in told.stderr
    assert files() == before


def test_two_runs_do_not_write_one_folder(photos: Path, bulk: Bulk) -> None:
    with jobs.locked(Store("out")):
        told = bulk(photos, "out")
    assert told.status == 2
    assert "another run is writing" in told.stderr


def test_a_folder_that_cannot_be_written(photos: Path, bulk: Bulk) -> None:
    Path("out").write_text("a file")
    told = bulk(photos, "out")
    assert told.status == 2
    assert "out" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_file_that_cannot_be_written_ends_the_run(photos: Path, bulk: Bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Store.put

    def full(store: Store, name: str, content: Any) -> None:
        if name == "scores-000000000001.parquet":
            raise OSError(28, "No space left on device")
        put(store, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", full)
        told = bulk(photos, "out", "--unit", "2")
    assert told.status == 1
    assert "No space left on device" in told.stderr
    assert not Path("out/_SUCCESS").exists()
    bulk(photos, "out", "--unit", "2")
    assert len(paths()) == 10


def test_a_log_has_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    times: Iterator[float] = iter([0.0, 1.0, LINE_SECONDS, LINE_SECONDS, LINE_SECONDS + 1])
    with tally(5_000_000_000, 1, 6_000_000_000, clock=lambda: next(times)) as counted:
        for _ in range(3):
            counted(1, 1)
    assert capsys.readouterr().err == "5,000,000,002 of 6,000,000,000 pictures, 3 errors\n"
