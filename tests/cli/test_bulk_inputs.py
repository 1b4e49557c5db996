"""What ``score-bulk`` takes, and what it says of the rest."""

import io
import json
import os
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.bulk import cluster, ray_workers
from cli.bulk import job as jobs
from cli.bulk.listing import units
from cli.bulk.stores import Place, Store
from cli.bulk.units import UNKNOWN, contents
from tests.cli.brightness import folder_of, grey
from tests.cli.bucket import bucket
from tests.cli.conftest import Bulk
from tests.cli.test_archives import write_tar, write_zip
from tests.cli.test_bulk import paths, rows


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rounded(folder: Path | str = "out") -> dict[str, int | str]:
    """Score or error by path."""
    return {row["path"]: row["error"] or round(row["score"]) for row in rows(folder)}


def stored(uri: str, contents: Mapping[str, bytes]) -> None:
    for name, data in contents.items():
        place = Place.of(f"{uri}/{name}")
        place.filesystem.create_dir(os.path.dirname(place.path))
        with place.filesystem.open_output_stream(place.path) as stream:
            stream.write(data)


def test_several_inputs(bulk: Bulk) -> None:
    folder_of(Path("photos"), a=10, deep__b=20)
    write_zip(Path("x.zip"), {"c.png": grey(30), "notes.txt": b"x"})
    folder_of(Path("more"), d=40, e=50)
    bulk("photos", "x.zip", "more/*.png", "out")
    assert rounded() == {
        "photos/a.png": 10,
        "photos/deep/b.png": 20,
        "x.zip/c.png": 30,
        "more/d.png": 40,
        "more/e.png": 50,
    }


@pytest.mark.parametrize("header", ["path", "uri", "\ufeffpath", "id,path", "uri,path"])
def test_csv_lists(header: str, bulk: Bulk) -> None:
    folder_of(Path("photos"), **{"a, b": 10, "c": 20})
    lead = "1," if "," in header else ""
    Path("list.csv").write_text(f'{header}\n{lead}"photos/a, b.png"\n{lead}photos/c.png\n{lead}photos/not-there.png\n')
    bulk("list.csv", "out")
    wrong = {"1": "No such file or directory"} if header == "uri,path" else {}
    expected = {"photos/a, b.png": 10, "photos/c.png": 20, "photos/not-there.png": "No such file or directory"}
    assert rounded() == (wrong or expected)


def test_a_column_may_be_named(bulk: Bulk) -> None:
    folder_of(Path("photos"), a=10, b=20)
    Path("list.csv").write_text("path,photo\nphotos/a.png,photos/b.png\n")
    bulk("list.csv", "out", "--column", "photo")
    assert rounded() == {"photos/b.png": 20}


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_lists(type_: pa.DataType, bulk: Bulk) -> None:
    folder_of(Path("photos"), a=10, b=20)
    write_tar(Path("shard.tar"), {"c.png": grey(30)})
    names = pa.array(["photos/a.png", "shard.tar", "photos/b.png", "photos/a.png"]).cast(type_)
    pq.write_table(pa.table({"id": range(4), "path": names}), "list.parquet")
    bulk("list.parquet", "out", "--unit", "3")
    assert sorted(paths()) == ["photos/a.png", "photos/a.png", "photos/b.png", "shard.tar/c.png"]


def test_shards(bulk: Bulk) -> None:
    """WebDataset: the files of a sample follow each other; those that are pictures are scored."""
    for number in range(8, 12):
        members = {
            f"{number}-{one}.{kind}": grey(one) if kind == "png" else b"{}"
            for one in (1, 2)
            for kind in ("json", "png")
        }
        write_tar(Path(f"shard-{number:03}.tar"), members)
    bulk("shard-{008..010}.tar", "out")
    assert paths() == [f"shard-{number:03}.tar/{number}-{one}.png" for number in (8, 9, 10) for one in (1, 2)]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_large_archives_are_divided_unless_they_must_be_read_in_order(kind: str, bulk: Bulk) -> None:
    long = "long-" * 30
    members = {f"{long}{place}.png": grey(place) for place in range(7)}
    file = Path(f"x.{kind}")
    if kind == "zip":
        write_zip(file, members)
    else:
        write_tar(file, members, "gz" if kind == "tar.gz" else "")
    found = list(units([str(file)], 3))
    assert [unit.count for unit in found] == ([UNKNOWN] if kind == "tar.gz" else [3, 3, 1])
    bulk(file, "out", "--unit", "3")
    assert rounded() == {f"{file}/{name}": place for place, name in enumerate(members)}


