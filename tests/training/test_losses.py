"""Losses, against values worked out by hand."""

import math
from statistics import NormalDist
from typing import get_args

import pytest
import torch
from torch import Tensor

from training import losses
from training.losses import LossName, make

X = torch.tensor([1.0, 3.0, 2.0])
Y = torch.tensor([1.0, 2.0, 4.0])
# Pearson: deviations (-1, 1, 0) and (-4/3, -1/3, 5/3); covariance 1, norms sqrt(2) and sqrt(14/3).
R = 1 / math.sqrt(2 * 14 / 3)


SCORES = [name for name in get_args(LossName) if name != "bins"]
"""Losses of scores; ``bins`` is one of distributions."""


def fidelity_of_pair(dx: float, dy: float) -> float:
    """By its formula up to three standard deviations, and on from there as straight as it ends."""
    p, z = 1 / (1 + math.exp(-dy)), dx / (0.1 * math.sqrt(2))

    def formula(z: float) -> float:
        q = NormalDist().cdf(z)
        return 1 - math.sqrt(p * q) - math.sqrt((1 - p) * (1 - q))

    within = max(-3.0, min(z, 3.0))
    outwards = math.copysign(1e-6, z)
    return formula(within) + abs(z - within) * max((formula(within) - formula(within - outwards)) / 1e-6, 0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("l1", (0 + 1 + 2) / 3),
        ("smooth_l1", (0 + 0.5 + 1.5) / 3),
        ("l2", (0 + 1 + 4) / 3),
        ("srcc", 1 - R),
        ("plcc", (1 - R) / 2),
        ("plcc_mse", (1 - R) * (3 + R) / 8),
        # Pairs (dx, dy): (2, 1) costs 2 - 1; (1, 3) costs relu(1 - 3) = 0; (-1, 2) costs 1 + 2.
        ("ranking", (1 + 0 + 3) / 3),
        ("fidelity", (fidelity_of_pair(2, 1) + fidelity_of_pair(1, 3) + fidelity_of_pair(-1, 2)) / 3),
    ],
)
def test_against_values_worked_out_by_hand(name: LossName, expected: float) -> None:
    assert make(name)(X, Y).item() == pytest.approx(expected, rel=1e-5)


def test_bins_learn_the_distribution_of_a_label() -> None:
    assert make("bins")(torch.zeros(2, 5), torch.tensor([0.25, 0.9])).item() == pytest.approx(math.log(5))
    # Halfway between two of five bins, both are as likely, and no other is within four deviations.
    sure = torch.tensor([[-20.0, 20.0, 20.0, -20.0, -20.0]])
    assert make("bins")(sure, torch.tensor([0.375])).item() == pytest.approx(math.log(2), abs=0.02)
    assert make("bins")(sure, torch.tensor([0.0])).item() > 30


def test_the_hinge_term() -> None:
    # With margin 0.5: relu(0.5 - 2) = 0, relu(0.5 - 1) = 0, relu(0.5 + 1) = 1.5.
    assert losses.hinge(X, Y, 0.5).item() == pytest.approx(1.5 / 3)
    combined = make("l1", ranking_weight=0.2, ranking_margin=0.5)(X, Y)
    assert combined.item() == pytest.approx(1 + 0.2 * 0.5)


def test_pairs_with_equal_labels_do_not_rank() -> None:
    assert losses.ranking(torch.tensor([5.0, 1.0]), torch.tensor([2.0, 2.0])).item() == 0


@pytest.mark.parametrize("name", SCORES)
def test_gradients_are_finite_where_they_could_break(name: LossName) -> None:
    cases: list[tuple[Tensor, Tensor]] = [
        (torch.ones(4), torch.ones(4)),
        (torch.tensor([2.0]), torch.tensor([1.0])),
        (torch.tensor([0.0, 100.0]), torch.tensor([100.0, 0.0])),
        (torch.tensor([50.1, 50.2, 50.15, 50.3]), torch.tensor([10.0, 45.0, 70.0, 71.0])),
    ]
    for x, y in cases:
        x.requires_grad_()
        loss = make(name, ranking_weight=1.0)(x, y)
        loss.backward()
        assert torch.isfinite(loss)
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("name", SCORES)
def test_descending_a_loss_raises_the_correlation(name: LossName) -> None:
    torch.manual_seed(0)
    labels = torch.rand(32)
    x = torch.rand(32, requires_grad=True)
    optimizer = torch.optim.Adam([x], lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        make(name)(x, labels).backward()
        optimizer.step()
    assert losses.pearson(x, labels) > 0.9


def test_fidelity_is_its_formula_where_predictions_are_near() -> None:
    x, y = torch.tensor([0.1, 0.25, -0.1]), torch.tensor([0.2, 0.9, 0.4])
    pairs = [(x[i] - x[j], y[i] - y[j]) for i in range(3) for j in range(3) if i != j]
    expected = sum(fidelity_of_pair(float(dx), float(dy)) for dx, dy in pairs) / 6
    assert make("fidelity")(x, y).item() == pytest.approx(expected, rel=1e-4)


def test_fidelity_moves_predictions_that_start_far_apart() -> None:
    torch.manual_seed(0)
    x = (20 * torch.randn(64)).requires_grad_()
    make("fidelity")(x, torch.rand(64)).backward()
    assert x.grad is not None
    # Of a wrong order, each pair tells; a photo is in many.
    assert (x.grad.abs() > 1e-4).float().mean() > 0.95


def test_ladders_must_fall() -> None:
    ladders = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.9, 4.0]])
    drops = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    # The second one falls by 0.1 where it should by 0.5, and rises by 1.1.
    assert losses.falling(ladders, drops).item() == pytest.approx((0.4 + 1.6) / 4)
    assert losses.falling(ladders[:0], drops[:0]).item() == 0


def test_at_most() -> None:
    assert losses.at_most(torch.tensor([0.5, 2.0]), 1.0).item() == pytest.approx(0.5)
    assert losses.at_most(torch.zeros(0), 1.0).item() == 0


def test_at_least() -> None:
    assert losses.at_least(torch.tensor([-0.5, 2.0]), 0.0).item() == pytest.approx(0.25)
    assert losses.at_least(torch.zeros(0), 1.0).item() == 0


def test_unlabelled_pictures() -> None:
    ladders, drops = torch.tensor([[0.1, 0.3, -0.4], [0.9, 0.5, 0.2]]), torch.full((2, 2), 0.1)
    # One of four steps rises by 0.2 instead of falling by 0.1; one of four blanks lies above 0; and below it lie one of
    # four degraded crops and one blank.
    cost = losses.unlabelled(ladders, torch.tensor([0.6, 0.0, 0.0, -0.4]), drops, lowest=0.0, weight=2.0)
    assert cost.item() == pytest.approx(2 * 0.3 / 4 + 0.6 / 4 + 0.8 / 8)
    # The first crop has a label of its own, and may be anything.
    assert losses.unlabelled(ladders[:1, :1], ladders[0, :0], drops[:1, :0], lowest=5.0, weight=1.0).item() == 0
