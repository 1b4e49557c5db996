"""Where the crops of a picture lie, and how overlapping ones are blended."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images.facts import Box

Shares = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a picture, as shares of its sides."""


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


def cut(
    pixels_HWC: NDArray[np.uint8], size: int, zooms: Sequence[float], count: int
) -> tuple[NDArray[np.uint8], list[Shares]]:
    """Cut square crops from a picture at several sizes of it, larger sizes first.

    Args:
        pixels_HWC: The picture, not smaller than a crop.
        size: Side of a crop, in pixels.
        zooms: Sizes, as shares of the picture's sides, largest first; none is used that is smaller than a crop.
        count: Number of crops, split evenly among the sizes; odd ones go to the smaller sizes.

    Returns:
        The crops (N, size, size, 3), and where they lie.
    """
    height, width, _ = pixels_HWC.shape
    factors = [max(zoom, size / min(width, height)) for zoom in zooms]
    sizes = list(dict.fromkeys((max(round(width * one), size), max(round(height * one), size)) for one in factors))
    sizes = sizes[-count:]
    crops, places = [], []
    for number, (across, down) in enumerate(sizes):
        zoomed_HWC = _resized(pixels_HWC, across, down)
        for left, top in grid(across, down, size, (count + number) // len(sizes)):
            crops.append(zoomed_HWC[top : top + size, left : left + size])
            places.append((left / across, top / down, (left + size) / across, (top + size) / down))
    return np.stack(crops), places


def enlarged(size: tuple[int, int]) -> Callable[[Shares], Box]:
    """A function from shares of a picture's sides to a box in pixels of a copy with this width and height."""
    width, height = size
    return lambda place: (
        round(place[0] * width),
        round(place[1] * height),
        round(place[2] * width),
        round(place[3] * height),
    )


def hat(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weight of a crop at positions along one side: 1 in its middle (0.5), falling to 0 at its edges (0, 1) and beyond.

    Where overlapping crops are blended with it, no edge shows.
    """
    weight: NDArray[np.float64] = np.maximum(1 - np.abs(2 * position - 1), 0)
    return weight


def _resized(pixels_HWC: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    if pixels_HWC.shape[:2] == (height, width):
        return pixels_HWC
    return np.asarray(Image.fromarray(pixels_HWC).resize((width, height), Image.Resampling.BILINEAR))


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
