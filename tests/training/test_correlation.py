import numpy as np
import pytest

from training.correlation import fit_logistic, intervals, logistic, measure


def test_against_values_worked_out_by_hand() -> None:
    agreement = measure([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0])
    # One swapped pair of neighbours: 1 - 6 * 2 / (4 * 15); 5 of 6 pairs in order.
    assert agreement.srcc == pytest.approx(0.8)
    assert agreement.krcc == pytest.approx(4 / 6)
    assert agreement.plcc == pytest.approx(0.8)
    assert agreement.rmse == pytest.approx(0.5**0.5)
    assert agreement.mae == pytest.approx(0.5)
    assert set(agreement.to_dict()) == {"srcc", "krcc", "plcc", "plcc_logistic", "rmse", "mae"}


def test_the_logistic_straightens_a_saturated_scale() -> None:
    x = np.linspace(0, 10, 60)
    parameters = (5.0, 1.0, 6.0, 0.7)
    labels = logistic(x, *parameters)
    assert fit_logistic(x, labels) == pytest.approx(parameters, rel=1e-3)
    agreement = measure(x, labels)
    assert agreement.plcc < 0.95
    assert agreement.plcc_logistic == pytest.approx(1, abs=1e-6)


def test_the_logistic_has_its_textbook_form() -> None:
    # b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|))
    assert logistic(np.array([3.0]), 10, 2, 1, -2)[0] == pytest.approx(2 + 8 / (1 + np.exp(-1)))
    assert logistic(np.array([-1e9, 1e9]), 10, 2, 1, 0.1).tolist() == [2, 10]


def test_a_logistic_does_not_hide_a_wrong_direction() -> None:
    x = np.linspace(0, 1, 30)
    agreement = measure(x, 1 - x)
    assert agreement.srcc == pytest.approx(-1)
    assert agreement.plcc_logistic == pytest.approx(-1)


def test_constant_predictions_agree_with_nothing() -> None:
    agreement = measure([1, 1, 1], [1, 2, 3])
    assert (agreement.srcc, agreement.krcc, agreement.plcc, agreement.plcc_logistic) == (0, 0, 0, 0)
    assert agreement.mae == pytest.approx(1)
    assert intervals([1, 1, 1], [1, 2, 3]) == {}


@pytest.mark.parametrize(("x", "y"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, float("nan")], [1.0, 2.0])])
def test_what_cannot_be_compared(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match=r"must be as many|not a number"):
        measure(x, y)


def test_intervals_hold_the_figure_and_narrow_with_more_pictures() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(400)
    predictions = labels + rng.normal(0, 0.2, 400)
    many, few = intervals(predictions, labels), intervals(predictions[:40], labels[:40])
    figures = measure(predictions, labels).to_dict()
    for name, (low, high) in many.items():
        assert low < figures[name] < high
        assert high - low < few[name][1] - few[name][0]
    assert intervals(predictions, labels) == many
    # The large-sample width of Pearson's interval: 2 * 1.96 * (1 - r^2) / sqrt(n).
    low, high = many["plcc"]
    assert high - low == pytest.approx(2 * 1.96 * (1 - figures["plcc"] ** 2) / 20, rel=0.25)
