"""``smart-iqa compare``."""

import json
from functools import partial
from pathlib import Path

import pytest

from tests.cli.conftest import WholeRun
from tests.conftest import encode, photo


@pytest.fixture
def compare(smart_iqa: WholeRun) -> WholeRun:
    return partial(smart_iqa, "compare")


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"{name}.jpg" for name in "abc"]
    for seed, file in enumerate(files):
        file.write_bytes(encode(photo(300, 280, seed=seed % 2)))
    return files


def test_a_table_has_the_best_first(compare: WholeRun, photos: list[Path]) -> None:
    status, told, _ = compare(*photos)
    assert status == 0
    assert told.index("the best is preferred to it") < told.index("a.jpg")
    assert "the same file" in told


def test_json_tells_of_each_pair(compare: WholeRun, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "d.jpg").write_bytes(b"no picture")
    status, told, notes = compare(*photos, tmp_path / "d.jpg", "--json")
    found = json.loads(told)
    assert status == 1
    assert "d.jpg: not a picture" in notes
    assert [Path(one["path"]).name for one in found["results"]] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert found["results"][0]["interval"]["coverage"] == 0.9
    assert found["results"][3]["error"].startswith("not a picture")
    assert sorted(found["order"]) == [0, 1, 2]
    assert [(pair["first"], pair["second"], pair["duplicate"]) for pair in found["pairs"]] == [
        (0, 1, False),
        (0, 2, True),
        (1, 2, False),
    ]


def test_too_few_and_too_many(compare: WholeRun, photos: list[Path]) -> None:
    status, _, told = compare(photos[0])
    assert (status, "two to 16 pictures, not 1" in told) == (2, True)
    status, _, told = compare(*photos * 6)
    assert (status, "two to 16 pictures, not 18" in told) == (2, True)
