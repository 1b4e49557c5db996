"""Fits a calibration: a correction of a model's scores by a few labels of one's own.

Labels are scores, thumbs or pairs. Two corrections are tried: a rising line from the model's scores to the labels,
which changes no order; and points for each number of the description, kept small by a ridge. Each must beat what is
simpler, in cross-validation and by a paired test, or it is not taken.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from model.calibration import COVERAGE, Calibration
from training.labels import LEAST, LabelError, Labels

Vector = NDArray[np.float64]

FOLDS, REPEATS = 5, 4
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
"""Strengths of the ridge that are tried, for each label."""
KNOTS = 5
"""Points of the line, at most."""
STRAIGHT, LEAST_SLOPE = 0.1, 0.02
"""Share of a straight line in it, and its least slope: different scores must stay different."""
MOST_ROWS = 4000
"""Pairs of a good and a bad photo that are learned from, at most."""
FARTHER = 1.02
"""How many times farther off scores may be for a better order."""
RESAMPLES = 1000
SURE = 0.025
"""Share of the resamples in which the correction may be no better."""


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
        scenes_N: Which photos show the same: they must not be learned from and tested at once.
    """

    scores_N: Vector
    descriptions_NK: NDArray[np.float64]
    scenes_N: NDArray[np.intp]


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

    Raises:
        LabelError: The photos show too few scenes.
    """
    scenes = len(np.unique(photos.scenes_N))
    if scenes < LEAST // 2:
        raise LabelError(f"the labelled photos show only {scenes} scenes; label photos that differ")
    rng = np.random.default_rng(seed)
    targets_N = _targets(labels)
    fitted, outside_N = _PLAIN, photos.scores_N
    trials: list[Trial] = []
    makes: list[tuple[str, _Make]] = [("points for what the photo is like", _head)]
    if labels.kind == "scores":  # Thumbs and pairs have no scale.
        makes.insert(0, ("a line from score to score", _line))
    for what, make in makes:
        # What helped stays below what is tried next.
        base = make if not any(trial.helps for trial in trials) else _on(_line, make)
        found_N = _cross_validated(labels, photos, targets_N, base, rng)
        trial = _compare(what, labels, photos, targets_N, (outside_N, found_N), rng)
        trials.append(trial)
        if trial.helps:
            fitted, outside_N = base(labels, photos, targets_N, np.arange(len(labels))), found_N
    if not any(trial.helps for trial in trials):
        return None, trials
    width = None
    if labels.kind == "scores":
        errors_N = np.sort(np.abs(targets_N - outside_N))
        place = min(int(np.ceil((len(errors_N) + 1) * COVERAGE)), len(errors_N)) - 1
        width = round(float(errors_N[place]), 2)
    scale = list(labels.scale) if labels.kind == "scores" else None
    about = {
        "labels": labels.kind,
        "count": len(labels),
        "scale": scale,
        "trials": [trial.to_dict() for trial in trials],
    }
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


_PLAIN = _Correction(knots=((0.0, 0.0), (100.0, 100.0)))


def _on(first: _Make, then: _Make) -> _Make:
    """A correction of what another one, a line, has corrected; both are fitted to the same labels."""

    def make(labels: Labels, photos: Photos, targets_N: Vector, places: NDArray[np.intp]) -> _Correction:
        line = first(labels, photos, targets_N, places)
        above = then(labels, replace(photos, scores_N=line(photos)), targets_N, places)
        starts, ends = np.array(line.knots).T
        edges, points = np.array(above.knots).T
        moved = np.interp(ends.clip(edges[0], edges[-1]), edges, points)
        knots = tuple((float(start), round(float(end), 4)) for start, end in zip(starts, moved, strict=True))
        return replace(above, knots=knots)

    return make


def _targets(labels: Labels) -> Vector:
    """Labels of photos in points of 100; of pairs, 1 for each."""
    if labels.kind == "pairs":
        return np.ones(len(labels))
    low, high = labels.scale
    return 100 * (np.array(labels.values) - low) / (high - low)


def _line(_: Labels, photos: Photos, targets_N: Vector, places: NDArray[np.intp]) -> _Correction:
    """A rising line through means of the labels at a few places of the score."""
    scores, targets = photos.scores_N[places].round(2), targets_N[places]
    order = np.argsort(scores, kind="stable")
    firsts = [part[0] for part in np.array_split(order, min(KNOTS, len(order) // 4))]
    part_N = np.searchsorted(np.unique(scores[firsts]), scores, "right")
    parts = [np.flatnonzero(part_N == part) for part in np.unique(part_N)]
    starts = np.array([scores[part].mean() for part in parts]).round(3)
    if len({*starts}) < 2:
        return _PLAIN
    means, weights = [targets[part].mean() for part in parts], [len(part) for part in parts]
    rising = optimize.isotonic_regression(means, weights=weights).x
    straight = stats.linregress(scores, targets)
    slope = max(float(straight.slope), LEAST_SLOPE)
    # A little of the straight line, so that different scores stay different.
    centre = float(targets.mean()) + slope * (starts - float(scores.mean()))
    ends = (1 - STRAIGHT) * rising + STRAIGHT * centre
    inside = [(start, end) for start, end in zip(starts, ends, strict=True) if 0 < start < 100]
    first, last = (starts[0], ends[0]), (starts[-1], ends[-1])
    knots = [(0.0, first[1] - slope * first[0]), *inside, (100.0, last[1] + slope * (100 - last[0]))]
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
        if len(rows_LF) > MOST_ROWS:
            rows_LF = rows_LF[np.random.default_rng(0).choice(len(rows_LF), MOST_ROWS, replace=False)]
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
    """Corrected scores of all photos by corrections that were not fitted on their scenes, the mean of some repeats."""
    _, scene_N = np.unique(photos.scenes_N, return_inverse=True)
    total_N = np.zeros(len(scene_N))
    for _ in range(REPEATS):
        fold_N = rng.permutation(np.arange(scene_N.max() + 1) % FOLDS)[scene_N]
        for fold in range(FOLDS):
            own = fold_N == fold
            held = own[np.array(labels.pairs)].any(axis=1) if labels.kind == "pairs" else own
            learned = np.flatnonzero(~held)
            usable = len(learned) >= LEAST // 2 and (labels.kind != "thumbs" or len({*targets_N[learned]}) == 2)
            correction = make(labels, photos, targets_N, learned) if usable else _PLAIN
            total_N[own] += correction(photos)[own]
    return total_N / REPEATS


def _compare(
    what: str,
    labels: Labels,
    photos: Photos,
    targets_N: Vector,
    before_and_after: tuple[Vector, Vector],
    rng: np.random.Generator,
) -> Trial:
    """Compare two series of scores by the labels, pairwise, by the bootstrap over scenes, or over pairs of them."""
    places = np.array(labels.pairs) if labels.kind == "pairs" else np.arange(len(labels))[:, None]
    scenes = np.sort(photos.scenes_N[places], axis=1)
    _, unit_L = np.unique(scenes, axis=0, return_inverse=True)
    units = [np.flatnonzero(unit_L == unit) for unit in range(int(unit_L.max()) + 1)]
    line = what.startswith("a line")
    name, measure = _MEASURES["line" if line else labels.kind]
    everything = np.arange(len(labels))
    gains = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([units[unit] for unit in rng.integers(len(units), size=len(units))])
        before, after = (measure(labels, targets_N, scores_N, drawn) for scores_N in before_and_after)
        gains.append(after - before)
    low, high = np.quantile(gains, [SURE, 1 - SURE])
    before, after = (abs(measure(labels, targets_N, scores_N, everything)) for scores_N in before_and_after)
    if labels.kind == "scores" and not line:
        # An order that is a little better is not worth scores that are farther off.
        off = [-_points_off(labels, targets_N, scores_N, everything) for scores_N in before_and_after]
        low = low if off[1] <= FARTHER * off[0] else min(float(low), 0.0)
    return Trial(what=what, measure=name, before=before, after=after, low=float(low), high=float(high))


def _points_off(_: Labels, targets_N: Vector, scores_N: Vector, drawn: NDArray[np.intp]) -> float:
    return -float(np.abs(scores_N[drawn] - targets_N[drawn]).mean())


def _ranked(_: Labels, targets_N: Vector, scores_N: Vector, drawn: NDArray[np.intp]) -> float:
    ranks = [stats.rankdata(values[drawn]) for values in (scores_N, targets_N)]
    return float(np.corrcoef(*ranks)[0, 1]) if min(one.std() for one in ranks) > 0 else 0.0


def _good_before_bad(_: Labels, targets_N: Vector, scores_N: Vector, drawn: NDArray[np.intp]) -> float:
    good, bad = (scores_N[drawn[targets_N[drawn] == end]] for end in (100.0, 0.0))
    return float((np.sign(good[:, None] - bad[None]) / 2 + 0.5).mean()) if len(good) and len(bad) else 0.5


def _better_before_worse(labels: Labels, _: Vector, scores_N: Vector, drawn: NDArray[np.intp]) -> float:
    better, worse = np.array(labels.pairs)[drawn].T
    return float((np.sign(scores_N[better] - scores_N[worse]) / 2 + 0.5).mean())


_MEASURES: dict[str, tuple[str, Callable[[Labels, Vector, Vector, NDArray[np.intp]], float]]] = {
    "line": ("points off, on average", _points_off),
    "scores": ("rank correlation", _ranked),
    "thumbs": ("share of good and bad photos in the right order", _good_before_bad),
    "pairs": ("share of pairs in the right order", _better_before_worse),
}
"""What each correction is measured by, in words, and the measure: the higher the better."""