def test_a_tar_that_is_compressed_in_secret(bulk: Bulk) -> None:
    write_tar(Path("x.tar"), {f"{place}.png": grey(place) for place in range(5)}, "gz")
    bulk("x.tar", "out", "--unit", "2")
    assert list(rounded().values()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("unit", [1, 2, 3, 10])
def test_an_archive_that_breaks_off(unit: int, bulk: Bulk) -> None:
    """However it is divided, the error comes once, with the last pictures."""
    write_tar(Path("x.tar"), {f"{place}.png": grey(place) for place in range(4)})
    data = bytearray(Path("x.tar").read_bytes())
    data[data.index(b"3.png") + 150] ^= 1
    Path("x.tar").write_bytes(data)
    bulk("x.tar", "out", "--unit", unit)
    broken = "the archive is damaged: what follows cannot be read"
    assert rounded() == {"x.tar/0.png": 0, "x.tar/1.png": 1, "x.tar/2.png": 2, "x.tar": broken}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_what_is_no_archive(kind: str, bulk: Bulk) -> None:
    Path(f"x.{kind}").write_bytes(b"no archive" * 100)
    assert bulk(f"x.{kind}", "out").status == 1
    assert rounded() == {f"x.{kind}": "the archive is damaged, or none"}


def test_an_archive_without_pictures(bulk: Bulk) -> None:
    write_tar(Path("x.tgz"), {"notes.txt": b"x"}, "gz")
    bulk("x.tgz", "out")
    assert rounded() == {"x.tgz": "the archive holds no pictures"}


@pytest.mark.parametrize("unit", [2, 10])
def test_an_archive_that_has_changed(unit: int) -> None:
    """Its pictures are no longer those of the list; their number stays."""
    write_tar(Path("x.tar"), {f"{place}.png": grey(place) for place in range(5)})
    found = list(units(["x.tar"], unit))
    write_tar(Path("x.tar"), {"0.png": grey(0)} | {f"{place}.png": bytes(9999) for place in range(9)})
    for unit_ in found:
        errors = [str(one.content) for one in contents(unit_, str(Path.cwd()))]
        assert errors == ["the archive has changed since the job began"] * unit_.count


def test_an_archive_with_fewer_members_than_listed() -> None:
    write_tar(Path("x.tar"), {f"{place}.png": grey(place) for place in range(5)})
    (unit,) = units(["x.tar"], 10)
    data = Path("x.tar").read_bytes()
    Path("x.tar").write_bytes(data[:2048].ljust(len(data), b"\0"))
    found = list(contents(unit, str(Path.cwd())))
    assert [picture.name for picture in found[:2]] == ["x.tar/0.png", "x.tar/1.png"][: len(found) - 3]
    assert len(found) == 5


def test_members_of_an_archive_that_is_gone(bulk: Bulk) -> None:
    Path("list.csv").write_text("path\nnot-there.tar\n")
    bulk("list.csv", "out")
    assert rounded() == {"not-there.tar": "No such file or directory"}


@pytest.mark.parametrize(
    "name", ["a b#c%20d?e&f.png", "é\u2028ü.png", "line\nend.png", "{1..2}.png", "[a].png", "-.png", "x:/y.png"]
)
@pytest.mark.parametrize("way", ["folder", "named", "csv", "tar", "uri"])
def test_odd_names(name: str, way: str, bulk: Bulk) -> None:
    file = Path("photos", name)
    file.parent.mkdir(parents=True)
    file.write_bytes(grey(30))
    given, path = "photos", f"photos/{name}"
    if way == "named":
        given = path
    elif way == "csv":
        given = "list.csv"
        Path(given).write_text('path\n"' + path.replace('"', '""') + '"\n', newline="")
    elif way == "tar":
        given = "x.tar"
        with tarfile.open(given, "w") as archive:
            archive.add(file, name)
        path = f"x.tar/{name}"
    elif way == "uri":
        given = Path("photos").absolute().as_uri()
        path = str(file.absolute())
    bulk(given, "out")
    assert rounded() == {path: 30}


def test_names_that_are_no_text(bulk: Bulk) -> None:
    """They are found again by their bytes, and Parquet shows what can be shown of them."""
    Path("photos").mkdir()
    with open(b"photos/\xff\xfe.png", "wb") as file:
        file.write(grey(30))
    bulk("photos", "out")
    assert rounded() == {"photos/\ufffd\ufffd.png": 30}


def test_file_uris(bulk: Bulk) -> None:
    folder_of(Path("my photos"), a=10)
    here = Path.cwd()
    bulk((here / "my photos").as_uri(), (here / "the scores").as_uri())
    assert rounded("the scores") == {f"{here}/my photos/a.png": 10}


def test_links_and_the_output_itself(bulk: Bulk) -> None:
    folder_of(Path("photos"), a=10)
    os.symlink(Path("photos/a.png").absolute(), "photos/b.png")
    os.symlink("nowhere", "photos/c.png")
    bulk("photos", "photos/out")
    assert rounded("photos/out") == {"photos/a.png": 10, "photos/b.png": 10}


def test_a_store_with_uris(bulk: Bulk) -> None:
    """Folders, pictures, archives and lists of a store; pyarrow's own one in memory stands for a bucket."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        info = tarfile.TarInfo("t.png")
        info.size = len(grey(40))
        archive.addfile(info, io.BytesIO(grey(40)))
    Path("x.zip").write_bytes(b"")
    write_zip(Path("x.zip"), {f"{place}.png": grey(50 + place) for place in range(3)})
    stored(
        "mock:///bulk",
        {
            "photos/a b#1.png": grey(10),
            "photos/deep/b.png": grey(20),
            "photos/broken.png": b"broken",
            "photos/notes.txt": b"x",
            "x.tar": tar.getvalue(),
            "x.zip": Path("x.zip").read_bytes(),
            "list.csv": b"uri\nmock:///bulk/photos/a b#1.png\nmock:///bulk/photos/gone.png\n",
        },
    )
    bulk(
        "mock:///bulk/photos",
        "mock:///bulk/x.tar",
        "mock:///bulk/x.zip",
        "mock:///bulk/list.csv",
        "mock:///bulk/out",
        "--unit",
        "2",
    )
    names = sorted(name for name in Store("mock:///bulk/out").files() if name.endswith(".parquet"))
    tables = []
    for name in names:
        with Store("mock:///bulk/out").open(name) as file:
            tables.append(pq.read_table(file))
    found = {row["path"]: row["error"] or round(row["score"]) for row in pa.concat_tables(tables).to_pylist()}
    wrong: Any = found.pop("mock:///bulk/photos/broken.png")
    assert wrong.startswith("not a picture")
    assert found == {
        "mock:///bulk/photos/a b#1.png": 10,
        "mock:///bulk/photos/deep/b.png": 20,
        "mock:///bulk/photos/gone.png": "No such file or directory",
        "mock:///bulk/x.tar/t.png": 40,
        **{f"mock:///bulk/x.zip/{place}.png": 50 + place for place in range(3)},
    }
    assert {"_SUCCESS"} <= set(Store("mock:///bulk/out").files())
    assert not [name for name in Store("mock:///bulk/out").files() if name.startswith(".")]


def test_options_of_a_uri_reach_whoever_reads_it() -> None:
    uri = "s3://bucket/photos/a.jpg?region=eu-west-1&endpoint_override=localhost:1"
    place = Place.of(uri)
    assert place.name == "s3://bucket/photos/a.jpg"
    assert place.path == "bucket/photos/a.jpg"
    assert place.filesystem.region == "eu-west-1"
    assert place.at("bucket/photos/b c.jpg").name == "s3://bucket/photos/b c.jpg"


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (["not-there"], "not-there: no such file or folder"),
        ([""], "an empty path: no such file or folder"),
        (["empty"], "there are no pictures in"),
        (["photos/*.webp"], "photos/*.webp: no picture matches"),
        (["shard-{0..2}.tar"], "shard-0.tar: no such file or folder"),
        (["-"], "a list on stdin cannot be read again"),
        (["gone.csv"], "gone.csv: no such file or folder"),
        (["other.csv"], "other.csv: has no column path or uri, but name, size; --column names one"),
        (["other.csv", "--column", "x"], "other.csv: has no column x, but name, size"),
        (["none.csv"], "none.csv: has no column path or uri, but none at all"),
        (["text.parquet"], "text.parquet: is no Parquet file"),
        (["numbers.parquet"], "numbers.parquet: the column path holds no text"),
        (["mock:///not-there"], "mock:///not-there: no such file or folder"),
        (["strange://bucket/photos"], "strange://bucket: Unrecognized filesystem type"),
        (["s3://key:secret@bucket/photos"], "s3://: leave keys out of the URI"),
        (["keys.csv"], "s3://: leave keys out of the URI"),
        (["file://host/photos"], "a file:// URI has three slashes before its path"),
        (["photos", "--unit", "0"], "--unit"),
        (["photos", "--crops", "99"], "neither 1 to 64 nor auto"),
        (["photos", "--ray", "--device", "cuda", "--gpus", "0"], "--device cuda and --gpus 0 contradict each other"),
        (["photos", "--ray", "--address", "ray://head:10001"], "ray://head:10001: ask from a node of the cluster"),
        (["photos", "--engines", "2"], "--address, --engines and --gpus are for --ray"),
    ],
)
def test_wrong_inputs_are_told_in_a_sentence(inputs: list[str], words: str, bulk: Bulk) -> None:
    folder_of(Path("photos"), a=10)
    Path("empty").mkdir()
    Path("other.csv").write_text("name,size\na.png,1\n")
    Path("none.csv").write_text("")
    Path("keys.csv").write_text("path\ns3://key:secret@bucket/a.jpg\n")
    Path("text.parquet").write_text("text")
    pq.write_table(pa.table({"path": [1, 2]}), "numbers.parquet")
    told = bulk(*inputs, "out")
    assert told.status == 2
    assert words in " ".join(told.stderr.replace("│", " ").split())
    assert "Traceback" not in told.stderr
    assert "secret" not in told.stderr
    assert not list(Path().glob("out/*.parquet"))


def divided(file: Path, size: int, tmp_path: Path) -> list[tuple[str, bytes | str, dict[str, int | None]]]:
    """What processes of a cluster would make of an input, piece by piece."""
    job = jobs.begin(Store(str(tmp_path / "out")), {"inputs": [str(file)]}, units([str(file)], size))
    pieces = pa.Table.from_pylist([vars(piece) for piece in cluster.divided(job, range(job.units))])
    found = []
    for (name, content), position in ray_workers.pictures(job, pieces):
        if isinstance(content, Path):
            content = content.read_bytes
        found.append((name, str(content) if isinstance(content, Exception) else content(), position))
    return found


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz"])
def test_pieces_hold_every_picture_once_and_tell_the_end(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "MIN_PIECE_PICTURES", 3)
    members = {f"{place}.png": grey(place) for place in range(8)}
    file = tmp_path / f"x.{kind}"
    if kind == "folder":
        folder_of(file, **{str(place): place for place in range(8)})
    elif kind == "zip":
        write_zip(file, members)
    else:
        write_tar(file, members, "gz" if kind == "tar.gz" else "")
    found = divided(file, 5, tmp_path)
    assert [(Path(name).name, data) for name, data, _ in found] == list(members.items())
    if kind == "tar.gz":
        positions: list[tuple[int | None, ...]] = [(0, place, None if place < 7 else 8) for place in range(8)]
    else:
        positions = [*((0, place, 5) for place in range(5)), *((1, place, 3) for place in range(3))]
    assert [tuple(position.values()) for _, _, position in found] == positions


def test_a_bucket(bulk: Bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Arrow's own client for S3: what was scored, and a run that goes on there."""
    write_tar(Path("x.tar"), {f"{place}.png": grey(40 + place) for place in range(3)})
    write_zip(Path("x.zip"), {f"{place}.png": grey(50 + place) for place in range(3)})
    with bucket(monkeypatch) as server:
        listed = [f"s3://bucket/{name}{server.options}" for name in ("photos/01.png", "gone.png")]
        server.objects = {f"bucket/photos/{place:02}.png": grey(place) for place in range(20)} | {
            "bucket/photos/deep/a b+c%20&.png": grey(30),
            "bucket/photos/notes.txt": b"x",
            "bucket/x.tar": Path("x.tar").read_bytes(),
            "bucket/x.zip": Path("x.zip").read_bytes(),
            "bucket/list.csv": "\n".join(["uri", *listed]).encode(),
        }
        names = ("photos", "x.tar", "x.zip", "list.csv")
        inputs = [f"s3://bucket/{name}{server.options}" for name in names]
        out = f"s3://bucket/scores{server.options}"
        assert bulk(*inputs, out, "--unit", "8").status == 1

        def written() -> dict[str, bytes]:
            return {key: data for key, data in server.objects.items() if key.endswith(".parquet") and "_job" not in key}

        whole = written()
        tables = [pq.read_table(pa.BufferReader(whole[key])) for key in sorted(whole)]
        found = {row["path"]: row["error"] or round(row["score"]) for row in pa.concat_tables(tables).to_pylist()}
        assert found == {
            **{f"s3://bucket/photos/{place:02}.png": place for place in range(20)},
            "s3://bucket/photos/deep/a b+c%20&.png": 30,
            "s3://bucket/gone.png": "No such file or directory",
            **{f"s3://bucket/x.tar/{place}.png": 40 + place for place in range(3)},
            **{f"s3://bucket/x.zip/{place}.png": 50 + place for place in range(3)},
        }
        assert not [key for key in server.objects if "/." in key]
        assert json.loads(server.objects["bucket/scores/_SUCCESS"])["rows"] == 29
        del server.objects[sorted(whole)[1]]
        told = bulk(*inputs, out, "--unit", "8")
        assert f"{len(whole) - 1} of {len(whole)} units" in told.stderr
        assert written() == whole


@pytest.mark.parametrize(("module", "options", "extra"), [("ray", ["--ray"], "ray"), ("pyarrow", [], "parquet")])
def test_what_is_not_installed_is_named(
    module: str, options: list[str], extra: str, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(Path("photos"), a=10)
    monkeypatch.setitem(sys.modules, module, None)
    told = bulk("photos", "out", *options)
    assert told.status == 2
    assert f"this command needs {module}: pip install 'smart-iqa[{extra}]'" in told.stderr
