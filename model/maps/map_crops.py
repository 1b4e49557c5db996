"""Spots: crops of a larger copy of a picture, denser than those behind its score, and the map of quality made of them.

The crops behind a score see nearly the whole picture each; a map of their scores would be flat. Spots are crops of the
same size out of a copy with up to twice the sides, half a crop apart, so each of them sees a part alone. They are
scored like any other crop, and have no part in the picture's score. Nothing here needs torch.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.contract import SCALED_MARGIN, Contract
from model.grid import hat
from model.images import Picture

FACTOR = SCALED_MARGIN
"""The copy has so many times the sides that the contract resizes to, at most: what scaled decoding leaves."""
MOST = 24
"""Spots of one picture."""
CELLS = 32
"""Cells of a map along the longer side."""
STEPS = 100
"""Sizes of the copy that are tried, from the largest to one that is a crop high or wide."""
PLAN = f"spots-{FACTOR}-{MOST}-{CELLS}"
"""Differs whenever a map could."""


class Layout(NamedTuple):
    """Where the spots of a picture lie.

    Attributes:
        width: Of the copy that they are cut from, in pixels.
        height: Of that copy.
        lefts: Left edges of the columns of spots in that copy.
        tops: Upper edges of the rows.
        side: Of a spot.
    """

    width: int
    height: int
    lefts: tuple[int, ...]
    tops: tuple[int, ...]
    side: int


@dataclass(frozen=True, kw_only=True)
class ScoreMap:
    """Local scores over a whole upright picture, in cells of equal size.

    Attributes:
        scores: A row of scores of 0 to 100 for each row of cells, from the top left; rounded to two decimals.
    """

    scores: tuple[tuple[float, ...], ...]

    @property
    def rows(self) -> int:
        """Cells from top to bottom."""
        return len(self.scores)

    @property
    def columns(self) -> int:
        """Cells from left to right."""
        return len(self.scores[0])

    def to_dict(self) -> dict[str, Any]:
        """The map as JSON holds it, the same from the service and from Python."""
        return {"rows": self.rows, "columns": self.columns, "scores": self.scores}


@dataclass(frozen=True, kw_only=True)
class Spots:
    """The spots of one picture.

    Attributes:
        items: (N, side, side, 3) uint8 RGB, row by row.
        layout: Where they lie.
        original: Width and height of the upright picture, in pixels.
    """

    items: NDArray[np.uint8] = field(repr=False)
    layout: Layout
    original: tuple[int, int]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.items)

    @property
    def nbytes(self) -> int:
        """Their memory."""
        return self.items.nbytes

    def score_map(self, rows_ND: NDArray[np.float32], contract: Contract) -> ScoreMap:
        """Blend the spots' scores: each counts most in its middle.

        Args:
            rows_ND: Of the spots, as an engine gives them.
            contract: What they were cut by.
        """
        raw_N = contract.raw(rows_ND[:, 0].astype(np.float64))
        scores_N = np.array([contract.scale.to_percent(float(raw)) for raw in raw_N])
        where, longer = self.layout, max(self.original)
        columns, rows = (max(round(CELLS * one / longer), 1) for one in self.original)
        down = _shares(where.tops, where.side, where.height, rows)
        across = _shares(where.lefts, where.side, where.width, columns)
        map_HW = down @ scores_N.reshape(len(where.tops), len(where.lefts)) @ across.T
        return ScoreMap(scores=tuple(tuple(round(float(score), 2) for score in row) for row in map_HW))

    def activity_map(self, maps_NHW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Lay maps of the spots over each other, scaled to 0..1 (SMART-IQA, long paper, Eq. 18).

        Args:
            maps_NHW: A map of each spot, of any size.

        Returns:
            A map (H, W) of the copy's size.
        """
        where = self.layout
        shape = (where.height, where.width)
        # Crops count less towards their edges, so that no seam shows.
        window_H = hat((np.arange(where.side) + 0.5) / where.side)
        window_HW = np.outer(window_H, window_H).astype(np.float32)
        total_HW, weight_HW = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        corners = [(top, left) for top in where.tops for left in where.lefts]
        for (top, left), map_HW in zip(corners, maps_NHW, strict=True):
            large = Image.fromarray(map_HW).resize((where.side, where.side), Image.Resampling.BILINEAR)
            place = (slice(top, top + where.side), slice(left, left + where.side))
            total_HW[place] += np.asarray(large) * window_HW
            weight_HW[place] += window_HW
        mean_HW = total_HW / weight_HW
        low, high = mean_HW.min(), mean_HW.max()
        scaled: NDArray[np.float32] = (mean_HW - low) / max(high - low, np.float32(1e-12))
        return scaled


def layout(contract: Contract, width: int, height: int) -> Layout:
    """Lay spots over a picture, from edge to edge and without gaps.

    The copy is as large as it can be with half a crop from one spot to the next, within ``MOST`` spots, ``FACTOR`` and
    the picture's own size; it is no smaller than one crop, so that long strips have their spots further apart.

    Args:
        contract: One of crops.
        width: Of the upright picture, in pixels.
        height: Of the upright picture.
    """
    assert contract.view == "crops", "tokens are of the whole picture"
    side = contract.crop_size
    base = contract.target_size(width, height)
    largest = max(min(FACTOR, width / base[0], height / base[1]), 1.0)
    smallest = side / min(base)
    for step in range(STEPS + 1):
        factor = largest + (smallest - largest) * step / STEPS
        across, down = (max(round(one * factor), side) for one in base)
        lefts, tops = _starts(across, side), _starts(down, side)
        if len(lefts) * len(tops) <= MOST:
            break
    else:
        lefts, tops = (
            starts if len(starts) == 1 else _spread(one - side, MOST) for starts, one in ((lefts, across), (tops, down))
        )
    return Layout(across, down, lefts, tops, side)


def resized(picture: Picture, contract: Contract) -> Image.Image:
    """The copy of a picture, from ``Contract.decode``, that its spots are cut from."""
    size = layout(contract, *picture.facts.size)[:2]
    return picture.image if size == picture.image.size else picture.image.resize(size, Image.Resampling.BILINEAR)


def cut(copy_HWC: NDArray[np.uint8], original: tuple[int, int], contract: Contract) -> Spots:
    """Cut spots.

    Args:
        copy_HWC: From ``resized``.
        original: Width and height of the picture that was sent, in pixels.
        contract: What it was resized by.
    """
    where = layout(contract, *original)
    side = where.side
    items = [copy_HWC[top : top + side, left : left + side] for top in where.tops for left in where.lefts]
    return Spots(items=np.stack(items), layout=where, original=original)


def _starts(length: int, side: int) -> tuple[int, ...]:
    free = length - side
    return _spread(free, -(-2 * free // side) + 1)


def _spread(free: int, count: int) -> tuple[int, ...]:
    return tuple(index * free // (count - 1) for index in range(count)) if count > 1 else (0,)


def _shares(starts: tuple[int, ...], side: int, length: int, cells: int) -> NDArray[np.float64]:
    """How much each crop along a side counts in each cell, (cells, crops); rows sum to 1."""
    # Where crops lie further apart than half of their side, each reaches as far as the middle of the next.
    reach = max([side, *(2 * (after - before) for before, after in itertools.pairwise(starts))])
    middles = np.array(starts) + side / 2
    centres = (np.arange(cells) + 0.5) / cells * length
    weights = hat((centres[:, None] - middles) / reach + 0.5)
    shares: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return shares
