"""Where the stages of a backbone are active in a picture.

Source: SMART-IQA, long paper, Eq. 18: the mean over channels of the features' magnitudes, scaled to 0..1 by stage.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from model.checkpoint import Checkpoint
from model.contract import grid
from model.engine import mean_std, normalise

CROPS = 24


@torch.inference_mode()
def stage_activations(checkpoint: Checkpoint, image: Image.Image) -> tuple[Image.Image, list[NDArray[np.float32]]]:
    """Map the activity of the four stages over a whole picture.

    The network sees crops; their maps are laid over each other, those of overlapping crops averaged.

    Args:
        checkpoint: Whose backbone.
        image: An upright RGB picture.

    Returns:
        The picture as the contract resizes it, and for each stage a map (H, W) of its size, from 0 to 1.
    """
    contract = checkpoint.contract
    resized, _ = contract.resized(image)
    size = contract.crop_size
    pixels_HWC = np.asarray(resized)
    corners = grid(resized.width, resized.height, size, CROPS)
    crops_NHWC = np.stack([pixels_HWC[top : top + size, left : left + size] for left, top in corners])
    backbone = checkpoint.network.backbone
    device = next(backbone.parameters()).device
    maps = backbone(normalise(torch.from_numpy(crops_NHWC).to(device), mean_std(contract, str(device))))
    # Crops count less towards their edges, so that no seam shows.
    hat = 1 - torch.linspace(-1, 1, size + 2, device=device)[1:-1].abs()
    window_HW = torch.outer(hat, hat)
    activations = []
    for map_NCHW in maps:
        small_N1HW = map_NCHW.float().abs().mean(dim=1, keepdim=True)
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
