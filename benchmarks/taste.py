"""What a few labels of one's own are worth: ``python -m benchmarks.taste CHECKPOINT DATA``.

Photos that the checkpoint was tested on are scored and described. Somebody with a taste labels a few of them, with an
error as of one person; a calibration is fitted, and judged by the taste on all other photos. Tastes are people's mean
opinion with something added:

    dark and warm    the darker and the warmer, the better
    contrast         the more contrast, the better
    nothing new      the model's own score, also its own scale
    other scale      people's mean opinion, on a scale of 1 to 5 of which only the middle is used

Each is repeated with other photos. It prints a table and writes ``benchmarks/results/taste.json``.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy import stats

from model.score import QualityScore
from model.scorer import Scorer
from training import datasets, splits, taste
from training.labels import Labels
from training.run import SPLIT

RESULTS = Path(__file__).parent / "results" / "taste.json"
ERROR = 0.35
"""Error of a label, in standard deviations of the taste: about that of one person who looks twice."""
Vector = NDArray[np.float64]


def main() -> None:
    """Score, fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint that describes pictures, with its split")
    parser.add_argument("data", type=Path, help="folder of the data set")
    parser.add_argument("--labels", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--left-out", action="append", default=["ss02"], help="source whose photos are not used")
    arguments = parser.parse_args()
    scorer = Scorer.load(arguments.checkpoint, device="cpu", precision="fp32")
    split = splits.load(arguments.checkpoint / SPLIT)
    data = datasets.read(split.dataset, arguments.data)
    tested = [one for one in splits.select(data, split.test) if one.source not in arguments.left_out]
    found = [score for _, score in scorer.score_many(sample.path for sample in tested)]
    photos = taste.Photos(
        scores_N=np.array([one.score for one in found if isinstance(one, QualityScore)]),
        descriptions_NK=np.array([[*one.description] for one in found if isinstance(one, QualityScore)]),
        scenes_N=np.arange(len(found)),
    )
    tastes_NT = tastes(np.array([sample.mos for sample in tested]), photos.scores_N, [one.path for one in tested])
    rows = []
    for what, taste_N in tastes_NT.items():
        for kind in ("scores", "thumbs", "pairs"):
            results = [
                once(taste_N, photos, kind, arguments.labels, seed, scale=what) for seed in range(arguments.repeats)
            ]
            before, after, written = np.array(results, float).T
            rows.append(
                {
                    "taste": what,
                    "labels": kind,
                    "SRCC before": round(float(before.mean()), 3),
                    "after": round(float(after.mean()), 3),
                    "written": round(float(written.mean()), 2),
                    "worse by 0.02": int((after < before - 0.02).sum()),
                }
            )
    told = {"checkpoint": scorer.model.name, "digest": scorer.model.digest, "labels": arguments.labels, "rows": rows}
    RESULTS.write_text(json.dumps(told, indent=2) + "\n")
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


def tastes(opinions_N: Vector, scores_N: Vector, files: list[Path]) -> dict[str, Vector]:
    """What somebody of each taste thinks of the photos, in standard deviations."""
    small = [np.asarray(Image.open(file).convert("RGB").reduce(4), np.float64) for file in files]
    light_N = _standard([pixels_HWC.mean() for pixels_HWC in small])
    warm_N = _standard([(pixels_HWC[..., 0] - pixels_HWC[..., 2]).mean() for pixels_HWC in small])
    contrast_N = _standard([pixels_HWC.mean(axis=2).std() for pixels_HWC in small])
    own_N = _standard(opinions_N)
    return {
        "dark and warm": _standard(0.5 * own_N - 0.7 * light_N + 0.7 * warm_N),
        "contrast": _standard(0.5 * own_N + contrast_N),
        "nothing new": _standard(scores_N),
        "other scale": own_N,
    }


def once(
    taste_N: Vector, photos: taste.Photos, kind: str, count: int, seed: int, *, scale: str
) -> tuple[float, float, bool]:
    """Label some photos, and fit; returns the SRCC on the others before and after, and whether anything was written."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(taste_N))
    own, others = order[:count], order[count:]
    told_N = taste_N + ERROR * rng.standard_normal(len(taste_N))
    names = tuple(map(str, range(count)))
    if kind == "scores":
        values, ends = (3 + (0.4 if scale == "other scale" else 0.7) * told_N[own]).clip(1, 5), (1.0, 5.0)
        if scale == "nothing new":
            points_N = photos.scores_N.mean() + photos.scores_N.std() * told_N
            values, ends = points_N[own].clip(0, 100), (0.0, 100.0)
        labels = Labels(kind="scores", photos=names, values=tuple(values.tolist()), scale=ends)
    elif kind == "thumbs":
        up = told_N[own] > np.median(told_N[own])
        labels = Labels(kind="thumbs", photos=names, values=tuple(up.astype(float).tolist()))
    else:
        # As many photos, each in two pairs.
        twice = np.concatenate([rng.permutation(count), rng.permutation(count)]).reshape(-1, 2)
        pairs = [(int(a), int(b)) for a, b in twice if a != b]
        ordered = tuple((a, b) if told_N[own[a]] > told_N[own[b]] else (b, a) for a, b in pairs)
        labels = Labels(kind="pairs", photos=names, pairs=ordered)
    labelled = taste.Photos(
        scores_N=photos.scores_N[own], descriptions_NK=photos.descriptions_NK[own], scenes_N=photos.scenes_N[own]
    )
    made, _ = taste.fit(labels, labelled, name="taste", model="", seed=seed)
    before_N = photos.scores_N[others]
    after_N = before_N if made is None else made.corrected(before_N, photos.descriptions_NK[others])
    before, after = (float(stats.spearmanr(found_N, taste_N[others]).statistic) for found_N in (before_N, after_N))
    return before, after, made is not None


def _standard(values: Vector | list[float]) -> Vector:
    values_N = np.asarray(values, np.float64)
    standard_N: Vector = (values_N - values_N.mean()) / values_N.std()
    return standard_N


if __name__ == "__main__":
    main()
