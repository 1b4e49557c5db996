"""Accuracy by source of the photos, over the folds of a cross-validation: ``python -m benchmarks.folds``.

    python -m benchmarks.folds runs/folds

reads the predictions of a finished sweep over folds, prints a table and writes ``benchmarks/results/folds.json``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from training import cross_validation, recipe, sweep_results
from training.correlation import measure
from training.run import RECIPE

RESULTS = Path(__file__).parent / "results" / "folds.json"


def main() -> None:
    """Read, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folds", type=Path, help="folder of the finished sweep")
    arguments = parser.parse_args()
    tables = cross_validation.predictions(arguments.folds)
    first = arguments.folds / sweep_results.read(arguments.folds)[0]["folder"]
    left_out = recipe.load(first / RECIPE).left_out
    rows = accuracy(tables, left_out)
    report = {"folds": len(tables), "left_out": left_out, "accuracy": rows}
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(pd.DataFrame(rows).to_string(index=False))


def accuracy(tables: list[pd.DataFrame], left_out: tuple[str, ...]) -> list[dict[str, Any]]:
    """Mean figures over the folds: of each source, of all that were learned from, and of all."""
    sources = sorted({*pd.concat(tables)["source"]})
    learned = [source for source in sources if source not in left_out]
    groups = {**{source: [source] for source in sources}, "learned": learned, "all": sources}
    rows = []
    for name, members in groups.items():
        parts = [table[table["source"].isin(members)] for table in tables]
        figures = [measure(part["prediction"], part["mos"]) for part in parts]
        srcc, plcc, mae = (np.array([getattr(one, figure) for one in figures]) for figure in ("srcc", "plcc", "mae"))
        rows.append(
            {
                "photos of": name,
                "photos": sum(map(len, parts)),
                **{"srcc": round(srcc.mean(), 4), "srcc_sd": round(srcc.std(ddof=1), 4)},
                **{"plcc": round(plcc.mean(), 4), "mae": round(mae.mean(), 4)},
            }
        )
    return rows


if __name__ == "__main__":
    main()
