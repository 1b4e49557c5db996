"""Agreement of predictions with mean opinion scores."""

import warnings
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import OptimizeWarning, curve_fit

Interval = tuple[float, float]
"""Lower and upper end."""
FIGURES = ("srcc", "krcc", "plcc", "plcc_logistic", "rmse", "mae")


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Correlations and errors of predictions against labels.

    A correlation is 0 where the predictions are all the same.

    Attributes:
        srcc: Spearman's rank correlation.
        krcc: Kendall's rank correlation (tau-b).
        plcc: Pearson's linear correlation of the raw values.
        plcc_logistic: Pearson's correlation after the four-parameter logistic; the raw one where that cannot be fitted.
        rmse: Root mean squared error, in units of the labels.
        mae: Mean absolute error, in units of the labels.
    """

    srcc: float
    krcc: float
    plcc: float
    plcc_logistic: float
    rmse: float
    mae: float

    def to_dict(self) -> dict[str, float]:
        """All figures by name, rounded to four decimals."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def measure(predictions: ArrayLike, labels: ArrayLike) -> Agreement:
    """Compare predictions with labels on the same scale.

    Raises:
        ValueError: There are fewer than two, their numbers differ, or one is not finite.
    """
    x, y = _checked(predictions, labels)
    errors = x - y
    constant = np.ptp(x) == 0 or np.ptp(y) == 0
    return Agreement(
        srcc=0.0 if constant else float(stats.spearmanr(x, y).statistic),
        krcc=0.0 if constant else float(stats.kendalltau(x, y).statistic),
        plcc=0.0 if constant else float(stats.pearsonr(x, y).statistic),
        plcc_logistic=0.0 if constant else float(stats.pearsonr(_mapped(x, y), y).statistic),
        rmse=float(np.sqrt(np.mean(errors**2))),
        mae=float(np.mean(np.abs(errors))),
    )


def logistic(x: NDArray[np.float64], b1: float, b2: float, b3: float, b4: float) -> NDArray[np.float64]:
    """The four-parameter logistic (VQEG, 2003) by which predictions are mapped before PLCC is computed.

    It runs from ``b2`` to ``b1``, is halfway at ``b3`` and has the width ``b4``.
    """
    # tanh does not overflow where exp would.
    return b2 + (b1 - b2) * 0.5 * (1 + np.tanh((x - b3) / (2 * abs(b4))))


def fit_logistic(predictions: ArrayLike, labels: ArrayLike) -> tuple[float, float, float, float] | None:
    """Fit ``logistic`` by least squares; None where that fails, or reverses the order."""
    x, y = _checked(predictions, labels)
    if len(x) < 5:
        return None
    start = (float(y.max()), float(y.min()), float(x.mean()), max(float(x.std()), 1e-9))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)
            found, _ = curve_fit(logistic, x, y, p0=start, maxfev=20_000)
    except RuntimeError:
        return None
    b1, b2, b3, b4 = (float(value) for value in found)
    return (b1, b2, b3, b4) if b4 and b1 > b2 else None


def intervals(
    predictions: ArrayLike, labels: ArrayLike, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Bootstrap confidence intervals of SRCC, PLCC, RMSE and MAE (percentile method).

    Args:
        predictions: Predicted scores.
        labels: Mean opinion scores.
        resamples: Draws with replacement.
        confidence: Share of the draws that an interval holds.
        seed: Same seed, same intervals.

    Returns:
        Intervals by name; none where predictions or labels are all the same.

    Raises:
        ValueError: As for ``measure``.
    """
    x, y = _checked(predictions, labels)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return {}

    def figures(x: NDArray[np.float64], y: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        errors = x - y
        ranked = _correlations(stats.rankdata(x, axis=axis), stats.rankdata(y, axis=axis))
        rmse, mae = np.sqrt(np.mean(errors**2, axis)), np.mean(np.abs(errors), axis)
        return np.array([ranked, _correlations(x, y), rmse, mae])

    with warnings.catch_warnings():
        # A draw of few pictures may repeat a single picture, which has no correlation.
        warnings.simplefilter("ignore", RuntimeWarning)
        drawn = stats.bootstrap(
            (x, y), figures, paired=True, vectorized=True, n_resamples=resamples, batch=100,
            confidence_level=confidence, method="percentile", rng=np.random.default_rng(seed),
        ).bootstrap_distribution  # fmt: skip
    tail = 100 * (1 - confidence) / 2
    low, high = np.nanpercentile(drawn, [tail, 100 - tail], axis=-1)
    names = ("srcc", "plcc", "rmse", "mae")
    return {name: (round(float(a), 4), round(float(b), 4)) for name, a, b in zip(names, low, high, strict=True)}


def _correlations(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's correlation of each row of ``x`` with that of ``y``; not a number where a row is all the same."""
    x, y = (rows - rows.mean(axis=-1, keepdims=True) for rows in (x, y))
    product: NDArray[np.float64] = np.sum(x * y, axis=-1) / np.sqrt(np.sum(x**2, axis=-1) * np.sum(y**2, axis=-1))
    return product


def _mapped(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    parameters = fit_logistic(x, y)
    if parameters is None:
        return x
    mapped = logistic(x, *parameters)
    return mapped if np.ptp(mapped) > 0 else x


def _checked(predictions: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise ValueError(f"predictions {x.shape} and labels {y.shape} must be as many, and two at least")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a prediction or a label is not a number")
    return x, y
