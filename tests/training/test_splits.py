import json
from pathlib import Path

import pytest

from model.scale import Scale
from training import splits
from training.datasets import Dataset, DatasetError, Part, Sample
from training.recipe import Recipe
from training.splits import Split


def made_up(count: int = 20, *, per_group: int = 1, parts: tuple[Part, ...] = ("",)) -> Dataset:
    samples = tuple(
        Sample(
            path=Path(f"{index:02}.jpg"),
            name=f"{index:02}.jpg",
            mos=float(index),
            group=str(index // per_group),
            part=parts[index % len(parts)],
        )
        for index in range(count)
    )
    return Dataset(scale=Scale(dataset="made-up", min=0, max=count), samples=samples)


def test_splits_are_seeded_and_independent_of_order(tmp_path: Path) -> None:
    dataset = made_up()
    split = splits.make(dataset, test_share=0.2, validation_share=0.25, seed=1)
    assert (len(split.train), len(split.validation), len(split.test)) == (11, 5, 4)
    shuffled = Dataset(scale=dataset.scale, samples=dataset.samples[::-1])
    assert splits.make(shuffled, test_share=0.2, validation_share=0.25, seed=1) == split
    assert splits.make(dataset, test_share=0.2, validation_share=0.25, seed=2) != split
    (tmp_path / "split.json").write_text(splits.dump(split))
    assert splits.load(tmp_path / "split.json") == split
    assert [sample.name for sample in splits.select(dataset, split.test)] == list(split.test)


def test_groups_are_not_torn_apart() -> None:
    split = splits.make(made_up(per_group=5), validation_share=0.25, test_share=0.25, seed=0)
    assert [len(names) for names in (split.train, split.validation, split.test)] == [10, 5, 5]
    for names in (split.train, split.validation, split.test):
        assert len({int(name[:2]) // 5 for name in names}) == len(names) // 5


def test_official_parts_are_taken_as_they_are() -> None:
    dataset = made_up(parts=("train", "validation", "test", "train"))
    split = splits.make(dataset, kind="official", seed=0)
    assert (len(split.train), len(split.validation), len(split.test)) == (10, 5, 5)


def test_an_official_split_without_validation_draws_it_from_training() -> None:
    dataset = made_up(parts=("train", "test"))
    split = splits.make(dataset, kind="official", validation_share=0.2, seed=0)
    assert (len(split.train), len(split.validation), len(split.test)) == (8, 2, 10)
    with pytest.raises(DatasetError, match="no official split"):
        splits.make(made_up(), kind="official", seed=0)


def test_folds_test_every_picture_once() -> None:
    dataset = made_up(22, per_group=2)
    folds = [splits.make(dataset, kind="folds", fold=(number, 5), seed=3) for number in range(5)]
    assert sorted(name for split in folds for name in split.test) == sorted(one.name for one in dataset.samples)
    for split in folds:
        assert not split.validation
        assert {*split.train, *split.test} == {one.name for one in dataset.samples}
        assert len(split.test) in (4, 6)
    assert splits.make(dataset, kind="folds", fold=(0, 5), seed=4) != folds[0]
    with pytest.raises(DatasetError, match="too few for 12 folds"):
        splits.make(dataset, kind="folds", fold=(0, 12), seed=3)


def test_folds_leave_an_official_test_part_alone() -> None:
    dataset = made_up(parts=("train", "test"))
    split = splits.make(dataset, kind="folds", fold=(1, 5), seed=3)
    assert (len(split.train), len(split.test)) == (8, 2)
    assert all(sample.part == "train" for sample in splits.select(dataset, [*split.train, *split.test]))


def test_part_of_the_training_pictures() -> None:
    whole = splits.make(made_up(), test_share=0.2, validation_share=0.2, seed=0)
    part = splits.make(made_up(), test_share=0.2, validation_share=0.2, train_share=0.5, seed=0)
    assert len(part.train) == 6
    assert set(part.train) < set(whole.train)
    assert (part.validation, part.test) == (whole.validation, whole.test)


def test_a_split_of_a_file_must_not_leak_a_group(tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    file.write_text(splits.dump(Split(dataset="made-up", train=("00.jpg", "01.jpg"), test=("02.jpg",))))
    recipe = Recipe(network="smart-mobile", dataset="csv")
    with pytest.raises(DatasetError, match=r"leaks: 0[01]\.jpg \(train\) and 02\.jpg \(test\)"):
        splits.of(recipe, made_up(per_group=3), file)
    assert splits.of(recipe, made_up(per_group=2), file)[0].test == ("02.jpg",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"train": ["a.jpg"], "validation": ["a.jpg"], "test": []}, "leaks: a.jpg"),
        ({"train": ["a.jpg"], "validation": [], "test": ["a.jpg"]}, "leaks: a.jpg"),
        ({"train": [], "validation": ["a.jpg"], "test": []}, "nothing to train"),
        ({"train": ["a.jpg"]}, "not a split file"),
    ],
)
def test_bad_splits(tmp_path: Path, content: dict[str, list[str]], words: str) -> None:
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"dataset": "made-up", **content}))
    with pytest.raises(DatasetError, match=words):
        splits.load(file)


def test_splits_that_cannot_be_made() -> None:
    with pytest.raises(DatasetError, match="lacks"):
        splits.select(made_up(), ("other.jpg",))
    with pytest.raises(DatasetError, match="too few"):
        splits.make(made_up(2), test_share=0.1, validation_share=0.5, seed=0)
