"""Where the stages of a backbone are active in a picture.

Source: SMART-IQA, long paper, Eq. 18: the mean over channels of the features' magnitudes, scaled to 0..1 by stage.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model.checkpoint import Checkpoint
from model.engine import mean_std, normalise
from model.images import Picture

CHUNK = 16
"""Crops that the network sees at once."""


@torch.inference_mode()
def stage_activations(checkpoint: Checkpoint, picture: Picture) -> tuple[Image.Image, list[NDArray[np.float32]]]:
    """Map the activity of the four stages over a whole picture.

    The network sees crops; their maps are laid over each other, those of overlapping crops averaged.

    Args:
        checkpoint: Whose backbone.
        picture: A decoded picture.

    Raises:
        ValueError: The network has no stages.

    Returns:
        The picture as the contract resizes it, and for each stage a map (H, W) of its size, from 0 to 1.
    """
    contract = checkpoint.contract
    resized = contract.resized(picture)
    size = contract.crop_size
    pixels_HWC = np.asarray(resized)
    corners = [(left, top) for top in _starts(resized.height, size) for left in _starts(resized.width, size)]
    network = checkpoint.network
    device = next(network.parameters()).device
    statistics = mean_std(contract, str(device))
    chunks: list[list[Tensor]] = []
    for start in range(0, len(corners), CHUNK):
        crops_NHWC = np.stack(
            [pixels_HWC[top : top + size, left : left + size] for left, top in corners[start : start + CHUNK]]
        )
        maps = network.stages(normalise(torch.from_numpy(crops_NHWC).to(device), statistics))
        if maps is None:
            raise ValueError(f"{checkpoint.config.name} has no stages to map")
        chunks.append([map_NCHW.float().abs().mean(dim=1, keepdim=True) for map_NCHW in maps])
    # Crops count less towards their edges, so that no seam shows.
    hat = 1 - torch.linspace(-1, 1, size + 2, device=device)[1:-1].abs()
    window_HW = torch.outer(hat, hat)
    activations = []
    for stage in zip(*chunks, strict=True):
        small_N1HW = torch.cat(stage)
        large_NHW = F.interpolate(small_N1HW, size=(size, size), mode="bilinear", align_corners=False).squeeze(1)
        total_HW = torch.zeros(resized.height, resized.width, device=device)
        weight_HW = torch.zeros_like(total_HW)
        for (left, top), crop_HW in zip(corners, large_NHW, strict=True):
            place = (slice(top, top + size), slice(left, left + size))
            total_HW[place] += crop_HW * window_HW
            weight_HW[place] += window_HW
        mean_HW = total_HW / weight_HW
        low, high = mean_HW.min(), mean_HW.max()
        activations.append(((mean_HW - low) / (high - low).clamp_min(1e-12)).cpu().numpy())
    return resized, activations


def _starts(side: int, size: int) -> list[int]:
    """Starts of crops along a side, edge to edge, that overlap by a quarter at least."""
    steps = math.ceil((side - size) / (0.75 * size))
    return [index * (side - size) // steps for index in range(steps + 1)] if steps else [0]
