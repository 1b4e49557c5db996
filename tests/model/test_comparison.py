"""Which of several pictures people prefer, and how sure that is."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from model.comparison import SUREST, UNSURE, compare, preferred
from model.images import ImageWarning
from model.interval import Interval
from tests.model.scores import scored

OUTSIDE = (ImageWarning.OUT_OF_DOMAIN,)


def test_a_probability_follows_from_scores_and_deviations() -> None:
    one, other = scored(70, deviation=3.0), scored(60, deviation=4.0)
    expected = stats.t.cdf(10 / 5, df=3)
    assert preferred(one, other) == pytest.approx(expected, abs=1e-12)
    assert preferred(other, one) == pytest.approx(1 - expected, abs=1e-12)
    assert preferred(one, one) == 0.5
    assert 0.5 < preferred(one, scored(60, deviation=40.0)) < expected


def test_a_deviation_is_a_share_of_the_networks_widths_and_twice_as_wide_outside_the_domain() -> None:
    interval = Interval(spread=0.4)
    columns = np.array([0.1, 0.3])
    assert interval.deviation(columns, outside=False) == pytest.approx(0.4 * 0.2)
    assert interval.deviation(columns, outside=True) == pytest.approx(0.8 * 0.2)


def test_of_pictures_that_are_no_photos_little_is_sure() -> None:
    good, bad = scored(90, deviation=1.0), scored(10, deviation=1.0)
    assert preferred(good, bad) == SUREST
    assert preferred(replace(good, warnings=OUTSIDE), bad) == SUREST
    strange = replace(good, warnings=OUTSIDE), replace(bad, warnings=OUTSIDE)
    assert preferred(*strange) == UNSURE
    assert preferred(*reversed(strange)) == pytest.approx(1 - UNSURE)


def test_scores_without_deviation() -> None:
    sure = [scored(score, deviation=0.0) for score in (50.0, 60.0)]
    found = [preferred(sure[0], sure[1]), preferred(sure[1], sure[0]), preferred(sure[0], sure[0])]
    assert found == pytest.approx([1 - SUREST, SUREST, 0.5])


def test_order_pairs_duplicates_and_reasons() -> None:
    pictures = [
        scored(60, sha256="a", noise=0.7, defocus=0.1),
        None,
        scored(80, sha256="b", noise=0.1, colour_cast=0.3),
        scored(60, sha256="a", noise=0.7, defocus=0.1),
    ]
    found = compare(pictures)
    # Equal ones keep their order; what has no score is left out.
    assert found.order == (2, 0, 3)
    assert [(pair.first, pair.second) for pair in found.pairs] == [(0, 2), (0, 3), (2, 3)]
    assert [pair.duplicate for pair in found.pairs] == [False, True, False]
    first, same, last = found.pairs
    assert [(each.defect, each.first, each.second) for each in first.because] == [
        ("noise", 0.7, 0.1),
        ("colour_cast", 0.0, 0.3),
    ]
    assert (same.preferred, same.because) == (0.5, ())
    assert first.preferred == pytest.approx(1 - last.preferred, abs=1e-9)
    assert found.to_dict()["pairs"][1]["duplicate"] is True
    assert compare([None, None]).order == ()


def test_a_model_without_intervals_compares_nothing() -> None:
    plain = [replace(scored(score), interval=None) for score in (50, 60)]
    with pytest.raises(ValueError, match="made-up gives no intervals"):
        compare(plain)
