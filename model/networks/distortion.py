"""Local-distortion-aware (LDA) vectors: the input of the target network.

Source: HyperIQA (Su et al., CVPR 2020), section 3.3 and its released code. Each stage gives a short vector, without an
activation function; the concatenation has 224 entries.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.networks.hyper import TARGET_WIDTHS

STAGE_PLAN = ((16, 8), (32, 4), (64, 2))
"""Channels and pooled side of the first three stages; the fourth is pooled to one value per channel."""
STAGE_LENGTH = 16


class LocalDistortion(nn.Module):
    """Concatenated local-distortion vectors of four feature maps.

    Args:
        channels: Channels of the four feature maps, shallowest first.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 1, bias=False)
            for inputs, (outputs, _) in zip(channels[:-1], STAGE_PLAN, strict=True)
        )
        lengths = [outputs * side**2 for outputs, side in STAGE_PLAN]
        last = TARGET_WIDTHS[0] - STAGE_LENGTH * len(STAGE_PLAN)
        self.linears = nn.ModuleList([*(nn.Linear(n, STAGE_LENGTH) for n in lengths), nn.Linear(channels[-1], last)])
        for layer in (*self.convs, *self.linears):
            nn.init.kaiming_normal_(layer.get_parameter("weight"))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Reduce four feature maps (N, C_i, H_i, W_i) to vectors (N, 224)."""
        # A 1x1 convolution without bias commutes with average pooling, and is cheaper after it.
        reduced = [
            conv(F.adaptive_avg_pool2d(map_, side))
            for conv, map_, (_, side) in zip(self.convs, maps[:-1], STAGE_PLAN, strict=True)
        ]
        flat = [*(map_.flatten(1) for map_ in reduced), maps[-1].mean(dim=(2, 3))]
        return torch.cat([linear(vector) for linear, vector in zip(self.linears, flat, strict=True)], dim=1)
