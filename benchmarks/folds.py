"""Accuracy and intervals by source of the photos, over the folds of a cross-validation: ``python -m benchmarks.folds``.

    python -m benchmarks.folds runs/folds

reads the predictions of a finished sweep over folds, prints tables and writes ``benchmarks/results/folds.json``. The
intervals of each fold are calibrated on the other folds, as those of a checkpoint are on photos that it was not trained
on.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from model import checkpoint
from model.contract import Contract
from training import intervals, recipe, sweep_results
from training.correlation import measure
from training.evaluator import PREDICTIONS
from training.run import CHECKPOINT, RECIPE, evaluation_folder

RESULTS = Path(__file__).parent / "results" / "folds.json"


def main() -> None:
    """Read, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folds", type=Path, help="folder of the finished sweep")
    arguments = parser.parse_args()
    rows = sweep_results.read(arguments.folds)
    folders = [arguments.folds / row["folder"] for row in rows]
    tables = [
        pd.read_csv(evaluation_folder(folder, "test") / PREDICTIONS, dtype={"name": str, "source": str})
        for folder in folders
    ]
    unscored = recipe.load(folders[0] / RECIPE).unscored
    contract = checkpoint.inspect(folders[0] / CHECKPOINT)[0].contract
    report: dict[str, Any] = {"folds": len(tables), "unscored": unscored, "accuracy": accuracy(tables, unscored)}
    if contract.interval is not None:
        report["intervals"] = coverage(tables, contract)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for title in ("accuracy", "intervals"):
        print(pd.DataFrame(report.get(title, [])).to_string(index=False), end="\n\n")


def accuracy(tables: list[pd.DataFrame], unscored: tuple[str, ...]) -> list[dict[str, Any]]:
    """Mean figures over the folds: of each source, of all whose labels taught the score, and of all."""
    sources = sorted({*pd.concat(tables)["source"]})
    scored = [source for source in sources if source not in unscored]
    groups = {**{source: [source] for source in sources}, "scored": scored, "all": sources}
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


def coverage(tables: list[pd.DataFrame], contract: Contract) -> list[dict[str, Any]]:
    """Share of the labels within the intervals and mean width in points: of each fold, and of each source."""
    judged = [
        _within(table, pd.concat([other for other in tables if other is not table]), contract) for table in tables
    ]
    together = pd.concat(judged)
    parts = {f"fold {place}": table for place, table in enumerate(judged)}
    parts |= {source: together[together["source"] == source] for source in sorted({*together["source"]})}
    parts["all"] = together
    return [
        {
            "photos of": name,
            "photos": len(part),
            "coverage": round(float(part["within"].mean()), 4),
            "below": round(float(part["below"].mean()), 4),
            "above": round(float(part["above"].mean()), 4),
            "width": round(float(part["width"].mean()), 1),
        }
        for name, part in parts.items()
    ]


def _within(table: pd.DataFrame, others: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Whether labels lie within intervals that were calibrated on other photos."""
    assert contract.interval is not None
    names = [f"interval{number}" for number in range(1, contract.interval.columns + 1)]

    def numbers(rows: pd.DataFrame) -> tuple[Any, Any, Any]:
        outputs, labels = (
            (rows[name].to_numpy() - contract.intercept) / contract.slope for name in ("prediction", "mos")
        )
        return outputs, rows[names].to_numpy(), labels

    interval = intervals.calibrate(contract.interval, *numbers(others))
    outputs_N, columns_NK, _ = numbers(table)
    ends_N2 = np.array(
        [interval.around(one, row, outside=False) for one, row in zip(outputs_N, columns_NK, strict=True)]
    )
    raw_N2 = np.sort(contract.slope * ends_N2 + contract.intercept, axis=1).clip(contract.scale.min, contract.scale.max)
    mos_N = table["mos"].to_numpy()
    return pd.DataFrame(
        {
            "source": table["source"],
            "below": mos_N < raw_N2[:, 0],
            "above": mos_N > raw_N2[:, 1],
            "within": (mos_N >= raw_N2[:, 0]) & (mos_N <= raw_N2[:, 1]),
            "width": 100 * np.diff(raw_N2, axis=1)[:, 0] / (contract.scale.max - contract.scale.min),
        }
    )


if __name__ == "__main__":
    main()
