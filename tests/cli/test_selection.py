import csv
import errno
import io
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cli.score import gallery
from tests.cli.brightness import folder_of, grey
from tests.cli.conftest import Score, Told
from tests.cli.test_archives import write_zip


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "photos", b=50, a__one=20, c=90, d=20)
    (tmp_path / "photos" / "aa.png").write_bytes(b"broken")
    return Path("photos")


def stems(told: Told) -> str:
    return " ".join(Path(row["path"]).stem for row in csv.DictReader(io.StringIO(told.stdout)))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "one aa b c d"),
        (["--sort", "worst"], "one d b c aa"),
        (["--sort", "best"], "c b one d aa"),
        (["--below", "40"], "one aa d"),
        (["--above", "40"], "aa b c"),
        (["--above", "40", "--below", "60", "--sort", "worst"], "b aa"),
    ],
)
def test_order_and_bounds(arguments: list[str], expected: str, photos: Path, score: Score) -> None:
    """Also in a file; pictures that failed are named whatever the bounds."""
    told = score(photos, "-f", "csv", *arguments)
    assert stems(told) == expected
    score(photos, "-o", "scores.csv", *arguments)
    assert Path("scores.csv").read_bytes().decode() == told.stdout


def test_bounds_are_exclusive(tmp_path: Path, score: Score) -> None:
    (tmp_path / "white.png").write_bytes(grey(100))
    assert stems(score(tmp_path, "-f", "csv", "--above", "100")) == ""
    assert stems(score(tmp_path, "-f", "csv", "--above", "99.9")) == "white"


def tree(folder: str = ".") -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(Path(folder).rglob("*")) if file.is_file()}


def test_moving(photos: Path, score: Score) -> None:
    before = tree()
    told = score(photos, "-f", "csv", "--below", "40", "--move-to", "low")
    assert "2 of 2 pictures below 40 moved to low" in told.stderr
    low = {"photos/a/one.png", "photos/d.png"}
    assert tree() == {f"low/{name}" if name in low else name: data for name, data in before.items()}


def test_copying_within_the_folder_that_is_searched(photos: Path, score: Score) -> None:
    before = tree()
    for _ in range(2):  # the second time they are there already, and are not scored themselves
        told = score(photos, "-f", "csv", "--below", "40", "--copy-to", "photos/low")
        assert stems(told) == "one aa d"
        assert "2 of 2 pictures below 40 copied" in told.stderr
    copies = {f"photos/low/{name}": before[name] for name in ("photos/a/one.png", "photos/d.png")}
    assert tree() == before | copies


@pytest.mark.parametrize("way", ["--move-to", "--copy-to"])
def test_nothing_is_overwritten(way: str, photos: Path, score: Score) -> None:
    other = Path("low/photos/d.png")
    other.parent.mkdir(parents=True)
    other.write_bytes(b"other")
    told = score(photos, "-f", "csv", "--below", "40", way, "low")
    assert "photos/d.png: File exists" in told.stderr
    assert "1 of 2 pictures below 40" in told.stderr
    assert told.status == 1
    assert other.read_bytes() == b"other"
    assert Path("photos/d.png").exists()


def test_moving_to_another_file_system(photos: Path, score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    before = tree()
    monkeypatch.setattr(os, "link", link)
    score(photos, "-f", "csv", "--above", "80", "--move-to", "best")
    assert tree() == {("best/" if name.endswith("c.png") else "") + name: data for name, data in before.items()}


def test_a_link_is_moved_as_what_it_means(photos: Path, score: Score) -> None:
    Path("white.png").write_bytes(grey(100))
    (photos / "e.png").symlink_to("../white.png")
    score(photos, "-f", "csv", "--above", "80", "--move-to", "best")
    assert Path("best/photos/e.png").read_bytes() == grey(100)
    assert not (photos / "e.png").is_symlink()


def test_paths_from_outside_stay_inside(photos: Path, score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    score("../photos/c.png", (Path.cwd() / "b.png").resolve(), "-f", "csv", "--above", "0", "--copy-to", "to")
    assert set(tree("to")) == {"to/photos/c.png", f"to{Path.cwd()}/b.png"}


def test_members_of_archives_stay_where_they_are(tmp_path: Path, score: Score) -> None:
    file = write_zip(tmp_path / "x.zip", {"a.png": grey(10)})
    told = score(file, "-f", "csv", "--below", "40", "--copy-to", tmp_path / "low")
    assert "x.zip/a.png: members of archives are not moved or copied" in told.stderr
    assert told.status == 1


class Page(HTMLParser):
    """What a browser would take from a report."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.images: list[str] = []
        self.tags: set[str] = set()
        self.references: list[str] = []
        self.words = ""
        self.feed(file.read_text(encoding="utf-8"))
        self.words = " ".join(self.words.split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attributes:
            assert not name.startswith("on")
            assert name != "style"
            if name in ("src", "href"):
                self.references.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words += f" {data}"


def test_the_report_shows_the_worst_first(photos: Path, score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "SHOWN", 3)
    told = score(photos, "--html", "report.html", "-f", "csv")
    assert "the report is report.html" in told.stderr
    page = Page(Path("report.html"))
    assert "Quality of 5 pictures" in page.words
    assert re.findall(r"photos/[\w/]+\.png", page.words) == [
        *("photos/a/one.png", "photos/d.png", "photos/b.png"),
        "photos/aa.png",  # which could not be scored
    ]
    for words in ("median 34.9", "worst 20.0", "best 89.8", "1 more are not shown", "1 could not be scored"):
        assert words in page.words
    assert [reference[:27] for reference in page.references] == ["data:image/jpeg;base64,/9j/"] * 3


def test_the_report_shows_what_is_meant(photos: Path, score: Score) -> None:
    score(photos, "--html", "report.html", "-f", "csv", "--above", "40", "--sort", "best")
    page = Page(Path("report.html"))
    assert "2 of 4" in page.words
    assert re.findall(r"photos/\w+\.png", page.words)[:2] == ["photos/c.png", "photos/b.png"]


def test_names_in_the_report_are_text(tmp_path: Path, score: Score) -> None:
    hostile = "<script>alert(1)<&script>\"'"
    folder = folder_of(tmp_path / "photos", **{hostile: 10, "\udcff": 20})
    (folder / f"{hostile}.jpg").write_bytes(b"")
    score(folder, "--html", tmp_path / "report.html", "-f", "csv")
    page = Page(tmp_path / "report.html")
    assert "script" not in page.tags
    assert page.words.count(hostile) == 2
    assert "\\udcff.png" in page.words


def test_pictures_in_archives_are_in_the_report(tmp_path: Path, score: Score) -> None:
    file = write_zip(tmp_path / "x.zip", {"a.png": grey(10), "b.png": grey(90)})
    score(file, "--html", tmp_path / "report.html", "-f", "csv")
    assert len(Page(tmp_path / "report.html").references) == 2


def test_a_report_on_nothing(tmp_path: Path, score: Score) -> None:
    (tmp_path / "a.png").write_bytes(b"broken")
    score(tmp_path, "--html", tmp_path / "report.html")
    assert "1 could not be scored" in Page(tmp_path / "report.html").words
    (tmp_path / "b.png").write_bytes(grey(50))
    score(tmp_path, "--html", tmp_path / "report.html", "--below", "10")
    assert "None." in Page(tmp_path / "report.html").words
