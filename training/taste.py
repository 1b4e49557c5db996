"""Fits a calibration: a correction of a model's scores by a few labels of one's own.

Labels are scores, thumbs or pairs. Two corrections are tried: a rising line from the model's scores to the labels,
which changes no order; and points for each number of the description, kept small by a ridge. Each must beat what is
simpler, in cross-validation and by a paired test, or it is not taken.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from model.calibration import Calibration
from training.labels import LEAST, Labels

Vector = NDArray[np.float64]

FOLDS, REPEATS = 5, 4
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
"""Strengths of the ridge that are tried, for each label."""
KNOTS = 5
"""Points of the line, at most."""
RESAMPLES = 1000
SURE = 0.025
"""Share of the resamples in which the correction may be no better."""
COVERAGE = 0.9


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a correction is worth, by cross-validation.

    Attributes:
        what: The correction, in words.
        measure: What is measured, in words.
        before: Without it.
        after: With it.
        low: Lower end of the 95 % interval of the gain; the correction is worth something if it is above 0.
        high: Upper end.
    """

    what: str
    measure: str
    before: float
    after: float
    low: float
    high: float

    @property
    def helps(self) -> bool:
        """Whether the correction is worth something."""
        return self.low > 0

    def to_dict(self) -> dict[str, Any]:
        """The trial as a JSON object."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in vars(self).items()}


@dataclass(frozen=True, kw_only=True)
class Photos:
    """The labelled photos as the model sees them.

    Attributes:
        scores_N: Its scores.
        descriptions_NK: Its descriptions.
    """

    scores_N: Vector
    descriptions_NK: NDArray[np.float64]


def fit(
    labels: Labels, photos: Photos, *, name: str, model: str, seed: int = 0
) -> tuple[Calibration | None, list[Trial]]:
    """Fit a calibration, if one helps.

    Args:
        labels: The labels.
        photos: Their photos, in their order.
        name: Name of the calibration.
        model: Digest of the checkpoint.
        seed: Seed of folds and resamples.

    Returns:
        The calibration, or None where the labels say nothing new; and what was tried.
    """
    rng = np.random.default_rng(seed)
    targets_N = _targets(labels)
    fitted, trials = _plain(photos), []
    outside_N = photos.scores_N
    for what, make in (("a line from score to score", _line), ("points for what the photo is like", _head)):
        if what.startswith("a line") and labels.kind != "scores":
            continue  # Thumbs and pairs have no scale.
        found_N = _cross_validated(labels, photos, targets_N, make, rng)
        trial = _compare(what, labels, targets_N, outside_N, found_N, rng)
        trials.append(trial)
        if trial.helps:
            fitted, outside_N = make(labels, photos, targets_N, np.arange(len(labels))), found_N
    if not any(trial.helps for trial in trials):
        return None, trials
    width = None
    if labels.kind == "scores":
        errors_N = np.sort(np.abs(targets_N - outside_N))
        place = min(int(np.ceil((len(errors_N) + 1) * COVERAGE)), len(errors_N)) - 1
        width = round(float(errors_N[place]), 2)
    about = {"labels": labels.kind, "count": len(labels), "trials": [trial.to_dict() for trial in trials]}
    made = Calibration(
        name=name,
        model=model,
        knots=fitted.knots,
        weights=fitted.weights,
        centre=fitted.centre,
        width=width,
        about=about,
    )
    return made, trials


@dataclass(frozen=True, kw_only=True)
class _Correction:
    knots: tuple[tuple[float, float], ...]
    weights: tuple[float, ...] = ()
    centre: tuple[float, ...] = ()

    def __call__(self, photos: Photos) -> Vector:
        own = Calibration(name="", model="", knots=self.knots, weights=self.weights, centre=self.centre)
        return own.corrected(photos.scores_N, photos.descriptions_NK)


_Make = Callable[[Labels, Photos, Vector, NDArray[np.intp]], _Correction]
"""Fits a correction to the labels at some places."""


def _plain(_: Photos) -> _Correction:
    return _Correction(knots=((0.0, 0.0), (100.0, 100.0)))


def _targets(labels: Labels) -> Vector:
    """Labels of photos in points of 100; of pairs, 1 for each."""
    if labels.kind == "pairs":
        return np.ones(len(labels))
    low, high = labels.scale
    return 100 * (np.array(labels.values) - low) / (high - low)


def _line(_: Labels, photos: Photos, targets_N: Vector, places: NDArray[np.intp]) -> _Correction:
    """A rising line through means of the labels at a few places of the score."""
    scores, targets = photos.scores_N[places], targets_N[places]
    order = np.argsort(scores, kind="stable")
    parts = np.array_split(order, min(KNOTS, len(order) // 4))
    starts = np.array([scores[part].mean() for part in parts])
    ends = optimize.isotonic_regression(
        [targets[part].mean() for part in parts], weights=[len(part) for part in parts]
    ).x
    # Beyond the outermost means the line goes on with the slope of all.
    slope = max(float(stats.linregress(starts, ends).slope), 0.0) if len({*starts}) > 1 else 0.0
    points = {
        0.0: ends[0] - slope * starts[0],
        **dict(zip(starts, ends, strict=True)),
        100.0: ends[-1] + slope * (100 - starts[-1]),
    }
    rising = np.maximum.accumulate([points[start] for start in sorted(points)])
    knots = zip(sorted(points), rising, strict=True)
    return _Correction(knots=tuple((round(float(start), 4), round(float(end), 4)) for start, end in knots))


def _head(labels: Labels, photos: Photos, targets_N: Vector, places: NDArray[np.intp]) -> _Correction:
    """The score's line with points for each number of the description, by a ridge whose strength is cross-validated."""
    features_NF = np.column_stack([photos.scores_N / 10, photos.descriptions_NK])
    used = _photos_of(labels, places)
    centre_F = features_NF[used].mean(axis=0)
    rows_LF = _rows(labels, features_NF - centre_F, places)
    learn = _ridge if labels.kind == "scores" else _logistic
    answers = targets_N[places] if labels.kind == "scores" else np.ones(len(places))
    if labels.kind == "thumbs":
        # As pairs of each good photo with each bad one: what a thumb is worth is their order.
        good, bad = (np.flatnonzero(targets_N[places] == end) for end in (100.0, 0.0))
        rows_LF = (rows_LF[good][:, None] - rows_LF[bad][None]).reshape(-1, rows_LF.shape[1])
        answers = np.ones(len(rows_LF))
    strength = _best_ridge(learn, rows_LF, answers)
    slopes_F, offset = learn(rows_LF, answers, strength)
    if labels.kind != "scores":
        # Only the order was learned: it gets the mean and the spread of the model's own scores.
        found_N = (features_NF[used] - centre_F) @ slopes_F
        slopes_F = slopes_F * float(photos.scores_N[used].std() / max(found_N.std(), 1e-9))
        offset = float(photos.scores_N[used].mean())
    slope, weights_K = float(slopes_F[0]) / 10, slopes_F[1:]
    at = 10 * float(centre_F[0])
    if slope <= 0:
        # What is liked does not follow the score at all: it counts nothing.
        slope = 0.0
    knots = tuple((edge, round(offset + slope * (edge - at), 4)) for edge in (0.0, 100.0))
    rounded = (tuple(round(float(one), 5) for one in values) for values in (weights_K, centre_F[1:]))
    weights, centre = rounded
    return _Correction(knots=knots, weights=weights, centre=centre)


