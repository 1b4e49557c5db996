"""How sure it is which of two photos people prefer."""

import numpy as np
import pytest

from training import preferences
from training.preferences import Judged


def judged(count: int = 4000, seed: int = 0, spread: float = 0.4) -> Judged:
    """Photos whose labels lie around their scores, by Student's distribution, ``spread`` times half their widths."""
    rng = np.random.default_rng(seed)
    scores, widths = rng.uniform(20, 80, count), rng.uniform(5, 60, count)
    labels = scores + spread * widths / 2 * rng.standard_t(5, count)
    return Judged(scores_N=scores, widths_N=widths, labels_N=labels, folds_N=np.arange(count) % 5)


def test_the_spread_is_found_and_what_is_stated_holds() -> None:
    spread, bins = preferences.train(judged(), seed=1)
    assert spread == pytest.approx(0.4, abs=0.07)
    assert len(bins) == 10
    assert bins[0].low == 0.5
    assert bins[-1].high == 1.0
    for bin_ in bins:
        assert bin_.low <= bin_.stated <= bin_.high
        assert bin_.held == pytest.approx(bin_.stated, abs=0.04)


def test_what_is_stated_too_surely_shows() -> None:
    rng = np.random.default_rng(2)
    stated = rng.uniform(0.5, 1, 40_000)
    won = rng.random(40_000) < 0.5 + 0.5 * (stated - 0.5)
    bins = preferences.reliability(stated, won)
    assert bins[-1].stated - bins[-1].held > 0.15
    assert sum(bin_.pairs for bin_ in bins) == 40_000


def test_the_same_seed_gives_the_same_and_equal_labels_are_no_pair() -> None:
    photos = judged(400, seed=3)
    assert preferences.train(photos, seed=5) == preferences.train(photos, seed=5)
    equal = Judged(
        scores_N=photos.scores_N,
        widths_N=photos.widths_N,
        labels_N=np.round(photos.labels_N / 50),
        folds_N=photos.folds_N,
    )
    _, bins = preferences.train(equal, seed=5)
    assert sum(bin_.pairs for bin_ in bins) < 5 * preferences.PAIRS
