import csv
import json
from pathlib import Path

import numpy as np
import pytest

from model.contract import Contract, Scale
from tests.conftest import encode, photo
from training import datasets, splits
from training.crops import RandomCrops
from training.datasets import Dataset, DatasetError, Sample


def write_csv(file: Path, header: tuple[str, str], rows: list[tuple[str, object]]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


@pytest.fixture
def biq2021(tmp_path: Path) -> Path:
    """The layout of BIQ2021, with one suffix in the wrong case."""
    (tmp_path / "Images").mkdir()
    rows: list[tuple[str, object]] = []
    for index in range(10):
        name = f"ss01 ({index}).jpg"
        on_disk = name.replace(".jpg", ".JPG") if index == 3 else name
        (tmp_path / "Images" / on_disk).write_bytes(encode(photo(seed=index)))
        rows.append((name, index / 10))
    write_csv(tmp_path / "Train (Images and MOS).csv", ("Image Name", "MOS"), rows)
    return tmp_path


def test_biq2021(biq2021: Path) -> None:
    dataset = datasets.read("biq2021", biq2021)
    assert dataset.scale == Scale(dataset="biq2021", min=0, max=1)
    assert [sample.mos for sample in dataset.samples] == [index / 10 for index in range(10)]
    assert dataset.samples[3].name == "ss01 (3).JPG"


def test_missing_pictures_are_counted(biq2021: Path) -> None:
    for index in (5, 7):
        (biq2021 / "Images" / f"ss01 ({index}).jpg").unlink()
    with pytest.raises(DatasetError, match=r"ss01 \(5\)\.jpg: no such picture \(and 1 others\)"):
        datasets.read("biq2021", biq2021)


def test_csv(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(encode(photo()))
    write_csv(tmp_path / "own.csv", ("path", "mos"), [("a.jpg", 2), ("b.jpg", 4.5)])
    dataset = datasets.read("csv", tmp_path / "own.csv")
    assert dataset.scale == Scale(dataset="own", min=2, max=4.5)
    assert [sample.path for sample in dataset.samples] == [tmp_path / "a.jpg", tmp_path / "b.jpg"]


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        (("path", "score"), [("a.jpg", 1)], "'path' and 'mos'"),
        (("path", "mos"), [("a.jpg", "good")], "'path' and 'mos'"),
        (("path", "mos"), [("a.jpg", 1), ("b.jpg", 1)], "one label"),
        (("path", "mos"), [("a.jpg", 1), ("b.jpg", "nan")], "not a number"),
        (("path", "mos"), [("x/a.jpg", 1), ("y/a.jpg", 2)], "share a file name"),
        (("path", "mos"), [], "one label"),
    ],
)
def test_csv_that_cannot_be_learned_from(
    tmp_path: Path, header: tuple[str, str], rows: list[tuple[str, object]], words: str
) -> None:
    write_csv(tmp_path / "own.csv", header, rows)
    with pytest.raises(DatasetError, match=words):
        datasets.read("csv", tmp_path / "own.csv")


@pytest.mark.parametrize("name", ["biq2021", "csv"])
def test_wrong_roots(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="no such"):
        datasets.read(name, tmp_path / "nothing")


def made_up(count: int = 20) -> Dataset:
    samples = tuple(Sample(Path(f"{index:02}.jpg"), float(index)) for index in range(count))
    return Dataset(Scale(dataset="made-up", min=0, max=count), samples)


def test_splits_are_seeded_and_independent_of_order(tmp_path: Path) -> None:
    dataset = made_up()
    split = splits.make(dataset, validation_share=0.25, seed=1)
    assert (len(split.train), len(split.validation)) == (15, 5)
    shuffled = Dataset(dataset.scale, dataset.samples[::-1])
    assert splits.make(shuffled, validation_share=0.25, seed=1) == split
    assert splits.make(dataset, validation_share=0.25, seed=2) != split
    splits.save(split, tmp_path / "split.json")
    assert splits.load(tmp_path / "split.json") == split
    assert [sample.name for sample in splits.select(dataset, split.validation)] == list(split.validation)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"train": ["a.jpg"], "validation": ["a.jpg"]}, "leaks: a.jpg"),
        ({"train": ["a.jpg"], "validation": []}, "empty"),
        ({"train": ["a.jpg"]}, "not a split file"),
    ],
)
def test_bad_splits(tmp_path: Path, content: dict[str, list[str]], words: str) -> None:
    file = tmp_path / "split.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=words):
        splits.load(file)
    with pytest.raises(DatasetError, match="lacks"):
        splits.select(made_up(), ("other.jpg",))


def test_random_crops_depend_on_seed_epoch_and_index_alone(biq2021: Path, contract: Contract) -> None:
    samples = list(datasets.read("biq2021", biq2021).samples)
    crops = RandomCrops(samples, contract, count=3, seed=1)
    first, labels = crops[4]
    assert first.shape == (3, 224, 224, 3)
    assert labels.tolist() == pytest.approx([0.4] * 3)
    crops[0], crops[9]
    assert np.array_equal(first, crops[4][0])
    crops.epoch = 1
    assert not np.array_equal(first, crops[4][0])
    assert not np.array_equal(first, RandomCrops(samples, contract, count=3, seed=2)[4][0])
