"""Where the crops of a picture lie, and how overlapping ones are blended."""

import math

import numpy as np
from numpy.typing import NDArray


def grid(width: int, height: int, size: int, count: int) -> list[tuple[int, int]]:
    """Spread square crops evenly over a picture, from edge to edge.

    The number of rows makes the steps across and down as alike as possible. If the count does not divide evenly, some
    rows hold one crop more, symmetrically about the middle where possible. Repeated positions, in a picture hardly
    larger than a crop, are returned once.

    Args:
        width: Picture width in pixels, at least ``size``.
        height: Picture height in pixels, at least ``size``.
        size: Side of a crop, in pixels.
        count: Number of crops.

    Returns:
        Left and top of each crop in pixels, row by row.
    """
    rows = _row_count(width - size, height - size, count)
    base, extra = divmod(count, rows)
    longer = _longer_rows(rows, extra)
    corners = [
        (left, top)
        for row, top in enumerate(_spread(height - size, rows))
        for left in _spread(width - size, base + (row in longer))
    ]
    return list(dict.fromkeys(corners))


def hat(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weight of a crop at positions along one side: 1 in its middle (0.5), falling to 0 at its edges (0, 1) and beyond.

    Where overlapping crops are blended with it, no edge shows.
    """
    weight: NDArray[np.float64] = np.maximum(1 - np.abs(2 * position - 1), 0)
    return weight


def _row_count(free_width: int, free_height: int, count: int) -> int:
    if free_height == 0 or count == 1:
        return 1
    if free_width == 0:
        return count
    rows = round(math.sqrt(count * free_height / free_width))
    # Four crops or more take at least two rows of two, so that they reach all four edges.
    lowest, highest = (2, count // 2) if count >= 4 else (1, count)
    return min(max(rows, lowest), highest)


def _longer_rows(rows: int, extra: int) -> set[int]:
    """Choose the ``extra`` rows with one crop more: an odd one in the middle, the others in pairs from outside."""
    longer = {rows // 2} if extra % 2 else set()
    for row in range(rows // 2):
        if len(longer) + 2 <= extra:
            longer |= {row, rows - 1 - row}
    return longer


def _spread(free: int, count: int) -> list[int]:
    return [free // 2] if count == 1 else [index * free // (count - 1) for index in range(count)]
