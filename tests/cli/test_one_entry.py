"""One entry never costs the rest: it is left out, counted and named, with the reason."""

import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.pictures.exclusions import Exclusions, NotLookedAt
from cli.pictures.sources import Search, find
from tests.cli.brightness import folder_of, grey
from tests.cli.conftest import Bulk, Score
from tests.cli.test_bulk import rows


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return folder_of(tmp_path / "photos", a=10, deep__b=20, z=30)


GOOD = ["photos/a.png", "photos/deep/b.png", "photos/z.png"]


def found(*paths: str, stdin: bytes = b"", exclusions: Exclusions | None = None) -> tuple[list[str], NotLookedAt]:
    search = Search(exclusions or Exclusions())
    return [picture.name for picture in find(paths, search, stdin=io.BytesIO(stdin))], search.not_looked_at


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(grey(50))


def odd_entries(photos: Path) -> dict[str, str]:
    """Entries that are no photos, whatever their names say, with the reason."""
    (photos / "loop.png").symlink_to("loop.png")
    (photos / "nothing.png").symlink_to("nowhere.png")
    (photos / "back").symlink_to(photos)
    (photos / "folder.png").symlink_to(photos / "deep")
    os.mkfifo(photos / "pipe.png")
    return {
        "photos/loop.png": "Too many levels of symbolic links",
        "photos/nothing.png": "a link to nothing",
        "photos/back": "a link to a folder",
        "photos/folder.png": "a link to a folder",
        "photos/pipe.png": "neither a file nor a folder",
    }


@pytest.mark.parametrize("path", ["photos", "photos/**", "photos/**/*.png", "photos/*"])
def test_odd_entries_cost_themselves_alone(path: str, photos: Path) -> None:
    odd = odd_entries(photos)
    names, missed = found(path)
    if path == "photos/*":  # the pattern itself names the links
        assert {*GOOD} <= {*names}
        return
    assert names == GOOD
    assert dict(missed.named) == (odd if path != "photos/**/*.png" else {**odd, "photos/back": "a link to a folder"})


def test_a_target_that_may_not_be_looked_at(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos / "kept.png").symlink_to("/elsewhere/x.png")
    real = os.scandir

    class Denied:
        def __init__(self, entry: "os.DirEntry[str]") -> None:
            self.name, self.path = entry.name, entry.path
            self.is_dir, self.is_symlink = entry.is_dir, entry.is_symlink

        def is_file(self) -> bool:
            raise PermissionError(13, "Permission denied")

    class Listing:
        def __init__(self, path: Path) -> None:
            self._entries = real(path)

        def __enter__(self) -> "list[object]":
            with self._entries as entries:
                return [Denied(entry) if entry.name == "kept.png" else entry for entry in entries]

        def __exit__(self, *_: object) -> None:
            """Nothing is open."""

    monkeypatch.setattr(os, "scandir", Listing)
    names, missed = found("photos")
    assert names == GOOD
    assert missed.named == [("photos/kept.png", "Permission denied")]


@pytest.fixture
def nested(photos: Path) -> Iterator[None]:
    """1,500 folders within each other, which are removed one by one: whatever recurses could not."""
    here = os.getcwd()
    os.chdir(photos)
    for _ in range(1500):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(here)
    yield
    os.chdir(photos)
    for _ in range(1500):
        os.chdir("d")
    for _ in range(1500):
        os.chdir("..")
        os.rmdir("d")
    os.chdir(here)


@pytest.mark.usefixtures("nested")
@pytest.mark.parametrize("path", ["photos", "photos/**/*.png"])
def test_thousands_of_nested_folders(path: str) -> None:
    names, missed = found(path)
    assert names == ["photos/a.png", "photos/deep/b.png", "photos/z.png"]
    assert missed.count == 1
    assert missed.named[0][1] == "more than 1,000 folders deep"


def test_a_picture_that_vanishes_meanwhile_is_an_error_of_its_own(photos: Path, score: Score) -> None:
    pictures = find(["photos"])
    first = next(pictures)
    (photos / "z.png").unlink()
    assert [first.name, *(picture.name for picture in pictures)] == GOOD
    told = score("photos/a.png", "photos/z.png", "-f", "csv")
    assert told.status == 1
    assert "photos/z.png: No such file or directory" in told.stderr
    assert "photos/a.png,10" in told.stdout


NAS = (
    *("@eaDir/a.png/SYNOPHOTO_THUMB_XL.jpg", "#recycle/old.png", "$RECYCLE.BIN/x.png", "._a.png"),
    *(".Trash-1000/files/x.png", ".thumbnails/1.png", "deep/@EADIR/b.png", ".trashed-17-x.jpg"),
)


def test_thumbnails_and_waste_are_left_out_and_counted(photos: Path, score: Score) -> None:
    put(photos, *NAS)
    told = score("photos", "-f", "csv")
    assert told.status == 0
    assert [line.split(",")[0] for line in told.stdout.splitlines()[1:]] == GOOD
    assert "8 not looked at: left out by default (--no-default-excludes) 8" in told.stderr
    assert "photos/@eaDir: not looked at" in told.stderr
    assert score("photos", "--strict").status == 1
    everything = score("photos", "-f", "csv", "--no-default-excludes")
    assert len(everything.stdout.splitlines()) == 1 + 3 + len(NAS)


