"""Agreement of predictions with mean opinion scores."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well predictions follow labels.

    Attributes:
        srcc: Spearman's rank correlation.
        plcc: Pearson's linear correlation of the raw values.
        rmse: Root mean squared error, in units of the labels.
        mae: Mean absolute error, in units of the labels.
    """

    srcc: float
    plcc: float
    rmse: float
    mae: float

    def to_dict(self) -> dict[str, float]:
        """All figures by name, rounded to four decimals."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def measure(predictions: Sequence[float], labels: Sequence[float]) -> Agreement:
    """Compare predictions with labels on the same scale."""
    errors = np.asarray(predictions) - np.asarray(labels)
    return Agreement(
        srcc=float(stats.spearmanr(predictions, labels).statistic),
        plcc=float(stats.pearsonr(predictions, labels).statistic),
        rmse=float(np.sqrt(np.mean(errors**2))),
        mae=float(np.mean(np.abs(errors))),
    )
