"""Cost and accuracy of ``crops=auto`` against fixed numbers of crops, on photos that a checkpoint was not trained on.

Every crop that any plan needs is scored once; the plans are then computed from those scores, ``auto`` by the code of
the service. It prints a table and writes ``benchmarks/results/crop_rounds.json``.

    srcc     rank correlation with the human scores, of all photos and of every other one (how much of it is chance)
    +-srcc   srcc less that of the checkpoint's own number of crops, 95 % interval over resampled photos
    crops    mean per photo, which is what a plan costs on a busy device
    batches  mean per photo of the batches of 8 that it takes alone, one round after the other
    |own|    difference from the checkpoint's own number of crops in points of 100: mean, and what 95 % stay below
    |25|     mean difference from 25 crops
    ms       of fixed numbers of crops: what the engine takes for a picture that comes alone, median

Rows such as ``first 4`` are fixed numbers of crops in the order of ``auto``, without its stopping rule.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy import stats

from model import crop_rounds
from model.contract import Contract
from model.crop_rounds import AUTO, FIRST_ROUND, CropRounds, Crops
from model.options import DEFAULT_CHECKPOINT
from model.scorer import Scorer
from model.views import Views
from training import datasets, evaluator
from training.datasets import Sample

RESULTS = Path(__file__).parent / "results" / "crop_rounds.json"
FIXED = (1, 2, 4, 6, 9, 16, 25)
TOLERANCES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
PREFIXES = (FIRST_ROUND, 2 * FIRST_ROUND)
GROUP = 8
"""Photos whose crops are packed into common batches."""
BATCH = 8
RESAMPLES = 1000
TIMED = 15
"""Pictures that each fixed number of crops is timed with, by turns."""

Scores = dict[str, list[tuple[float, int, int]]]
"""Of each plan, for each photo: the raw score in points of 100, crops, and batches of its rounds."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set the checkpoint learned on")
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_CHECKPOINT)
    parser.add_argument("--photos", type=int, help="only so many, to try the program")
    arguments = parser.parse_args()
    scorer = Scorer.load(arguments.checkpoint)
    name = datasets.recognise(arguments.data) or "csv"
    data = datasets.read(name, arguments.data, datasets.learned_column(scorer.checkpoint.contract.scale, name))
    part, samples = evaluator.choose(scorer.checkpoint, data, "auto", None)
    samples = samples[: arguments.photos]
    scores: Scores = {}
    for views, rows in scored(scorer, samples):
        for plan, result in plans(views, rows, scorer.checkpoint.contract):
            scores.setdefault(plan, []).append(result)
    table = measured(scores, np.array([sample.mos for sample in samples]), scorer.checkpoint.contract.crops)
    for plan, milliseconds in timed(scorer, samples).items():
        table[plan]["ms"] = milliseconds
    report = {
        "checkpoint": scorer.checkpoint.digest,
        "photos": f"{len(samples)}, {name} {part}",
        "crops": scorer.checkpoint.contract.crops,
        "tolerance": crop_rounds.TOLERANCE,
        "plans": table,
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(table)


def scored(scorer: Scorer, samples: Sequence[Sample]) -> Iterator[tuple[dict[int, Views], dict[bytes, float]]]:
    """Score the crops of all fixed plans of each photo; gives the plans, and the output for each crop's pixels."""
    contract = scorer.checkpoint.contract
    for start in track(range(0, len(samples), GROUP), "scoring"):
        group = []
        for sample in samples[start : start + GROUP]:
            picture = contract.decode(sample.path.read_bytes())
            pixels_HWC = np.asarray(contract.resized(picture))
            group.append({n: contract.cut(pixels_HWC, picture.facts.size, n) for n in {*FIXED, contract.crops}})
        crops = [{crop.tobytes(): crop for views in cut.values() for crop in views.items} for cut in group]
        rows = scorer.engine.predict_all([np.stack(list(one.values())) for one in crops])
        for cut, one, rows_ND in zip(group, crops, rows, strict=True):
            yield cut, dict(zip(one, rows_ND[:, 0].tolist(), strict=True))


def timed(scorer: Scorer, samples: Sequence[Sample]) -> dict[str, float]:
    """Milliseconds of the engine for each fixed number of crops."""
    contract = scorer.checkpoint.contract
    took: dict[str, list[float]] = {}
    for sample in samples[:TIMED]:
        picture = contract.decode(sample.path.read_bytes())
        for count in sorted({*FIXED, contract.crops}):
            items = contract.views(picture, count).items
            started = time.perf_counter()
            scorer.engine.predict(items)
            took.setdefault(f"{count}", []).append(time.perf_counter() - started)
    return {plan: round(1000 * statistics.median(seconds), 1) for plan, seconds in took.items()}


def plans(
    cut: dict[int, Views], rows: dict[bytes, float], contract: Contract
) -> Iterator[tuple[str, tuple[float, int, int]]]:
    """The score of a photo by each plan."""
    for count in sorted(cut):
        yield f"{count}", played(cut[count], rows, contract, count)
    own = cut[contract.crops]
    order = crop_rounds.spread_out(own.boxes)
    for count in PREFIXES:
        first = list(order[:count])
        views = Views(items=own.items[first], boxes=tuple(own.boxes[place] for place in first), warnings=())
        yield f"first {count}", played(views, rows, contract, count)
    served = crop_rounds.TOLERANCE
    for tolerance in TOLERANCES:
        crop_rounds.TOLERANCE = tolerance
        yield f"auto {tolerance:g}", played(own, rows, contract, AUTO)
    crop_rounds.TOLERANCE = served


def played(views: Views, rows: dict[bytes, float], contract: Contract, crops: Crops) -> tuple[float, int, int]:
    """Run the rounds of a plan with crop scores computed before."""
    rounds = CropRounds(views, contract, crops)
    batches = 0
    while (items := rounds.items) is not None:
        rounds.add(np.array([[rows[crop.tobytes()]] for crop in items], np.float32))
        batches += math.ceil(len(items) / BATCH)
    rows_ND, boxes = rounds.scored()
    raw = float(contract.raw(rows_ND[:, 0].astype(np.float64)).mean())
    return contract.scale.to_percent(raw), len(boxes), batches


def measured(scores: Scores, mos_N: NDArray[np.float64], own: int) -> dict[str, dict[str, Any]]:
    """The figures of each plan."""
    points = {plan: np.array([score for score, _, _ in results]) for plan, results in scores.items()}
    table = {}
    for plan, results in scores.items():
        away_N = np.abs(points[plan] - points[str(own)])
        crops = [crops for _, crops, _ in results]
        table[plan] = {
            "srcc": round(srcc(points[plan], mos_N), 4),
            "srcc_halves": [round(srcc(points[plan][half::2], mos_N[half::2]), 4) for half in (0, 1)],
            "srcc_difference": difference(points[plan], points[str(own)], mos_N),
            "plcc": round(float(stats.pearsonr(points[plan], mos_N).statistic), 4),
            "crops": round(float(np.mean(crops)), 2),
            "batches": round(float(np.mean([batches for _, _, batches in results])), 2),
            "from_own": round(float(away_N.mean()), 3),
            "from_own_95": round(float(np.percentile(away_N, 95)), 2),
            "from_own_most": round(float(away_N.max()), 2),
            "from_25": round(float(np.abs(points[plan] - points["25"]).mean()), 3),
            "shares": {count: round(crops.count(count) / len(crops), 3) for count in sorted(set(crops))},
        }
    return table


def srcc(points_N: NDArray[np.float64], mos_N: NDArray[np.float64]) -> float:
    """Spearman's rank correlation."""
    return float(stats.spearmanr(points_N, mos_N).statistic)


def difference(
    points_N: NDArray[np.float64], own_N: NDArray[np.float64], mos_N: NDArray[np.float64]
) -> tuple[float, float]:
    """The 95 % bootstrap interval of a difference of rank correlations, over the same photos."""
    rng = np.random.default_rng(0)
    draws = (rng.integers(0, len(mos_N), len(mos_N)) for _ in range(RESAMPLES))
    found = [srcc(points_N[draw], mos_N[draw]) - srcc(own_N[draw], mos_N[draw]) for draw in draws]
    low, high = np.percentile(found, [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def show(table: dict[str, dict[str, Any]]) -> None:
    """Print the figures."""
    print(
        "plan        srcc    halves          +-srcc             plcc   crops  batches  |own| mean, 95 %  |25|",
        "     ms",
    )
    for plan, row in table.items():
        halves = " ".join(f"{value:.4f}" for value in row["srcc_halves"])
        low, high = row["srcc_difference"]
        print(
            f"{plan:9} {row['srcc']:7.4f}  {halves}  {low:+.4f} {high:+.4f}  {row['plcc']:7.4f}  {row['crops']:6.2f}"
            f"  {row['batches']:7.2f}  {row['from_own']:10.2f} {row['from_own_95']:6.2f}  {row['from_25']:5.2f}"
            f"  {row.get('ms', ''):>7}"
        )


if __name__ == "__main__":
    main()
