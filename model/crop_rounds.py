"""The work items of a picture in rounds, each of items of one shape.

A picture is scored in one round, with two exceptions. With ``crops="auto"`` its crops are scored in rounds until the
standard error of its score is small enough; the crops are those of the contract, and a picture that needs all of them
gets the score that it would get without rounds, to the last digit. And the crops of a close look follow the whole view.
Imports no torch.
"""

import math
from functools import lru_cache
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.contract import Contract
from model.images.facts import Box
from model.scale import Scale
from model.views import Items, Views

Crops = int | Literal["auto"]
"""How many crops of a picture to score; ``auto`` takes as many of the contract's as the score needs."""
AUTO: Literal["auto"] = "auto"
FIRST_ROUND = 4
"""Crops in the first round: fewer say too little about their spread. Each further round doubles the total."""
TOLERANCE = 2.0
"""Standard error of the score, in points of 100, at or below which no further round is scored."""
AUTO_ID = f"auto-{FIRST_ROUND}-{TOLERANCE:g}"
"""Names the rule of ``auto``: it changes whenever the score of a picture could."""


def max_crops(crops: Crops | None, contract: Contract) -> int:
    """The largest number of crops that will be scored; ``crops`` is None for the contract's count."""
    return contract.crops if crops is None or crops == AUTO else crops


class CropRounds:
    """The work items of one picture, and their scores so far, round by round.

    Args:
        views: The items, ``max_crops`` of them.
        contract: The contract that they were cut by.
        crops: The crops that were requested; everything but ``auto`` is a single round.

    Attributes:
        warnings: Warnings about the picture from cutting the items.
    """

    def __init__(self, views: Views, contract: Contract, crops: Crops | None) -> None:
        self.warnings = views.warnings
        self._contract = contract
        self._boxes = views.boxes
        self._auto = crops == AUTO and contract.view == "crops"
        self._order = spread_out(views.boxes) if self._auto else range(len(views.boxes))
        # Copied once, and for ``auto`` alone; each round is then a slice.
        self._items = views.items[list(self._order)] if self._auto else views.items
        self._details = views.details
        self._rows: list[NDArray[np.float32]] = []
        self._scored = 0
        self._end = min(FIRST_ROUND, len(self._items)) if self._auto else len(self._items)

    @property
    def count(self) -> int:
        """Number of items in all rounds together, also those that may not be needed."""
        return len(self._boxes)

    @property
    def nbytes(self) -> int:
        """Memory of all items, in bytes."""
        return self._items.nbytes + (0 if self._details is None else self._details.nbytes)

    @property
    def items(self) -> Items | None:
        """The items of the next round; None if no further round is needed."""
        if self._scored >= self._end:
            return None
        return self._items[self._scored : self._end] if self._scored < len(self._items) else self._details

    def add(self, rows_ND: NDArray[np.float32]) -> None:
        """Add the rows of the round, as the engine gives them, and decide whether another round is needed."""
        self._rows.append(rows_ND)
        self._scored = self._end
        if self._details is not None:
            self._end = self.count
        elif self._scored < self.count:
            raw_N = self._contract.raw(np.concatenate(self._rows)[:, 0].astype(np.float64))
            if not is_sure(raw_N, self._contract.scale):
                self._end = min(2 * self._scored, self.count)

    def scored(self) -> tuple[NDArray[np.float32], tuple[Box, ...]]:
        """Rows (N, D) and boxes of the items that were scored, in the order of the contract."""
        order = self._order[: self._scored]
        return np.concatenate(self._rows)[np.argsort(order)], tuple(self._boxes[place] for place in sorted(order))


def is_sure(raw_N: NDArray[np.float64], scale: Scale) -> bool:
    """Whether the standard error of the mean of raw scores, at least two, is within ``TOLERANCE``."""
    return scale.spread_to_percent(float(raw_N.std(ddof=1))) <= TOLERANCE * math.sqrt(len(raw_N))


@lru_cache(maxsize=256)
def spread_out(boxes: tuple[Box, ...]) -> tuple[int, ...]:
    """Order crops so that the first few represent all of them.

    The order minimises the maximum mean discrepancy (Gretton et al., 2012, equation 5) between the scored crops and all
    crops, with the overlap of two crops as their similarity. The first round is the best of all choices, and every
    further crop the best one to add. Computed in integers; ties go to the first.

    Args:
        boxes: Where the crops lie.

    Returns:
        Indices into ``boxes``, each once.
    """
    count = len(boxes)
    if count <= FIRST_ROUND:
        return tuple(range(count))
    left, top, right, bottom = np.array(boxes, dtype=np.int64).T
    width_NN = np.minimum.outer(right, right) - np.maximum.outer(left, left)
    height_NN = np.minimum.outer(bottom, bottom) - np.maximum.outer(top, top)
    overlap_NN = width_NN.clip(0) * height_NN.clip(0)
    own_N, all_N = overlap_NN.diagonal(), overlap_NN.sum(axis=1)

    # Squared discrepancy of a set, times the squares of both counts, without the terms that all sets of its size share.
    choices_FM = _choices(count)
    pairs_M = sum(overlap_NN[one, other] for one, other in combinations(choices_FM, 2))
    cost_M = sum((count * own_N - 2 * FIRST_ROUND * all_N)[one] for one in choices_FM) + 2 * count * pairs_M
    order = choices_FM[:, cost_M.argmin()].tolist()
    while len(order) < count:
        cost_N = count * (own_N + 2 * overlap_NN[order].sum(axis=0)) - 2 * (len(order) + 1) * all_N
        cost_N[order] = np.iinfo(np.int64).max
        order.append(int(cost_N.argmin()))
    return tuple(order)


@lru_cache(maxsize=4)
def _choices(count: int) -> NDArray[np.int64]:
    """All choices of a first round, as indices (FIRST_ROUND, M)."""
    return np.array(list(combinations(range(count), FIRST_ROUND))).T.copy()
