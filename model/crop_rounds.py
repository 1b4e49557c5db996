"""``crops="auto"``: a picture's crops in rounds, until its score is sure enough.

The crops are the contract's own: where all of them are needed, the answer is that of the fixed plan, to the last digit.
"""

import math
from functools import lru_cache
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.contract import Box, Contract, Items, Scale, Views

Crops = int | Literal["auto"]
"""How many crops to score."""
AUTO: Literal["auto"] = "auto"
FIRST = 4
"""Crops of the first round: fewer say too little of their spread. Each further round doubles what has been scored."""
TOLERANCE = 2.0
"""Standard error, in points of 100, from which on no more crops are scored."""
PLAN = f"auto-{FIRST}-{TOLERANCE:g}"
"""Differs whenever an answer could."""


def most(crops: Crops | None, contract: Contract) -> int:
    """How many crops of a picture may be scored; None asks for the contract's count."""
    return contract.crops if crops is None or crops == AUTO else crops


class Rounds:
    """The work items of one picture, to be scored round by round.

    Args:
        views: The items, ``most`` of them.
        contract: What they were made by.
        crops: What was asked for. All but ``auto`` is a single round.

    Attributes:
        warnings: What making the items did to the picture.
    """

    def __init__(self, views: Views, contract: Contract, crops: Crops | None) -> None:
        self.warnings = views.warnings
        self._contract = contract
        self._boxes = views.boxes
        self._order = range(len(views.boxes)) if crops != AUTO else spread_out(views.boxes)
        # Copied once, and only if need be: rounds are then slices.
        self._items = views.items if crops != AUTO else views.items[list(self._order)]
        self._rows: list[NDArray[np.float32]] = []
        self._scored = 0
        self._end = len(self._items) if crops != AUTO else min(FIRST, len(self._items))

    @property
    def count(self) -> int:
        """Items of all rounds that there may be."""
        return len(self._items)

    @property
    def nbytes(self) -> int:
        """Memory of all of them."""
        return self._items.nbytes

    @property
    def items(self) -> Items | None:
        """The items of the next round, None if there is none."""
        return self._items[self._scored : self._end] if self._scored < self._end else None

    def add(self, rows_ND: NDArray[np.float32]) -> None:
        """Take in the rows of the round, as the engine gives them."""
        self._rows.append(rows_ND)
        self._scored = self._end
        if self._scored < self.count:
            raw_N = self._contract.raw(np.concatenate(self._rows)[:, 0].astype(np.float64))
            if not is_sure(raw_N, self._contract.scale):
                self._end = min(2 * self._scored, self.count)

    def scored(self) -> tuple[NDArray[np.float32], tuple[Box, ...]]:
        """Rows (N, D) and boxes of the items that were scored, in the contract's order."""
        order = self._order[: self._scored]
        return np.concatenate(self._rows)[np.argsort(order)], tuple(self._boxes[place] for place in sorted(order))


def is_sure(raw_N: NDArray[np.float64], scale: Scale) -> bool:
    """Whether the standard error of the mean of some raw scores, two at least, is within ``TOLERANCE``."""
    return scale.spread_to_percent(float(raw_N.std(ddof=1))) <= TOLERANCE * math.sqrt(len(raw_N))


@lru_cache(maxsize=256)
def spread_out(boxes: tuple[Box, ...]) -> tuple[int, ...]:
    """Order crops so that the first few stand for all.

    Where two crops are as similar as they overlap, the mean over some differs from the mean over all by the maximum
    mean discrepancy (Gretton et al., 2012, equation 5). The first round is the best of all choices by that, and every
    further crop the best one to add. In integers; ties go to the first.

    Args:
        boxes: Where the crops lie.

    Returns:
        Their places in ``boxes``, each once.
    """
    count = len(boxes)
    if count <= FIRST:
        return tuple(range(count))
    left, top, right, bottom = np.array(boxes, dtype=np.int64).T
    width_NN = np.minimum.outer(right, right) - np.maximum.outer(left, left)
    height_NN = np.minimum.outer(bottom, bottom) - np.maximum.outer(top, top)
    overlap_NN = width_NN.clip(0) * height_NN.clip(0)
    own_N, all_N = overlap_NN.diagonal(), overlap_NN.sum(axis=1)

    # The squared discrepancy of a set, times the squares of both counts, less what all sets of its size have in common.
    choices_FM = _choices(count)
    pairs_M = sum(overlap_NN[one, other] for one, other in combinations(choices_FM, 2))
    cost_M = sum((count * own_N - 2 * FIRST * all_N)[one] for one in choices_FM) + 2 * count * pairs_M
    order = choices_FM[:, cost_M.argmin()].tolist()
    while len(order) < count:
        cost_N = count * (own_N + 2 * overlap_NN[order].sum(axis=0)) - 2 * (len(order) + 1) * all_N
        cost_N[order] = np.iinfo(np.int64).max
        order.append(int(cost_N.argmin()))
    return tuple(order)


@lru_cache(maxsize=4)
def _choices(count: int) -> NDArray[np.int64]:
    """All choices of a first round, (FIRST, M)."""
    return np.array(list(combinations(range(count), FIRST))).T.copy()
