"""The hyper network with its ten generators merged into two matrix products."""

from typing import Any

import torch
from torch import Tensor, nn

from model.inference.convolution import FusedConv
from model.inference.linear import FusedLinear
from model.networks.hyper import HYPER_CHANNELS, TARGET_WIDTHS, HyperNetwork, TargetLayer


class MergedHyperNetwork(nn.Module):
    """A hyper network with its four generating convolutions merged into one, and its six linear layers into one.

    Args:
        hyper: The hyper network in training form.
    """

    def __init__(self, hyper: HyperNetwork) -> None:
        super().__init__()
        layers: list[Any] = [*hyper.trunk][:-1]
        self.trunk = nn.Sequential(
            *(FusedConv(conv, activation=relu) for conv, relu in zip(layers[::2], layers[1::2], strict=True))
        )
        convs, vectors = list(hyper.weight_convs), [*hyper.biases, hyper.last_weight]
        self.channels = [len(conv.get_parameter("weight")) for conv in convs]
        self.lengths = [len(layer.get_parameter("weight")) for layer in vectors]
        conv = nn.Conv2d(HYPER_CHANNELS, sum(self.channels), 3, padding=1)
        conv.weight, conv.bias = _joined(convs, "weight"), _joined(convs, "bias")
        self.maps = FusedConv(conv)
        linear = nn.Linear(HYPER_CHANNELS, sum(self.lengths))
        linear.weight, linear.bias = _joined(vectors, "weight"), _joined(vectors, "bias")
        self.vectors = FusedLinear(linear)

    def forward(self, fused_NCHW: Tensor) -> list[TargetLayer]:
        """Generate five target layers from a fused map (N, C, 7, 7)."""
        hidden = self.trunk(fused_NCHW)
        maps = self.maps(hidden)
        maps_NL = maps.contiguous().flatten(1)
        *biases, last = self.vectors(hidden.mean(dim=(2, 3))).split(self.lengths, dim=1)
        lengths = [channels * maps.shape[2] * maps.shape[3] for channels in self.channels]
        weights = [
            matrix.unflatten(1, (outputs, inputs))
            for matrix, outputs, inputs in zip(
                maps_NL.split(lengths, dim=1), TARGET_WIDTHS[1:], TARGET_WIDTHS[:-1], strict=True
            )
        ]
        weights.append(last.unflatten(1, (-1, TARGET_WIDTHS[-1])))
        return [TargetLayer(weight, bias) for weight, bias in zip(weights, biases, strict=True)]


def _joined(layers: list[nn.Module], name: str) -> nn.Parameter:
    return nn.Parameter(torch.cat([layer.get_parameter(name) for layer in layers]))
