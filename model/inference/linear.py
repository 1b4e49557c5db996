"""A linear layer with the activation behind it in one call."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["none", "gelu"]

# What torch.compile emits for CPUs. The names are not public, but have been the same since torch 2.0; where they are
# missing, the layers compute with PyTorch's own calls.
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class FusedLinear(nn.Module):
    """A linear layer that computes in its own type, on a CPU by oneDNN on weights laid out ahead of time.

    Args:
        linear: The layer.
        activation: What follows it.
        dtype: What it computes in; as the layer does if None.
        gain: A factor for its outputs, folded into weight and bias: one number, or one for each output.
    """

    def __init__(
        self,
        linear: nn.Linear,
        activation: Activation = "none",
        dtype: torch.dtype | None = None,
        gain: Tensor | None = None,
    ) -> None:
        super().__init__()
        dtype = dtype or linear.weight.dtype
        weight = linear.weight.detach()
        bias = None if linear.bias is None else linear.bias.detach()
        self.weight: Tensor = (weight if gain is None else weight * gain.unsqueeze(-1)).contiguous()
        if gain is not None and bias is not None:
            bias = bias * gain
        self.activation = activation
        self.bias = bias
        self.dtype = dtype
        self.packed = False

    def pack(self) -> None:
        """Bring the weights to their type and final layout."""
        self.bias = None if self.bias is None else self.bias.to(self.dtype)
        weight = self.weight.to(self.dtype)
        self.packed = ONEDNN and weight.device.type == "cpu"
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight) if self.packed else weight

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        inputs = inputs.to(self.dtype)
        if self.packed:
            answer: Tensor = torch.ops.mkldnn._linear_pointwise(
                inputs, self.weight, self.bias, self.activation, [], "none"
            )
            return answer
        answer = F.linear(inputs, self.weight, self.bias)
        return F.gelu(answer) if self.activation == "gelu" else answer
