"""Splits into training, validation and test pictures, drawn from a seed and kept as JSON by file name."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

from training.datasets import Dataset, DatasetError, Part, Sample, base_name
from training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Split:
    """Names of training, validation and test pictures; validation or test may be empty.

    Raises:
        DatasetError: A picture is in two parts, or there is nothing to train on.
    """

    dataset: str
    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = {"training": set(self.train), "validation": set(self.validation), "test": set(self.test)}
        for one, other in (("training", "validation"), ("training", "test"), ("validation", "test")):
            if shared := parts[one] & parts[other]:
                raise DatasetError(f"the split leaks: {min(shared)} is in {one} and in {other}")
        if not self.train:
            raise DatasetError("the split leaves nothing to train on")

    def names(self, part: Part) -> tuple[str, ...]:
        """The names of one part."""
        return cast("tuple[str, ...]", getattr(self, part))


def make(
    dataset: Dataset,
    *,
    kind: Literal["random", "official", "folds"] = "random",
    test_share: float = 0.0,
    validation_share: float = 0.2,
    train_share: float = 1.0,
    fold: tuple[int, int] = (0, 5),
    seed: int,
) -> Split:
    """Make a split: the same for the same pictures, shares and seed. Groups are never torn apart.

    Args:
        dataset: The pictures.
        kind: ``random`` draws all parts, ``official`` takes the data set's own, ``folds`` is cross-validation.
        test_share: Share of the groups to draw for testing; official splits bring their own.
        validation_share: Share of the groups to draw for validation; of an official split that has none, of its
            training groups.
        train_share: Share of what is left to keep for training.
        fold: For folds: the number of the one to test on, from 0, and how many there are. They divide the official
            training pictures, if the data set has an official split.
        seed: Seed of all draws.

    Raises:
        DatasetError: There is no official split, or it leaks, or a part that was asked for is empty.
    """
    samples = dataset.samples
    rng = random.Random(seed)
    if kind == "official":
        parts: dict[Part, list[Sample]] = {part: [] for part in ("train", "validation", "test")}
        for sample in samples:
            if sample.part:
                parts[sample.part].append(sample)
        if not parts["train"]:
            raise DatasetError(f"{dataset.scale.dataset} has no official split; use split = 'random'")
        train, validation, test = parts["train"], parts["validation"], parts["test"]
        if not validation and validation_share:
            train, validation = _cut(train, validation_share, rng)
    elif kind == "folds":
        number, count = fold
        pool = [sample for sample in samples if sample.part == "train"] or list(samples)
        groups = _shuffled(pool, rng)
        if len(groups) < count:
            raise DatasetError(f"{len(groups)} groups of pictures are too few for {count} folds")
        test = _members(pool, groups[number::count])
        train = _members(pool, [group for place, group in enumerate(groups) if place % count != number])
        validation = []
    else:
        groups = _shuffled(samples, rng)
        tested, validated = round(len(groups) * test_share), round(len(groups) * validation_share)
        if (test_share and not tested) or (validation_share and not validated):
            raise DatasetError(f"{len(groups)} groups of pictures are too few for the shares of the split")
        test = _members(samples, groups[:tested])
        validation = _members(samples, groups[tested : tested + validated])
        train = _members(samples, groups[tested + validated :])
    if train_share < 1:
        _, train = _cut(train, train_share, rng)
    split = Split(dataset=base_name(dataset), train=_names(train), validation=_names(validation), test=_names(test))
    check_groups(dataset, split)
    return split


def of(recipe: Recipe, dataset: Dataset, file: Path | None = None) -> tuple[Split, str]:
    """The split of a run, from a file or by its recipe, and its origin in words.

    Raises:
        DatasetError: As for ``make`` and ``load``, or the file's split leaks.
    """
    if file is not None:
        split = load(file)
        check_groups(dataset, split)
        return split, "a split that was given"
    split = make(
        dataset,
        kind=recipe.split,
        test_share=recipe.test_share,
        validation_share=recipe.validation_share,
        train_share=recipe.train_share,
        fold=(recipe.fold, recipe.folds),
        seed=recipe.seed,
    )
    if recipe.split == "folds":
        return split, f"fold {recipe.fold} of {recipe.folds} (counted from 0, drawn with seed {recipe.seed})"
    official = f"the official split (what it leaves open drawn with seed {recipe.seed})"
    return split, official if recipe.split == "official" else f"a random split with seed {recipe.seed}"


def check_groups(dataset: Dataset, split: Split) -> None:
    """Make sure that no reference picture or prompt is on two sides of a split.

    Raises:
        DatasetError: A group is on two sides.
    """
    groups = {sample.name: sample.group for sample in dataset.samples}
    places: dict[str, tuple[str, str]] = {}
    for part in ("train", "validation", "test"):
        for name in split.names(part):
            group = groups.get(name, name)
            first, where = places.setdefault(group, (name, part))
            if where != part:
                raise DatasetError(
                    f"the split leaks: {first} ({where}) and {name} ({part}) belong to the same group {group!r}"
                )


def dump(split: Split, *, pictures: str = "") -> str:
    """Write a split as JSON.

    Args:
        split: The split.
        pictures: Hash of labels and pictures (``provenance.Pictures.digest``) to keep beside it; "" for none.
    """
    return json.dumps({**asdict(split), **({"pictures": pictures} if pictures else {})}, indent=0) + "\n"


def pictures_digest(file: Path) -> str:
    """The hash of labels and pictures that is kept with a split; "" for none.

    Raises:
        DatasetError: The file cannot be read or is not a split.
    """
    load(file)
    return str(json.loads(file.read_text(encoding="utf-8")).get("pictures", ""))


def load(file: Path) -> Split:
    """Read a split.

    Raises:
        DatasetError: The file cannot be read or is not a split.
    """
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        parts = {part: tuple(fields[part]) for part in ("train", "validation", "test")}
        return Split(dataset=fields["dataset"], **parts)
    except OSError as error:
        raise DatasetError(f"{file}: {error.strerror}") from error
    except DatasetError as error:
        raise DatasetError(f"{file}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{file}: not a split file: {error}") from error


def select(dataset: Dataset, names: Sequence[str]) -> list[Sample]:
    """Pick samples by name.

    Raises:
        DatasetError: The data set lacks one of them.
    """
    by_name = {sample.name: sample for sample in dataset.samples}
    if absent := [name for name in names if name not in by_name]:
        raise DatasetError(f"the split names {absent[0]} (and {len(absent) - 1} others), which the data set lacks")
    return [by_name[name] for name in names]


def _shuffled(samples: Sequence[Sample], rng: random.Random) -> list[str]:
    groups = sorted({sample.group for sample in samples})
    rng.shuffle(groups)
    return groups


def _members(samples: Sequence[Sample], groups: Sequence[str]) -> list[Sample]:
    wanted = set(groups)
    return [sample for sample in samples if sample.group in wanted]


def _cut(samples: Sequence[Sample], share: float, rng: random.Random) -> tuple[list[Sample], list[Sample]]:
    """Cut off a share of the groups: what is left, and what was cut off."""
    groups = _shuffled(samples, rng)
    count = max(round(len(groups) * share), 1)
    return _members(samples, groups[count:]), _members(samples, groups[:count])


def _names(samples: Sequence[Sample]) -> tuple[str, ...]:
    return tuple(sorted(sample.name for sample in samples))
