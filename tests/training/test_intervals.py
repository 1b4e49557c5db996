"""Calibration of intervals."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.contract import Contract
from model.interval import Interval
from model.networks.findings import IntervalHead
from training import intervals


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Outputs, columns, labels and kinds of photos of two kinds; the second kind's labels are lower and vary more.

    Which kind a photo is of can be told in three of four.
    """
    rng = np.random.default_rng(seed)
    second = rng.random(count) < 0.4
    outputs = rng.uniform(0, 1, count)
    labels = outputs + np.where(second, rng.normal(-0.1, 0.2, count), rng.normal(0, 0.05, count))
    widths = np.where(second, 0.15, 0.08) * rng.uniform(0.8, 1.2, count)
    likely = np.clip(np.where(second, 0.6, 0.2) + rng.uniform(-0.3, 0.3, count), 0, 1)
    columns = np.column_stack([widths, widths, 1 - likely, likely])
    return outputs, columns, labels, second.astype(np.intp)


def test_intervals_hold_what_they_promise_for_each_kind() -> None:
    interval = intervals.calibrate(Interval(below=(1.0, 1.0), above=(1.0, 1.0)), *drawn(4000, 0))
    outputs, columns, labels, kinds = drawn(4000, 1)
    ends = np.array([interval.around(one, row, outside=False) for one, row in zip(outputs, columns, strict=True)])
    inside = (ends[:, 0] <= labels) & (labels <= ends[:, 1])
    for kind in (0, 1):
        assert inside[kinds == kind].mean() == pytest.approx(0.9, abs=0.02)
    # The second kind's labels are lower than its scores.
    assert interval.below[1] > interval.above[1]


def test_a_head_learns_where_scores_are_unsure(contract: Contract) -> None:
    """Labels vary more where the first number of a description is large, and are lower for the second kind."""
    rng = np.random.default_rng(3)
    count = 3000
    described = rng.standard_normal((count, 4)).astype("f4")
    spread = np.where(described[:, 0] > 0, 0.2, 0.05)
    second = described[:, 1] > 1
    outputs = rng.uniform(0.3, 0.7, count)
    labels = outputs + spread * rng.standard_normal(count) - 0.1 * second
    scored = intervals.Scored(
        described_NI=torch.from_numpy(described),
        outputs_N=outputs,
        labels_N=labels,
        kinds_N=second.astype(np.intp),
        folds_N=np.arange(count) % 3,
        kind_names=("first", "second"),
        comparable_N=np.ones(count, bool),
    )
    torch.manual_seed(0)
    head = IntervalHead(4, kinds=2)
    own = replace(
        contract,
        scale=replace(contract.scale, min=0.0, max=1.0),
        slope=1.0,
        intercept=0.0,
        interval=Interval(below=(1.0, 1.0), above=(1.0, 1.0)),
    )
    interval, coverage, reliability = intervals.train(head, scored, own, seed=0)
    assert 0.3 < interval.spread < 0.8
    assert all(row.held == pytest.approx(row.stated, abs=0.08) for row in reliability)
    assert len(reliability) == 10
    assert [row.photos for row in coverage] == ["fold 0", "fold 1", "fold 2", "first", "second", "all"]
    assert coverage[-1].count == count
    for row in coverage:
        assert row.within == pytest.approx(0.9, abs=0.03)
        assert row.within + row.below + row.above == pytest.approx(1)
    columns = head(scored.described_NI, torch.from_numpy(outputs).float()).detach().double().numpy()
    ends = np.array([interval.around(one, row, outside=False) for one, row in zip(outputs, columns, strict=True)])
    widths = np.diff(ends, axis=1)[:, 0]
    assert widths[described[:, 0] > 0.2].mean() > 2 * widths[described[:, 0] < -0.2].mean()


def test_a_rare_kind_shares_the_factors_of_all() -> None:
    outputs, columns, labels, kinds = drawn(400, 2)
    columns[:, 2:] = [1.0, 0.0]
    start = Interval(below=(1.0, 1.0), above=(1.0, 1.0))
    interval = intervals.calibrate(start, outputs, columns, labels, np.zeros_like(kinds))
    assert interval.below[0] == interval.below[1]


def test_the_share_is_conservative_for_few() -> None:
    assert intervals.conformal(np.arange(1.0, 20.0), 0.9) == 18.0
    assert intervals.conformal(np.array([1.0, 2.0]), 0.95) == 2.0
    assert intervals.conformal(np.array([1e9]), 0.95) == intervals.LARGEST
    assert intervals.conformal(np.array([-1.0]), 0.95) == 0.0
