"""The hyper network and the target network that it parametrises.

Source: HyperIQA (Su et al., CVPR 2020), whose 224-112-56-28-14-1 target network SMART-IQA keeps. For each crop the
hyper network generates the weights of a small perceptron, the target network, from the semantic features. The target
network then computes the score from the local-distortion vector of the crop.

Shapes: N crops, I and O the inputs and outputs of a target layer.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GRID = 7
"""Side of the feature map that the hyper network reads."""
HYPER_CHANNELS = 112
TARGET_WIDTHS = (224, 112, 56, 28, 14)
"""Input widths of the five target layers."""


class TargetLayer(NamedTuple):
    """One generated layer: weight (N, O, I) and bias (N, O)."""

    weight: Tensor
    bias: Tensor


class HyperNetwork(nn.Module):
    """Generates the parameters of one target network per crop from a fused feature map: 33,545 for a single output.

    Args:
        in_channels: Channels of the fused map.
        trunk: Widths of the 1x1 convolutions before the last one, which has 112 channels.
        dropout: Dropout probability after these convolutions.
        outputs: Outputs of the target network.
    """

    def __init__(self, in_channels: int, trunk: tuple[int, ...], dropout: float, outputs: int = 1) -> None:
        super().__init__()
        widths = (in_channels, *trunk, HYPER_CHANNELS)
        layers: list[nn.Module] = []
        for wider, narrower in pairwise(widths):
            layers += [nn.Conv2d(wider, narrower, 1), nn.ReLU()]
        self.trunk = nn.Sequential(*layers, nn.Dropout(dropout))

        self.weight_convs = nn.ModuleList(
            nn.Conv2d(HYPER_CHANNELS, inputs * outputs // GRID**2, 3, padding=1)
            for inputs, outputs in pairwise(TARGET_WIDTHS)
        )
        self.last_weight = nn.Linear(HYPER_CHANNELS, outputs * TARGET_WIDTHS[-1])
        self.biases = nn.ModuleList(nn.Linear(HYPER_CHANNELS, width) for width in (*TARGET_WIDTHS[1:], outputs))
        for generator in (*self.weight_convs, self.last_weight, *self.biases):
            nn.init.kaiming_normal_(generator.get_parameter("weight"))

    def forward(self, fused_NCHW: Tensor) -> list[TargetLayer]:
        """Generate five target layers from a fused map (N, C, 7, 7)."""
        hidden = self.trunk(fused_NCHW)
        pooled = hidden.mean(dim=(2, 3))
        # A generated map (N, O * I / 49, 7, 7) is read row-major, whatever its memory format, as the O x I matrix.
        weights = [
            conv(hidden).reshape(-1, outputs, inputs)
            for conv, inputs, outputs in zip(self.weight_convs, TARGET_WIDTHS[:-1], TARGET_WIDTHS[1:], strict=True)
        ]
        weights.append(self.last_weight(pooled).unflatten(1, (-1, TARGET_WIDTHS[-1])))
        return [TargetLayer(weight, bias(pooled)) for weight, bias in zip(weights, self.biases, strict=True)]


class TargetNetwork(nn.Module):
    """A perceptron with generated parameters: sigmoid layers, then a linear one.

    The generated weights are applied by batched matmul; grouped convolutions, the usual form, are slower and cannot be
    exported. Autocast is off, because a bf16 output would move in steps of 0.2 to 0.4 points of 100. Outside training
    it computes in fp64: its matrices are so small that fp32 libraries sum them in an order that depends on a crop's
    place in the batch.

    Args:
        dropout: Dropout probability after the first three layers.

    Attributes:
        precision: The type that it computes in outside training.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.precision = torch.float64

    def forward(self, vector_NI: Tensor, layers: list[TargetLayer]) -> Tensor:
        """Compute outputs (N, O) from local-distortion vectors (N, 224)."""
        dtype = torch.float32 if self.training else self.precision
        hidden_NI1 = vector_NI.to(dtype).unsqueeze(-1)
        with torch.autocast(hidden_NI1.device.type, enabled=False):
            for index, layer in enumerate(layers):
                hidden_NI1 = torch.baddbmm(layer.bias.to(dtype).unsqueeze(-1), layer.weight.to(dtype), hidden_NI1)
                if index < 4:
                    hidden_NI1 = torch.sigmoid(hidden_NI1)
                if index < 3:
                    hidden_NI1 = self.dropout(hidden_NI1)
        return hidden_NI1.squeeze(-1)


def pool_to_grid(map_NCHW: Tensor) -> Tensor:
    """Average-pool a feature map to the 7x7 grid that the hyper network reads."""
    return F.adaptive_avg_pool2d(map_NCHW, GRID)