def _rows(labels: Labels, features_NF: NDArray[np.float64], places: NDArray[np.intp]) -> NDArray[np.float64]:
    """What each label is predicted from: its photo, or the difference of its two."""
    if labels.kind != "pairs":
        return features_NF[places]
    better, worse = np.array(labels.pairs)[places].T
    leads_LF: NDArray[np.float64] = features_NF[better] - features_NF[worse]
    return leads_LF


def _photos_of(labels: Labels, places: NDArray[np.intp]) -> NDArray[np.intp]:
    return places if labels.kind != "pairs" else np.unique(np.array(labels.pairs)[places])


def _ridge(rows_LF: NDArray[np.float64], answers_L: Vector, strength: float) -> tuple[Vector, float]:
    """Least squares with a ridge on all but the score."""
    penalty = np.diag([1e-3, *[1.0] * (rows_LF.shape[1] - 1)]) * strength * len(rows_LF)
    mean_F, offset = rows_LF.mean(axis=0), float(answers_L.mean())
    centred = rows_LF - mean_F
    slopes_F = np.linalg.solve(centred.T @ centred + penalty, centred.T @ (answers_L - offset))
    return slopes_F, offset - float(mean_F @ slopes_F)


def _logistic(rows_LF: NDArray[np.float64], _: Vector, strength: float) -> tuple[Vector, float]:
    """Logistic regression of differences, all of which are won, with a ridge on all but the score."""
    penalty_F = np.array([1e-3, *[1.0] * (rows_LF.shape[1] - 1)]) * strength / 10

    def loss(slopes_F: Vector) -> tuple[float, Vector]:
        odds_L = rows_LF @ slopes_F
        value = float(np.logaddexp(0, -odds_L).mean() + penalty_F @ slopes_F**2)
        slope_F = -(rows_LF / (1 + np.exp(odds_L.clip(-50, 50)))[:, None]).mean(axis=0) + 2 * penalty_F * slopes_F
        return value, slope_F

    found: Any = optimize.minimize(loss, np.zeros(rows_LF.shape[1]), jac=True, method="L-BFGS-B")
    slopes_F: Vector = found.x
    return slopes_F, 0.0


