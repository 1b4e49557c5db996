"""Multi-scale patch tokens of a whole picture: what MUSIQ sees instead of crops.

Source: MUSIQ (Ke et al., ICCV 2021) and Google's inference code. Pixels are scaled to -1..1. There is one small copy of
the picture for each longer side, smallest first, then the picture at full size. Each is padded with zeros to multiples
of the patch (half before, the rest after) and cut row by row. The small copies are resized without antialiasing:
bicubically as in pyiqa's port, or with TensorFlow's Gaussian kernel as in Google's code.

A token has 3,075 numbers: 3 x 32 x 32 pixels, its cell on the position grid, its scale, and 1 (0 for padding).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.token_shapes import FULL_LENGTHS, GRID, LONGER_SIDES, PATCH, Kernel, full_length, small_length

GAUSSIAN_RADIUS, GAUSSIAN_SIGMA = 1.5, 0.5
"""In pixels of the picture before resizing, whatever the factor."""


def cut(
    pixels_HWC: NDArray[np.uint8], longer_sides: Sequence[int] = LONGER_SIDES, kernel: Kernel = "bicubic"
) -> NDArray[np.float32]:
    """Cut the tokens of an RGB picture.

    Args:
        pixels_HWC: An upright RGB picture, uint8.
        longer_sides: Longer sides of the small copies, in pixels; the full-size picture always comes last.
        kernel: How the small copies are resized.

    Returns:
        (T, 3075) tokens. Each small copy is padded to the square of its side, the full-size picture to one of
        ``FULL_LENGTHS``.

    Raises:
        ValueError: The picture has more patches than the largest of ``FULL_LENGTHS``.
    """
    pixels_1CHW = torch.from_numpy(np.array(pixels_HWC)).permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1
    height, width = pixels_1CHW.shape[2:]
    parts = []
    for scale, side in enumerate(longer_sides):
        factor = side / max(height, width)
        size = max(round(height * factor), 1), max(round(width * factor), 1)
        small = (
            F.interpolate(pixels_1CHW, size, mode="bicubic", align_corners=False)
            if kernel == "bicubic"
            else _gaussian(pixels_1CHW, size)
        )
        parts.append(_padded(patches(small, scale), small_length((side,))))
    full = patches(pixels_1CHW, len(longer_sides))
    length = full_length(len(full))
    if not length:
        raise ValueError(f"{width}x{height} gives {len(full)} patches, more than {FULL_LENGTHS[-1]}")
    parts.append(_padded(full, length))
    items_TL: NDArray[np.float32] = torch.cat(parts).numpy()
    return items_TL


def patches(pixels_1CHW: Tensor, scale: int) -> Tensor:
    """Cut one copy of a picture into tokens (T, 3075), row by row."""
    height, width = pixels_1CHW.shape[2:]
    rows, columns = math.ceil(height / PATCH), math.ceil(width / PATCH)
    below, right = rows * PATCH - height, columns * PATCH - width
    padded = F.pad(pixels_1CHW, (right // 2, right - right // 2, below // 2, below - below // 2))
    pixels_TP = F.unfold(padded, PATCH, stride=PATCH)[0].T
    facts = torch.ones(len(pixels_TP), 3)
    facts[:, 0] = position_cells(rows, columns)
    facts[:, 1] = scale
    return torch.cat([pixels_TP, facts], dim=1)


def position_cells(rows: int, columns: int) -> Tensor:
    """Index of the cell on the 10 x 10 grid of learned positions for each patch, row by row."""
    down, across = torch.arange(rows) * GRID // rows, torch.arange(columns) * GRID // columns
    return (down[:, None] * GRID + across).flatten()


def _gaussian(pixels_1CHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize with TensorFlow's Gaussian kernel, in fp64 so that the order of summation does not change the result."""
    down, across = (
        _gaussian_weights(inputs, outputs) for inputs, outputs in zip(pixels_1CHW.shape[2:], size, strict=True)
    )
    return (down @ pixels_1CHW.double() @ across.T).float()


def _gaussian_weights(inputs: int, outputs: int) -> Tensor:
    """Weights (outputs, inputs) of the pixels of a line in each pixel of the resized line; rows sum to 1."""
    centres_O = (torch.arange(outputs, dtype=torch.float64) + 0.5) * inputs / outputs
    distances_OI = (torch.arange(inputs, dtype=torch.float64) + 0.5 - centres_O[:, None]).abs()
    weights_OI = (-(distances_OI**2) / (2 * GAUSSIAN_SIGMA**2)).exp() * (distances_OI < GAUSSIAN_RADIUS)
    return weights_OI / weights_OI.sum(dim=1, keepdim=True)


def _padded(tokens_TL: Tensor, length: int) -> Tensor:
    return F.pad(tokens_TL, (0, 0, 0, length - len(tokens_TL)))
