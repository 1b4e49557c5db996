"""Intervals around scores."""

import numpy as np
import pytest

from model.interval import Interval


def test_the_likely_kinds_decide_the_factors() -> None:
    interval = Interval(below=(1.0, 3.0), above=(2.0, 4.0), outside=2.0)
    assert interval.columns == 4
    first, second, either = (np.array([0.1, 0.05, 1 - share, share]) for share in (0.0, 1.0, 0.5))
    assert interval.around(0.5, first, outside=False) == pytest.approx((0.4, 0.6))
    assert interval.around(0.5, second, outside=False) == pytest.approx((0.2, 0.7))
    assert interval.around(0.5, either, outside=False) == pytest.approx((0.3, 0.65))
    assert interval.around(0.5, first, outside=True) == pytest.approx((0.3, 0.7))


def test_one_kind_needs_no_column() -> None:
    interval = Interval(below=(2.0,), above=(1.0,))
    assert interval.columns == 2
    assert interval.around(0.0, np.array([0.1, 0.2]), outside=False) == pytest.approx((-0.2, 0.2))


@pytest.mark.parametrize(
    "fields",
    [
        {"coverage": 1.0},
        {"below": ()},
        {"below": (1.0, 1.0)},
        {"above": (-1.0,)},
        {"outside": float("inf")},
    ],
)
def test_what_is_no_interval_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="interval"):
        Interval(**fields)  # type: ignore[arg-type]
