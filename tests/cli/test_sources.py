import io
import os
from pathlib import Path

import pytest

from cli.pictures.sources import Search, find
from tests.cli.brightness import folder_of
from tests.cli.conftest import Score


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "photos", b=10, a__one=20, a__deep__two=30, c=40)
    (tmp_path / "photos" / "a.txt").write_text("no picture")
    return tmp_path / "photos"


def names(*paths: str, stdin: bytes = b"", null: bool = False, exclude: Path | None = None) -> list[str]:
    return [picture.name for picture in find(paths, Search(own=exclude), null=null, stdin=io.BytesIO(stdin))]


ALL = ["photos/a/deep/two.png", "photos/a/one.png", "photos/b.png", "photos/c.png"]


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("photos", ALL),
        ("photos/", ALL),
        ("photos/*", ALL),
        ("photos/**", ALL),
        ("photos/**/*", ALL),
        ("photos/*.png", ["photos/b.png", "photos/c.png"]),
        ("photos/**/[ot]*.png", ["photos/a/deep/two.png", "photos/a/one.png"]),
        ("photos/?", ["photos/a/deep/two.png", "photos/a/one.png"]),
        ("photos/a.txt", ["photos/a.txt"]),
    ],
)
def test_folders_and_globs(pattern: str, found: list[str]) -> None:
    assert names(pattern) == found


def test_a_name_that_looks_like_a_glob(photos: Path) -> None:
    (photos / "b.png").rename(photos / "b[1].png")
    assert names("photos/b[1].png") == ["photos/b[1].png"]


@pytest.mark.usefixtures("photos")
def test_a_glob_that_matches_nothing_is_told(score: Score) -> None:
    told = score("photos/*.gif")
    assert told.status == 1
    assert "photos/*.gif: No picture matches" in told.stderr


def test_links_to_folders_are_not_followed(photos: Path) -> None:
    (photos / "a" / "loop").symlink_to(photos)
    (photos / "a" / "link.png").symlink_to(photos / "b.png")
    assert names("photos") == [ALL[0], "photos/a/link.png", *ALL[1:]]


def test_a_folder_may_be_left_out(photos: Path) -> None:
    assert names("photos", exclude=photos / "a") == ALL[2:]


@pytest.mark.usefixtures("photos")
def test_a_folder_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: Path) -> object:
        if path.name == "deep":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    first, *others = find(["photos"])
    assert first.name == "photos/a/deep"
    assert isinstance(first.content, PermissionError)
    assert [picture.name for picture in others] == ALL[1:]


@pytest.mark.usefixtures("photos")
def test_lists_on_stdin() -> None:
    assert names("-", stdin=b"photos/a\nphotos/c.png\n\nnone.png") == [*ALL[:2], "photos/c.png", "none.png"]
    assert names("-", stdin=b"with\nline.png\0photos/*\0", null=True) == ["with\nline.png", "photos/*"]
    long = [f"{'x' * 200}{place}" for place in range(1000)]
    assert names("-", stdin="\n".join(long).encode()) == long
    assert names("-", stdin=b"\xff.png\n") == [os.fsdecode(b"\xff.png")]


def test_wrong_lists_and_paths() -> None:
    with pytest.raises(ValueError, match="add --null"):
        names("-", stdin=b"a.png\0b.png\0")
    with pytest.raises(ValueError, match="is empty"):
        names("")
