"""Cross-validation: what the runs of a sweep over folds say together.

Every picture is tested once, by the run that was not trained on it. ``smart-iqa sweep`` trains the runs; a recipe that
is then trained on all pictures can carry their figures (``smart-iqa train --folds``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from model import checkpoint
from training import sweep_results
from training.correlation import FIGURES
from training.evaluator import PREDICTIONS
from training.run import CHECKPOINT, evaluation_folder

TIMES = (1, 2, 3)
"""Standard errors that errors are compared with."""
SHARES = (50, 68, 95)
"""Percentages of the pictures whose largest error is told."""


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """Figures of all folds.

    Attributes:
        folds: How many.
        pictures: How many, over all of them.
        mean: Mean of each figure over the folds.
        spread: Standard deviation of each figure over the folds.
        error: Mean absolute error of the scores, in points of 100, over all pictures.
        within: Points that so many of 100 scores (``SHARES``) are off by at most.
        coverage: Shares of the pictures whose error is at most so many (``TIMES``) of the score's own standard errors.
        reach: Standard errors that the errors of 68 and 95 of 100 pictures stay within.
    """

    folds: int
    pictures: int
    mean: Mapping[str, float]
    spread: Mapping[str, float]
    error: float
    within: tuple[float, ...]
    coverage: tuple[float, ...]
    reach: tuple[float, float]

    def figures(self) -> dict[str, float]:
        """What a checkpoint's config keeps of it."""
        return {
            "pictures": float(self.pictures),
            "folds": float(self.folds),
            **{name: round(value, 4) for name, value in self.mean.items()},
            **{f"{name}_sd": round(value, 4) for name, value in self.spread.items()},
            "error_points": round(self.error, 2),
        }


def read(folder: Path) -> CrossValidation:
    """Put the runs of a sweep over folds together.

    Raises:
        ValueError: The folder holds no finished sweep, or its runs do not test every picture once.
    """
    rows = sweep_results.read(folder)
    if len(rows) < 2:
        raise ValueError(f"{folder} holds {len(rows)} finished runs; cross-validation takes two at least")
    tables, points = [], []
    for row in rows:
        run = folder / row["folder"]
        config, _ = checkpoint.inspect(run / CHECKPOINT)
        file = evaluation_folder(run, "test") / PREDICTIONS
        try:
            tables.append(pd.read_csv(file, dtype={"name": str}))
        except OSError as error:
            raise ValueError(f"{file}: {error.strerror}") from error
        points.append(np.abs([config.contract.scale.spread_to_percent(error) for error in tables[-1]["error"]]))
    together = pd.concat(tables)
    twice = together["name"][together["name"].duplicated()]
    if len(twice):
        raise ValueError(f"{folder}: {twice.iloc[0]} is tested twice; these runs are no folds of one data set")
    errors_P = np.concatenate(points)
    sure = together["stderr"].fillna(0).to_numpy() > 0
    times_P = errors_P[sure] / together["stderr"].to_numpy()[sure]
    figures = [sweep_results.judged(row)[1] for row in rows]
    return CrossValidation(
        folds=len(rows),
        pictures=len(together),
        mean={name: float(np.mean([row[name] for row in figures])) for name in FIGURES},
        spread={name: float(np.std([row[name] for row in figures], ddof=1)) for name in FIGURES},
        error=float(errors_P.mean()),
        within=tuple(float(value) for value in np.percentile(errors_P, SHARES)),
        coverage=tuple(float((times_P <= times).mean()) for times in TIMES) if sure.any() else (),
        reach=(float(np.percentile(times_P, 68)), float(np.percentile(times_P, 95))) if sure.any() else (0.0, 0.0),
    )
