"""Accuracy of a student distilled from an ensemble of folds, against training on people's labels alone.

The training photos of a recipe's fold are cut in three. Three teachers learn from two thirds each and score the last
third, so every photo gets an opinion that its own label had no part in. A student then learns the mean of label and
opinion, and is tested on the fold's test photos, with people's labels. The same recipe without teachers is a run of
``smart-iqa train`` with ``--set split=folds --set selection=last``.

    python -m benchmarks.distilled --data BIQ2021 --init mobilenetv2_100.safetensors --out runs/distilled

What is finished in ``--out`` is not done again. ``--teacher 2`` trains that one alone, so that several can be trained
at the same time. The student's labels are kept as ``labels.csv``; its figures are printed last.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from training import datasets, recipe, splits, trainer
from training.datasets import Dataset, Sample
from training.evaluator import EVALUATION, PREDICTIONS
from training.recipe import Recipe
from training.run import evaluation_folder
from training.splits import Split

TEACHERS = 3
OPINION = 0.5
"""Share of the teacher's opinion in what the student learns; the rest is people's label."""


def main() -> None:
    """Train what is missing, and print the student's figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--init", type=Path, required=True, help="first weights of all of them")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--recipe", type=Path, default=Path("smart-mobile-biq2021"))
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of the recipe"
    )
    parser.add_argument("--teacher", type=int, choices=range(TEACHERS), help="train this teacher, and nothing else")
    arguments = parser.parse_args()
    chosen = recipe.load(arguments.recipe, ["split=folds", "selection=last", *arguments.set])
    data = datasets.read(chosen.dataset, arguments.data, chosen.labels)
    whole, _ = splits.of(chosen, data)
    for number, part in enumerate(thirds(whole, chosen.seed)):
        if arguments.teacher in (None, number):
            train(chosen, arguments.data, teacher_folder(arguments.out, number), arguments.init, part)
    if arguments.teacher is not None:
        return
    said = pd.concat(
        pd.read_csv(evaluation_folder(teacher_folder(arguments.out, number), "test") / PREDICTIONS, dtype={"name": str})
        for number in range(TEACHERS)
    )
    labels = arguments.out / "labels.csv"
    blended(data, whole, dict(zip(said["name"], said["prediction"], strict=True)), labels)
    student = replace(chosen, dataset="csv", labels="", split="official", validation_share=0.0)
    train(student, labels, arguments.out / "student", arguments.init)
    file = evaluation_folder(arguments.out / "student", "test") / EVALUATION
    print(json.dumps(json.loads(file.read_text(encoding="utf-8"))["figures"]))


def thirds(whole: Split, seed: int) -> list[Split]:
    """Cut the training photos of a split in three; each part is held out from one teacher."""
    order = np.random.default_rng(seed).permutation(sorted(whole.train))
    parts = [tuple(sorted(map(str, order[number::TEACHERS]))) for number in range(TEACHERS)]
    return [
        Split(
            dataset=whole.dataset,
            train=tuple(sorted(name for other in parts if other is not part for name in other)),
            test=part,
        )
        for part in parts
    ]


def blended(data: Dataset, whole: Split, opinions: dict[str, float], file: Path) -> None:
    """Write what the student learns, and people's own labels of what it is tested on."""

    def rows(part: datasets.Part, samples: Sequence[Sample]) -> list[dict[str, object]]:
        return [
            {
                "path": os.path.relpath(sample.path, file.parent),
                "mos": sample.mos if part == "test" else (1 - OPINION) * sample.mos + OPINION * opinions[sample.name],
                "split": part,
            }
            for sample in samples
        ]

    learned, tested = splits.select(data, whole.train), splits.select(data, whole.test)
    pd.DataFrame(rows("train", learned) + rows("test", tested)).to_csv(file, index=False)


def teacher_folder(out: Path, number: int) -> Path:
    """Run folder of a teacher."""
    return out / f"teacher-{number}"


def train(chosen: Recipe, root: Path, out: Path, init: Path, split: Split | None = None) -> None:
    """Train, unless it is done; a folder that holds another run is refused."""
    file = None
    if split is not None:
        file = out.with_suffix(".split.json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(splits.dump(split), encoding="utf-8")
    trainer.train(chosen, root, out, init=init, split=file, decoders=0, reuse=True)


if __name__ == "__main__":
    main()
