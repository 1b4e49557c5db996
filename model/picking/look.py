"""What picking keeps of a picture beside its score: small copies, and where it is sharp. Less than five kilobytes.

Distances between pictures that lie next to each other in time or in what they show are computed from this alone, so no
picture is decoded twice.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images import Picture, capture
from model.images.capture import Capture
from model.images.facts import Box

SIDE = 64
"""Side of the small copy."""
CELLS = 12
"""Cells that are looked at for sharpness, along each side of the picture."""
BLOCK = 64
"""Side of the square in the middle of each cell, in pixels of the full size, at most."""
COLOURS = 8
"""Side of the small copy in colour."""
BYTES = SIDE**2 + 3 * COLOURS**2 + 2 * CELLS**2
LEAST_CONTRAST = 12.0
"""Contrast of a block, in 8-bit values, below which it has no edge that tells how sharp it is."""
_NEARLY_ALL = 0.01
"""Share of the pixels that may lie beyond what counts as a block's highest and lowest value."""


@dataclass(frozen=True)
class Look:
    """A picture in small.

    Attributes:
        capture: How it was taken.
        luma_HW: Its brightness, (SIDE, SIDE) uint8, whatever its aspect.
        colours_HWC: Its colours, (COLOURS, COLOURS, 3) uint8 RGB.
        acuity_HW: How sharp the sharpest edges of each cell are, (CELLS, CELLS) uint8: the share of a cell's contrast
            that lies within two pixels, times 255.
        contrast_HW: The contrast of each cell, (CELLS, CELLS) uint8.
    """

    capture: Capture
    luma_HW: NDArray[np.uint8]
    colours_HWC: NDArray[np.uint8]
    acuity_HW: NDArray[np.uint8]
    contrast_HW: NDArray[np.uint8]

    @classmethod
    def at(cls, picture: Picture, data: bytes = b"") -> "Look":
        """Look at a picture.

        Args:
            picture: The picture.
            data: The file that it was decoded from, if there is one: it tells how the picture was taken.

        Raises:
            ImageError: It cannot be decoded at full size.
        """
        small = picture.image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
        acuity_HW, contrast_HW = _sharpness(picture)
        colours_HWC = np.asarray(small.resize((COLOURS, COLOURS), Image.Resampling.BOX))
        return cls(capture.read(data), np.asarray(small.convert("L")), colours_HWC, acuity_HW, contrast_HW)

    def to_bytes(self) -> bytes:
        """The pixels as ``BYTES`` bytes."""
        parts = self.luma_HW, self.colours_HWC, self.acuity_HW, self.contrast_HW
        return b"".join(part.tobytes() for part in parts)

    @classmethod
    def from_bytes(cls, data: bytes, taken: Capture) -> "Look":
        """The look of ``to_bytes`` at a picture.

        Args:
            data: The bytes.
            taken: How the picture was taken.

        Raises:
            ValueError: It is not as long.
        """
        values = np.frombuffer(data, np.uint8)
        if len(values) != BYTES:
            raise ValueError(f"a look has {BYTES} bytes, not {len(values)}")
        shapes = (SIDE, SIDE), (COLOURS, COLOURS, 3), (CELLS, CELLS), (CELLS, CELLS)
        parts = np.split(values, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
        return cls(taken, *(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)))


def _sharpness(picture: Picture) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Acuity and contrast of the cells of a picture, from a square of its full size in the middle of each."""
    width, height = picture.close.size
    side = min(BLOCK, width // CELLS, height // CELLS)
    if side < 6:
        return (np.zeros((CELLS, CELLS), np.uint8),) * 2
    lefts, tops = (
        [round((place + 0.5) * length / CELLS - side / 2) for place in range(CELLS)] for length in (width, height)
    )
    boxes: list[Box] = [(left, top, left + side, top + side) for top in tops for left in lefts]
    blocks_NHW = np.stack([np.asarray(part.convert("L"), np.float32) for part in picture.close.cut(boxes)])
    # Single wrong pixels are no edges, and what is left of noise shows less in two by two pixels.
    blocks_NHW = _middle(blocks_NHW[:, :-2], blocks_NHW[:, 1:-1], blocks_NHW[:, 2:])
    blocks_NHW = _middle(blocks_NHW[:, :, :-2], blocks_NHW[:, :, 1:-1], blocks_NHW[:, :, 2:])
    rows_NHW = (blocks_NHW[:, 1:] + blocks_NHW[:, :-1]) / 2
    soft_NHW: NDArray[np.float32] = ((rows_NHW[:, :, 1:] + rows_NHW[:, :, :-1]) / 2).astype(np.float32)
    down_NHW, across_NHW = np.diff(soft_NHW, axis=1)[:, :, 1:], np.diff(soft_NHW, axis=2)[:, 1:]
    steepest_N = _high(np.hypot(down_NHW, across_NHW).astype(np.float32))
    contrast_N = _high(soft_NHW) + _high(-soft_NHW)
    acuity_N = np.where(contrast_N >= LEAST_CONTRAST, steepest_N / contrast_N.clip(1), 0)
    cells = (CELLS, CELLS)
    return (255 * acuity_N.clip(0, 1)).astype(np.uint8).reshape(cells), contrast_N.clip(0, 255).astype(
        np.uint8
    ).reshape(cells)


def _middle(one: NDArray[np.float32], two: NDArray[np.float32], three: NDArray[np.float32]) -> NDArray[np.float32]:
    """The median of three values each."""
    middle: NDArray[np.float32] = np.maximum(np.minimum(one, two), np.minimum(np.maximum(one, two), three))
    return middle


def _high(values_NHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """The value of each block that all but a few of its values lie below."""
    flat_NM = values_NHW.reshape(len(values_NHW), -1)
    place = int((1 - _NEARLY_ALL) * (flat_NM.shape[1] - 1))
    high_N: NDArray[np.float32] = np.partition(flat_NM, place, axis=1)[:, place]
    return high_N