@pytest.mark.parametrize(
    ("pattern", "left"),
    [("deep", ["photos/a.png", "photos/z.png"]), ("Z.*", GOOD[:2]), ("deep/*.png", ["photos/a.png", "photos/z.png"]),
     ("deep/", ["photos/a.png", "photos/z.png"]), ("eep", GOOD), ("photos/a.png", GOOD[1:])],
)  # fmt: skip
def test_patterns(pattern: str, left: list[str], photos: Path) -> None:
    assert photos.exists()
    names, missed = found("photos", exclusions=Exclusions([pattern]))
    assert names == left
    assert missed.count == len(GOOD) - len(left)


def test_members_of_archives_are_left_out_too(photos: Path, score: Score) -> None:
    with zipfile.ZipFile("x.zip", "w") as archive:
        for name in ("a.png", "__MACOSX/._a.png", "trip/@eaDir/b.png", "raw/c.png", "d.NEF"):
            archive.writestr(name, grey(50))
    told = score("x.zip", "-f", "csv", "--exclude", "raw")
    assert [line.split(",")[0] for line in told.stdout.splitlines()[1:]] == ["x.zip/a.png"]
    assert "4 not looked at" in told.stderr
    assert "x.zip/raw/c.png: not looked at: left out by --exclude" in told.stderr
    assert "x.zip/d.NEF: not looked at: no reader for .nef files" in told.stderr
    assert photos.exists()


def test_suffixes_of_phones_and_cameras(photos: Path) -> None:
    names = ("IMG_1.HEIC", "b.jfif", "c.JPE", "d.MPO", "e.AvIf", "f.HEIF", "g.JPG", "h.Tiff")
    put(photos / "more", *names, "i.CR2", "j.dng", "k.PSD", "notes.txt", "film.MOV")
    listed, missed = found("photos/more")
    assert listed == [f"photos/more/{name}" for name in names]
    assert dict(missed.named) == {
        "photos/more/i.CR2": "no reader for .cr2 files",
        "photos/more/j.dng": "no reader for .dng files",
        "photos/more/k.PSD": "no reader for .psd files",
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_of_any_system(end: str, encoding: str, photos: Path, bulk: Bulk) -> None:
    put(photos, "ä \U0001f600.png")
    names = ["photos/a.png", "photos/ä \U0001f600.png"]
    mark = "\ufeff" if encoding.endswith(("le", "be")) else ""
    assert found("-", stdin=(mark + end.join([*names, ""])).encode(encoding))[0] == names
    Path("list.csv").write_bytes((mark + end.join(["path", *names, ""])).encode(encoding))
    assert bulk("list.csv", "out").status == 0
    assert sorted(row["path"] for row in rows()) == sorted(names)


def test_a_list_with_a_nul_and_a_gap(photos: Path, bulk: Bulk) -> None:
    names = ["photos/a.png", "bad\0name.png", "", None, "photos/z.png"]
    pq.write_table(pa.table({"path": names}), "list.parquet")
    told = bulk("list.parquet", "out")
    assert told.status == 1
    errors = {row["path"]: row["error"] for row in rows()}
    assert errors == {"photos/a.png": None, "bad\0name.png": "The name has a NUL byte", "photos/z.png": None}
    assert "list.parquet, row 3: not looked at: it names no picture" in told.stderr
    assert "2 not looked at: it names no picture 2" in told.stderr
    assert photos.exists()


def test_a_job_tells_what_it_did_not_look_at_whenever_it_goes_on(photos: Path, bulk: Bulk) -> None:
    odd = odd_entries(photos)
    put(photos, *NAS)
    first = bulk("photos", "out")
    assert (first.status, len(rows())) == (0, 3)
    again = bulk("photos", "out", "--strict")
    assert again.status == 1
    for told in (first, again):
        assert f"{len(odd) + len(NAS)} not looked at" in told.stderr
        assert "photos/loop.png: not looked at: Too many levels of symbolic links" in told.stderr
    assert json.loads(Path("out/_job/job.json").read_text())["not_looked_at"]["reasons"]["a link to nothing"] == 1
    assert "begun with exclude" in bulk("photos", "out", "--exclude", "a.png").stderr.replace("\n", " ")


def test_a_list_that_has_changed_is_another_job(photos: Path, bulk: Bulk) -> None:
    Path("list.csv").write_text("path\nphotos/a.png\n")
    assert bulk("list.csv", "out").status == 0
    Path("list.csv").write_text("path\nphotos/a.png\nphotos/z.png\n")
    told = bulk("list.csv", "out")
    assert told.status == 2
    assert "out was begun with lists" in told.stderr
    assert photos.exists()


def test_the_report_tells_what_was_not_looked_at(photos: Path, score: Score) -> None:
    odd_entries(photos)
    put(photos, "x.nef")
    score("photos", "--html", "report.html")
    page = Path("report.html").read_text()
    assert "6 not looked at" in page
    assert "photos/x.nef" in page
