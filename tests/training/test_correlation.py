import pytest

from training.correlation import measure


def test_against_values_worked_out_by_hand() -> None:
    agreement = measure([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0])
    # One swapped pair of neighbours: 1 - 6 * 2 / (4 * 15).
    assert agreement.srcc == pytest.approx(0.8)
    assert agreement.plcc == pytest.approx(0.8)
    assert agreement.rmse == pytest.approx(0.5**0.5)
    assert agreement.mae == pytest.approx(0.5)
    assert agreement.to_dict() == {"srcc": 0.8, "plcc": 0.8, "rmse": 0.7071, "mae": 0.5}
