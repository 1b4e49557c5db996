"""What the close looks at a large picture say together."""

import numpy as np
import pytest

from model.score import _everywhere, _worst


def together(*found: tuple[float, float]) -> tuple[float, float]:
    """Severity and probability of a defect of sharpness; of each square, severity if it is there, and probability."""
    severities, probabilities = np.array([[own * min(2 * likely, 1), likely] for own, likely in found]).T
    return _everywhere(severities, probabilities)


def test_a_square_that_is_surely_sharp_outweighs_one_that_may_be_blurred() -> None:
    severity, probability = together((0.8, 0.95), (0.3, 0.02))
    assert probability < 0.5
    assert severity < 0.5


def test_a_square_without_detail_says_little() -> None:
    severity, probability = together((0.8, 0.91), (0.5, 0.35))
    # The mean of log odds 2.3 and -0.6.
    assert probability == pytest.approx(0.70, abs=0.01)
    assert 0.6 < severity < 0.8


def test_equal_squares_say_what_each_says() -> None:
    assert together((0.6, 0.9), (0.6, 0.9)) == pytest.approx((0.6, 0.9))
    assert together((0.6, 0.2), (0.6, 0.2)) == pytest.approx((0.6 * 0.4**2, 0.2))
    assert together((0.6, 1.0), (0.6, 0.0))[1] == pytest.approx(0.5)


def test_one_square_with_noise_is_enough() -> None:
    assert _worst(np.array([0.1, 0.7]), np.array([0.2, 0.9])) == (0.7, 0.9)