def _best_ridge(
    learn: Callable[[NDArray[np.float64], Vector, float], tuple[Vector, float]],
    rows_LF: NDArray[np.float64],
    answers_L: Vector,
) -> float:
    """The strength with the least error in cross-validation; the strongest of equal ones."""
    parts = np.array_split(np.random.default_rng(0).permutation(len(rows_LF)), FOLDS)
    errors = []
    for strength in RIDGES[::-1]:
        total = 0.0
        for part in parts:
            others = np.setdiff1d(np.arange(len(rows_LF)), part)
            slopes_F, offset = learn(rows_LF[others], answers_L[others], strength)
            found = rows_LF[part] @ slopes_F
            wrong = np.logaddexp(0, -found) if learn is _logistic else (found + offset - answers_L[part]) ** 2
            total += float(wrong.sum())
        errors.append(total)
    return RIDGES[::-1][int(np.argmin(errors))]


def _cross_validated(
    labels: Labels, photos: Photos, targets_N: Vector, make: _Make, rng: np.random.Generator
) -> Vector:
    """Corrected scores of all photos by corrections that were not fitted on them, the mean of several repeats."""
    count = len(photos.scores_N)
    total_N = np.zeros(count)
    for _ in range(REPEATS):
        fold_N = rng.permutation(np.arange(count) % FOLDS)
        for fold in range(FOLDS):
            places = np.arange(len(labels))
            own = fold_N == fold
            held = own[np.array(labels.pairs)].any(axis=1) if labels.kind == "pairs" else own
            learned = places[~held]
            usable = len(learned) >= LEAST // 2 and (labels.kind != "thumbs" or len({*targets_N[learned]}) == 2)
            correction = make(labels, photos, targets_N, learned) if usable else _plain(photos)
            total_N[own] += correction(photos)[own]
    return total_N / REPEATS


def _compare(
    what: str, labels: Labels, targets_N: Vector, before_N: Vector, after_N: Vector, rng: np.random.Generator
) -> Trial:
    """Compare two series of scores by the labels, pairwise, by the bootstrap over labels."""
    if labels.kind == "pairs":
        better, worse = np.array(labels.pairs).T
        name = "share of pairs in the right order"

        def measure(scores_N: Vector, drawn: NDArray[np.intp]) -> float:
            lead = scores_N[better[drawn]] - scores_N[worse[drawn]]
            return float((np.sign(lead) / 2 + 0.5).mean())

    elif labels.kind == "thumbs":
        name = "share of good and bad photos in the right order"

        def measure(scores_N: Vector, drawn: NDArray[np.intp]) -> float:
            good, bad = (scores_N[drawn[targets_N[drawn] == end]] for end in (100.0, 0.0))
            if not len(good) or not len(bad):
                return 0.5
            return float((np.sign(good[:, None] - bad[None]) / 2 + 0.5).mean())

    elif what.startswith("a line"):
        name = "points off, on average"

        def measure(scores_N: Vector, drawn: NDArray[np.intp]) -> float:
            return -float(np.abs(scores_N[drawn] - targets_N[drawn]).mean())

    else:
        name = "rank correlation"

        def measure(scores_N: Vector, drawn: NDArray[np.intp]) -> float:
            ranks = [stats.rankdata(values[drawn]) for values in (scores_N, targets_N)]
            return float(np.corrcoef(*ranks)[0, 1]) if min(one.std() for one in ranks) > 0 else 0.0

    everything = np.arange(len(labels))
    gains = []
    for _ in itertools.repeat(None, RESAMPLES):
        drawn = rng.integers(len(labels), size=len(labels))
        gains.append(measure(after_N, drawn) - measure(before_N, drawn))
    low, high = np.quantile(gains, [SURE, 1 - SURE])
    before, after = (abs(measure(scores_N, everything)) for scores_N in (before_N, after_N))
    return Trial(what=what, measure=name, before=before, after=after, low=float(low), high=float(high))
