"""``smart-iqa pick``."""

import csv
import json
import os
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model.scorer import Scorer
from tests.cli.conftest import WholeRun
from tests.conftest import EXAMPLES, encode
from tests.model.test_picking import SCENES, exposed, shifted


@pytest.fixture
def pick(smart_iqa: WholeRun) -> WholeRun:
    return partial(smart_iqa, "pick")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three nearly equal photos, a bracket, a single one, and a copy of the first."""
    monkeypatch.chdir(tmp_path)
    folder = Path("photos")
    folder.mkdir()
    files = {f"a{at}.jpg": shifted(SCENES["cat"], 3 * at, 2 * at) for at in range(3)}
    files |= {f"b{at}.jpg": exposed(SCENES["coffee"], stops) for at, stops in enumerate((-1.5, 0, 1.5))}
    files["c.jpg"] = SCENES["rocket"]
    for name, pixels in files.items():
        (folder / name).write_bytes(encode(Image.fromarray(pixels), quality=92))
    (folder / "d.jpg").write_bytes((folder / "a0.jpg").read_bytes())
    return folder


def test_groups_are_told(pick: WholeRun, photos: Path) -> None:
    status, told, notes = pick(photos)
    assert status == 0
    assert "bracket" in told
    assert "kept whole" in told
    assert "8 photos: 1 group of nearly equal ones, with 3 beside the best; 1 kept whole; 1 single" in notes
    assert sorted(path.name for path in Path().iterdir()) == ["photos"]


def test_a_line_for_each_photo(pick: WholeRun, photos: Path) -> None:
    (photos / "e.jpg").write_bytes(b"no picture")
    status, _, notes = pick(photos, "-o", "picked.csv")
    assert status == 1
    assert "e.jpg: not a picture" in notes
    with Path("picked.csv").open(newline="") as file:
        lines = {Path(line["path"]).stem: line for line in csv.DictReader(file)}
    assert [*sorted(lines)] == ["a0", "a1", "a2", "b0", "b1", "b2", "c", "d", "e"]
    alike = [lines[name] for name in ("a0", "a1", "a2", "d")]
    assert {line["group"] for line in alike} == {"1"}
    assert sorted(line["rank"] for line in alike) == ["1", "2", "3", "4"]
    assert sorted(line["picked"] for line in alike) == ["0", "0", "0", "1"]
    assert lines["d"]["same_file_as"] == str(photos / "a0.jpg")
    assert {(lines[name]["kind"], lines[name]["picked"]) for name in ("b0", "b1", "b2")} == {("bracket", "1")}
    assert (lines["c"]["kind"], lines["c"]["picked"]) == ("single", "1")
    assert lines["e"]["error"].startswith("not a picture")
    status, _, notes = pick(photos, "-o", "picked.csv")
    assert (status, "complete" in notes) == (2, True)
    pick(photos, "-o", "picked.jsonl")
    records = [json.loads(line) for line in Path("picked.jsonl").read_text().splitlines()]
    assert [record["picked"] for record in records if record["path"].endswith("c.jpg")] == [True]


def test_only_what_is_not_picked_is_moved(pick: WholeRun, photos: Path) -> None:
    status, _, notes = pick(photos, "--move-to", "rest")
    assert status == 0
    assert "3 of 3 photos that are not the best of their group moved to rest" in notes
    left = {path.stem for path in photos.iterdir()}
    moved = {path.stem for path in Path("rest/photos").iterdir()}
    assert left >= {"b0", "b1", "b2", "c"}
    assert moved < {"a0", "a1", "a2", "d"}
    assert (len(left), len(moved)) == (5, 3)


def test_what_is_picked_is_never_moved_by_another_path(pick: WholeRun, photos: Path) -> None:
    for name in ("a0", "a1", "a2", "d"):
        (photos / f"{name}.jpg").rename(f"{name}.jpg")
    Path("link.jpg").symlink_to("a0.jpg")
    status, _, _ = pick("a0.jpg", "./a0.jpg", "link.jpg", "--move-to", "rest")
    assert status == 0
    assert Path("a0.jpg").is_file()
    assert not Path("rest").exists()


def test_a_photo_that_cannot_be_moved_is_told(pick: WholeRun, photos: Path) -> None:
    for name in ("a0", "a1", "a2", "d"):
        target = Path("rest/photos") / f"{name}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"something else")
    status, _, notes = pick(photos, "--move-to", "rest")
    assert status == 1
    assert "0 of 3 photos that are not the best of their group moved to rest" in notes
    assert "could not be scored" not in notes


def test_the_report_shows_groups_side_by_side(pick: WholeRun, photos: Path) -> None:
    (photos / "face1.jpg").write_bytes(next(file for file in EXAMPLES if file.stem == "astronaut").read_bytes())
    (photos / "face2.jpg").write_bytes((photos / "face1.jpg").read_bytes())
    _, told, _ = pick(photos, "--html", "report.html")
    page = Path("report.html").read_text()
    assert page.count("<section") == 3
    assert page.count("<img") == 4 + 3 + 2
    assert page.count('class="card picked"') == 2
    assert "exposure bracket, kept whole" in page
    assert "the same file" in page
    assert re.search(r"eyes not judged", page)
    assert "eyes not judged" in " ".join(told.split())
    assert "<script" not in page


def test_a_stopped_run_goes_on(pick: WholeRun, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = Scorer.photos

    def stopping(self: Scorer, sources: Iterator[Any]) -> Iterator[Any]:
        for count, found in enumerate(scored(self, sources)):
            if count == 3:
                os.kill(os.getpid(), signal.SIGINT)
            yield found

    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "photos", stopping)
        status, _, notes = pick(photos, "-o", "picked.csv")
    assert status == 130
    assert "the same command without --overwrite goes on from there" in " ".join(notes.split())
    _, _, notes = pick(photos, "-o", "picked.csv")
    assert "going on after" in notes
    pick(photos, "-o", "whole.csv")
    assert Path("picked.csv").read_text() == Path("whole.csv").read_text()
    assert not Path("picked.csv.part").exists()


def test_what_the_bulk_command_scored_is_picked_from(pick: WholeRun, smart_iqa: WholeRun, photos: Path) -> None:
    (photos / "e.jpg").write_bytes(b"no picture")
    assert smart_iqa("score-bulk", "photos", "scores", "--photos", "--unit", 4)[0] == 1
    status, told, notes = pick("--scores", "scores", "-o", "scores.csv", "--html", "scores.html")
    assert status == 1
    assert "e.jpg: not a picture" in notes
    _, directly, _ = pick(photos, "-o", "photos.csv")
    assert told.count("bracket") == directly.count("bracket") == 1
    here = str(photos.parent.absolute()) + "/"
    assert Path("scores.csv").read_text().replace(here, "") == Path("photos.csv").read_text()
    assert Path("scores.html").read_text().count("<img") == 7


@pytest.mark.usefixtures("photos")
def test_scores_are_picked_from_in_any_folder(
    pick: WholeRun, smart_iqa: WholeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert smart_iqa("score-bulk", "photos", "scores", "--photos")[0] == 0
    elsewhere = Path("elsewhere")
    (elsewhere / "photos").mkdir(parents=True)
    (elsewhere / "photos" / "a1.jpg").write_bytes(b"another file of that name")
    monkeypatch.chdir(elsewhere)
    status, _, notes = pick("--scores", "../scores", "--html", "report.html", "--move-to", "rest")
    assert (status, "3 of 3 photos" in notes) == (0, True)
    assert Path("report.html").read_text().count("<img") == 7
    assert Path("photos/a1.jpg").read_bytes() == b"another file of that name"
    (Path("../scores") / "_SUCCESS").unlink()
    assert "is not complete" in pick("--scores", "../scores")[2]


def test_scores_that_cannot_be_picked_from(
    pick: WholeRun, smart_iqa: WholeRun, photos: Path, checkpoint_folder: Path
) -> None:
    assert smart_iqa("score-bulk", "photos", "plain")[0] == 0
    assert "plain was written without --photos" in pick("--scores", "plain")[2]
    assert "nowhere holds no files of smart-iqa score-bulk" in pick("--scores", "nowhere")[2]
    assert "name photos, or with --scores" in pick()[2]
    assert "name photos, or with --scores" in pick(photos, "--scores", "plain")[2]
    refused = smart_iqa("score-bulk", "photos", "other", "--photos", checkpoint=checkpoint_folder)
    assert "does not describe pictures" in refused[2]


def test_few_photos_are_kept_in_memory(pick: WholeRun, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, told, _ = pick(photos)
    monkeypatch.setattr("cli.pick.shots.KEPT", 1)
    monkeypatch.setattr("model.picking.scenes.KEPT", 1)
    assert pick(photos)[1] == told


def test_what_cannot_be(pick: WholeRun, photos: Path, checkpoint_folder: Path) -> None:
    assert "must end in .csv or .jsonl" in pick(photos, "-o", "picked.parquet")[2]
    Path("empty").mkdir()
    assert "there are no pictures in empty" in pick("empty")[2]
    assert "does not describe pictures" in pick(photos, checkpoint=checkpoint_folder)[2]
