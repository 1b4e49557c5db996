"""How well a recipe's scores hold on photos from a source that it did not learn from: ``python -m benchmarks.sources``.

    python -m benchmarks.sources --data BIQ2021 --out runs/sources \
        smart-mobile-biq2021=mobilenetv2_100.safetensors smart-lite-biq2021=lite0.safetensors

For each source of the data set, each recipe learns from all photos of the others, and is tested on all of that one.
Sources in ``--left-out`` are not tested on, because their labels say little of quality. The first recipe is what the
others are compared with: differences of SRCC come with 95 % intervals, by the bootstrap over photos. What is finished
in ``--out`` is not done again. It prints a table and writes ``benchmarks/results/sources.json``.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.adaptive import difference
from benchmarks.distilled import train
from training import datasets, recipe
from training.correlation import measure
from training.evaluator import PREDICTIONS
from training.run import evaluation_folder
from training.splits import Split

RESULTS = Path(__file__).parent / "results" / "sources.json"


def main() -> None:
    """Train what is missing, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", metavar="RECIPE=WEIGHTS", help="recipes and their first weights")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--left-out", action="append", default=["ss02"])
    parser.add_argument("--source", help="train for this source, and nothing else, so that several can run at once")
    arguments = parser.parse_args()
    pairs = [pair.partition("=")[::2] for pair in arguments.recipes]
    first = recipe.load(Path(pairs[0][0]))
    data = datasets.read(first.dataset, arguments.data, first.labels)
    sources = sorted({sample.source for sample in data.samples} - {*arguments.left_out})
    rows: list[dict[str, Any]] = []
    for source in sources if arguments.source is None else [arguments.source]:
        predicted = []
        for name, weights in pairs:
            folder = arguments.out / f"{Path(name).stem}-without-{source}"
            learn(name, Path(weights), arguments.data, folder, source)
            table = pd.read_csv(evaluation_folder(folder, "test") / PREDICTIONS, dtype={"name": str})
            predicted.append(table["prediction"].to_numpy())
            figures = measure(predicted[-1], table["mos"])
            row = {"left out": source, "photos": len(table), "recipe": name}
            row |= {"srcc": round(figures.srcc, 4), "plcc": round(figures.plcc, 4)}
            if len(predicted) > 1:
                low, high = difference(predicted[-1], predicted[0], table["mos"].to_numpy())
                row |= {"more than the first, from": low, "to": high}
            rows.append(row)
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, na_rep=""))
    if arguments.source is None:
        RESULTS.write_text(json.dumps({"rows": rows}, indent=2) + "\n", encoding="utf-8")


def learn(name: str, weights: Path, root: Path, folder: Path, source: str) -> None:
    """Train a recipe on all sources but one, unless that is done."""
    chosen = replace(recipe.load(Path(name)), selection="last", validation_share=0.0)
    data = datasets.read(chosen.dataset, root, chosen.labels)
    split = Split(
        dataset=chosen.dataset,
        train=tuple(sample.name for sample in data.samples if sample.source != source),
        test=tuple(sample.name for sample in data.samples if sample.source == source),
    )
    train(chosen, root, folder, weights, split)


if __name__ == "__main__":
    main()
