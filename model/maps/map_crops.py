"""Map crops: the crops behind the quality map of a picture.

The crops behind a score each see nearly the whole picture, so a map of their scores would be flat. Map crops have the
same size, but are cut half a crop apart from a copy of the picture with up to twice the sides, so each sees only a
part. They are scored like any other crop and do not count towards the picture's score. Imports no torch.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.contract import SCALED_MARGIN, Contract
from model.defects import LOCAL_DEFECTS
from model.grid import hat
from model.images import Picture

FACTOR = SCALED_MARGIN
"""The copy has at most this many times the sides that the contract resizes to: as much as scaled decoding keeps."""
MAX_CROPS = 24
"""Map crops of one picture, at most."""
CELLS = 32
"""Cells of a map along the longer side of the picture."""
STEPS = 100
"""Sizes of the copy that ``layout`` tries, from the largest down to one that is a single crop high or wide."""
MAP_ID = f"spots-{FACTOR}-{MAX_CROPS}-{CELLS}"
"""Names the rule that maps are made by, in ETags: it changes whenever the map of a picture could."""


Cells = tuple[tuple[float, ...], ...]
"""A row of numbers for each row of a map's cells, from the top left."""


class Layout(NamedTuple):
    """Where the map crops of a picture lie: on a grid of columns and rows in a resized copy.

    Attributes:
        width: Width of the copy, in pixels.
        height: Height of the copy, in pixels.
        lefts: Left edge of each column of crops in the copy, in pixels.
        tops: Upper edge of each row, in pixels.
        side: Side of a crop, in pixels.
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
        defects: Severities of 0 to 1 in the same form for each defect that is local, by name; empty if none is found.
    """

    scores: Cells
    defects: Mapping[str, Cells] = field(default_factory=dict)

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
        map_: dict[str, Any] = {"rows": self.rows, "columns": self.columns, "scores": self.scores}
        return {**map_, "defects": dict(self.defects)} if self.defects else map_


@dataclass(frozen=True, kw_only=True)
class MapCrops:
    """The map crops of one picture.

    Attributes:
        items: The crops, (N, side, side, 3) uint8 RGB, row by row.
        layout: Where they lie.
        original: Width and height of the upright picture, in pixels.
    """

    items: NDArray[np.uint8] = field(repr=False)
    layout: Layout
    original: tuple[int, int]

    @property
    def count(self) -> int:
        """Number of crops."""
        return len(self.items)

    @property
    def nbytes(self) -> int:
        """Memory of the crops, in bytes."""
        return self.items.nbytes

    def score_map(self, rows_ND: NDArray[np.float32], contract: Contract) -> ScoreMap:
        """Blend the scores of the crops, and their local defects, into maps; a crop counts most in its middle.

        Args:
            rows_ND: One row per crop, as an engine gives them.
            contract: The contract that they were cut by.
        """
        found = contract.columns(rows_ND)
        scores_N = np.array([contract.scale.to_percent(float(raw)) for raw in found.raw_N])
        local = [(place, name) for place, name in enumerate(contract.defects) if name in LOCAL_DEFECTS]
        where, longer = self.layout, max(self.original)
        columns, rows = (max(round(CELLS * one / longer), 1) for one in self.original)
        down = _shares(where.tops, where.side, where.height, rows)
        across = _shares(where.lefts, where.side, where.width, columns)

        def blended(values_N: NDArray[np.float64], decimals: int) -> Cells:
            map_HW = down @ values_N.reshape(len(where.tops), len(where.lefts)) @ across.T
            return tuple(tuple(round(float(value), decimals) for value in row) for row in map_HW)

        return ScoreMap(
            scores=blended(scores_N, 2),
            defects={name: blended(found.severities_ND[:, place], 3) for place, name in local},
        )

    def activity_map(self, maps_NHW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Blend activity maps of the crops into one of the whole picture, from 0 to 1 (SMART-IQA, long paper, Eq. 18).

        Args:
            maps_NHW: One map per crop, of any size.

        Returns:
            A map (H, W) of the size of the copy.
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
    """Lay map crops over a picture, from edge to edge.

    The copy is as large as ``MAX_CROPS`` crops, half a crop apart, can cover; it is at most ``FACTOR`` times the size
    that the contract resizes to, and not larger than the picture. It is never smaller than one crop, so the crops of a
    long strip lie further apart.

    Args:
        contract: A contract of crops or whole views.
        width: Width of the upright picture, in pixels.
        height: Height of the upright picture, in pixels.
    """
    assert contract.view != "tokens", "tokens are of the whole picture"
    side = contract.crop_size
    base = contract.target_size(width, height)
    largest = max(min(FACTOR, width / base[0], height / base[1]), 1.0)
    smallest = side / min(base)
    for step in range(STEPS + 1):
        factor = largest + (smallest - largest) * step / STEPS
        across, down = (max(round(one * factor), side) for one in base)
        lefts, tops = _starts(across, side), _starts(down, side)
        if len(lefts) * len(tops) <= MAX_CROPS:
            break
    else:
        lefts, tops = (
            starts if len(starts) == 1 else _spread(one - side, MAX_CROPS)
            for starts, one in ((lefts, across), (tops, down))
        )
    return Layout(across, down, lefts, tops, side)


def resized(picture: Picture, contract: Contract) -> Image.Image:
    """Resize a picture, from ``Contract.decode``, to the copy that its map crops are cut from."""
    size = layout(contract, *picture.facts.size)[:2]
    return picture.image if size == picture.image.size else picture.image.resize(size, Image.Resampling.BILINEAR)


def cut(copy_HWC: NDArray[np.uint8], original: tuple[int, int], contract: Contract) -> MapCrops:
    """Cut the map crops of a picture.

    Args:
        copy_HWC: The copy of the picture, from ``resized``.
        original: Width and height of the upright picture, in pixels.
        contract: The contract that it was resized by.
    """
    where = layout(contract, *original)
    side = where.side
    items = [copy_HWC[top : top + side, left : left + side] for top in where.tops for left in where.lefts]
    return MapCrops(items=np.stack(items), layout=where, original=original)


def _starts(length: int, side: int) -> tuple[int, ...]:
    free = length - side
    return _spread(free, -(-2 * free // side) + 1)


def _spread(free: int, count: int) -> tuple[int, ...]:
    return tuple(index * free // (count - 1) for index in range(count)) if count > 1 else (0,)


def _shares(starts: tuple[int, ...], side: int, length: int, cells: int) -> NDArray[np.float64]:
    """Weights (cells, crops) of the crops along one side of the picture in each cell; rows sum to 1."""
    # Crops further apart than half of their side count as far as the middle of the next, so that no cell is empty.
    reach = max([side, *(2 * (after - before) for before, after in itertools.pairwise(starts))])
    middles = np.array(starts) + side / 2
    centres = (np.arange(cells) + 0.5) / cells * length
    weights = hat((centres[:, None] - middles) / reach + 0.5)
    shares: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return shares
