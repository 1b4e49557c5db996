"""What a network reads of a picture, its work items; and what it answers for each, its rows. Imports no torch."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.images import ImageWarning
from model.images.facts import Box

Items = NDArray[np.uint8] | NDArray[np.float32]
"""Work items, the inputs of a network: crops (N, size, size, 3) uint8, or tokens (N, T, 3075) float32."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """The work items of one picture.

    Attributes:
        items: (N, size, size, 3) uint8 RGB crops; or of the whole picture, (1, height, width, 3) uint8 RGB or
            (1, T, 3075) float32 tokens.
        boxes: Box of each item in the upright picture, in pixels of that picture: of ``items``, then of ``details``.
        warnings: Warnings about the picture: enlarged, of extreme aspect, or outside the domain.
        details: (N, size, size, 3) uint8 RGB crops of the picture at full size; None if there are none.
    """

    items: Items
    boxes: tuple[Box, ...]
    warnings: tuple[ImageWarning, ...]
    details: NDArray[np.uint8] | None = None


class Details(NamedTuple):
    """What a close look at a picture gives: crops (N, size, size, 3) uint8 RGB, and their boxes as in ``Views``."""

    crops_NHWC: NDArray[np.uint8]
    boxes: tuple[Box, ...]


class Columns(NamedTuple):
    """What the rows of N items hold; parts that a network does not give have no columns.

    Attributes:
        raw_N: Raw scores, on the scale of the training labels.
        stage_weights_NS: Weights of the four stages.
        interval_NK: What ``Interval.around`` reads.
        probabilities_ND: Probability of each of the contract's defects, 0 to 1.
        severities_ND: Severity of each, 0 to 1.
        description_NK: Numbers that are alike for pictures that are alike.
    """

    raw_N: NDArray[np.float64]
    stage_weights_NS: NDArray[np.float64]
    interval_NK: NDArray[np.float64]
    probabilities_ND: NDArray[np.float64]
    severities_ND: NDArray[np.float64]
    description_NK: NDArray[np.float64]
