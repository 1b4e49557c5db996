import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cli.pictures import archives
from tests.cli.brightness import grey
from tests.cli.conftest import Score

MEMBERS = {"a.png": 80.0, "deep/b.PNG": 10.0}


def write_zip(file: Path, contents: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return file


def write_tar(file: Path, contents: Mapping[str, bytes], compression: str = "") -> Path:
    with tarfile.open(file, f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


def errors(file: Path) -> dict[str, str]:
    """What cannot be read of an archive, by the names after the archive's."""
    found = {}
    for name, content in archives.members(str(file)):
        try:
            if isinstance(content, Exception):
                raise content
            assert callable(content)
            content()
        except archives.ArchiveError as error:
            found[name.removeprefix(str(file))] = str(error)
    return found


@pytest.mark.parametrize(
    ("name", "compression"),
    [
        ("x.zip", None),
        ("x.ZIP", None),
        ("x.tar", ""),
        ("x.tar.gz", "gz"),
        ("x.tgz", "gz"),
        ("x.tar.bz2", "bz2"),
        ("x.txz", "xz"),
    ],
)
def test_members_are_scored_where_they_are(name: str, compression: str | None, tmp_path: Path, score: Score) -> None:
    contents = {member: grey(percent) for member, percent in MEMBERS.items()}
    contents["notes.txt"] = b"no picture"
    if compression is None:
        contents["__MACOSX/._a.png"] = b"resources"
    file = (
        write_tar(tmp_path / name, contents, compression)
        if compression is not None
        else write_zip(tmp_path / name, contents)
    )
    told = score(file, "-f", "jsonl")
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert told.status == 0
    assert {line["path"]: round(line["score"]) for line in lines} == {
        f"{file}/{member}": percent for member, percent in MEMBERS.items()
    }
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_archives_in_a_folder_are_not_opened(tmp_path: Path, score: Score) -> None:
    write_zip(tmp_path / "x.zip", {"a.png": grey(1)})
    assert "there are no pictures" in score(tmp_path).stderr


def test_encrypted_members(tmp_path: Path) -> None:
    file = write_zip(tmp_path / "x.zip", {"a.png": grey(1)})
    data = bytearray(file.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(data)
    assert errors(file) == {"/a.png": "the member is encrypted"}


def test_damaged_members_leave_the_others(tmp_path: Path) -> None:
    file = write_zip(tmp_path / "x.zip", {"a.png": bytes(range(256)) * 9, "b.png": grey(2)})
    data = bytearray(file.read_bytes())
    data[40:60] = bytes(20)
    file.write_bytes(data)
    assert errors(file) == {"/a.png": "the member is damaged, or compressed in a way that is not known"}


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_what_is_no_archive(name: str, tmp_path: Path, score: Score) -> None:
    (tmp_path / name).write_bytes(b"no archive" * 100)
    told = score(tmp_path / name)
    assert told.status == 1
    assert f"{name}: the archive is damaged, or none" in told.stderr


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_members_are_bounded(write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MEMBER_BYTES", 1000)
    file = write(tmp_path / ("x.zip" if write is write_zip else "x.tar"), {"a.png": bytes(1001), "b.png": grey(2)})
    assert errors(file) == {"/a.png": "the member has 1,001 bytes, more than the limit of 1,000"}


def test_zip_bombs_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "EXPANSION_FLOOR", 10_000)
    monkeypatch.setattr(archives, "EXPANSION", 10)
    file = write_zip(tmp_path / "x.zip", {f"{place}.png": bytes(4000) for place in range(4)})
    assert [*errors(file)] == ["/2.png", "/3.png"]
    assert "expands to more than 10,000 bytes" in errors(file)["/2.png"]


def test_tar_bombs_are_given_up_also_where_they_are_no_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "EXPANSION_FLOOR", 10_000)
    monkeypatch.setattr(archives, "EXPANSION", 10)
    file = write_tar(tmp_path / "x.tgz", {"a.png": grey(2), "zeros.bin": bytes(20_000), "b.png": grey(3)}, "gz")
    assert errors(file) == {"": "the archive expands to more than 10,000 bytes; the rest is left out"}


def test_headers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MEMBER_BYTES", 100_000)
    info = tarfile.TarInfo("x")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 200_000
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(info.tobuf() + bytes(200_000)))
    assert errors(tmp_path / "x.tar.gz") == {"": "the archive has a header of 200,192 bytes"}


def test_links_in_archives(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "x.tar", {"a.png": grey(2)})
    with tarfile.open(file, "a") as archive:
        info = tarfile.TarInfo("link.png")
        info.type, info.linkname = tarfile.LNKTYPE, "a.png"
        archive.addfile(info)
    assert errors(file) == {"/link.png": "the member is a link or a device, not a file"}


@pytest.mark.parametrize("cut", ["header", "content", "stream"])
def test_an_archive_that_breaks_off_is_told(cut: str, tmp_path: Path, score: Score) -> None:
    """tarfile itself takes a broken header for the end."""
    file = write_tar(tmp_path / "x.tar", {"a.png": grey(20), "b.png": grey(30)})
    data = bytearray(file.read_bytes())
    second = data.index(b"b.png")
    if cut == "header":
        data[second + 150] ^= 1
    elif cut == "content":
        del data[second + 520 :]
    else:
        data = bytearray(gzip.compress(bytes(data), 0)[: second + 520])
    file.write_bytes(data)
    told = score(file, "-f", "jsonl")
    assert told.status == 1
    assert round(json.loads(told.stdout.splitlines()[0])["score"]) == 20
    assert "damaged" in told.stdout
