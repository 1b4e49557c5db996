"""A linear layer with the activation behind it in one call."""

from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["none", "gelu"]

# What torch.compile emits for CPUs. The names are not public, but have been the same since torch 2.0; where they are
# missing, the layers compute with PyTorch's own calls.
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def arithmetic(dtype: torch.dtype) -> torch.dtype:
    """What oneDNN computes layers of a type in on this CPU: the type itself, or fp32 where it has no bf16.

    The product of two bf16 values is exact in fp32, and oneDNN sums in fp32 in any case: layers that round inputs,
    weights and outputs to bf16 and compute in fp32 between round where bf16 layers do.
    """
    return torch.float32 if dtype == torch.bfloat16 and not has_bf16() else dtype


@cache
def has_bf16() -> bool:
    """Whether oneDNN computes in bf16 on this CPU.

    It is tried, as oneDNN may be held to fewer instructions than the CPU has. Convolutions need no others.
    """
    ones = torch.ones(1, 1, dtype=torch.bfloat16)
    try:
        weight = torch.ops.mkldnn._reorder_linear_weight(ones)
        torch.ops.mkldnn._linear_pointwise(ones, weight, None, "none", [], "none")
    except (AttributeError, RuntimeError):
        return False
    return True


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
        self.dtype = self.arithmetic = dtype
        self.packed = False

    def pack(self) -> None:
        """Bring the weights to their type and final layout."""
        self.packed = ONEDNN and self.weight.device.type == "cpu"
        self.arithmetic = arithmetic(self.dtype) if self.packed else self.dtype
        self.bias = None if self.bias is None else self.bias.to(self.dtype).to(self.arithmetic)
        weight = self.weight.to(self.dtype).to(self.arithmetic)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight) if self.packed else weight

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        inputs = inputs.to(self.dtype)
        if self.packed:
            answer: Tensor = torch.ops.mkldnn._linear_pointwise(
                inputs.to(self.arithmetic), self.weight, self.bias, self.activation, [], "none"
            )
            return answer.to(self.dtype)
        answer = F.linear(inputs, self.weight, self.bias)
        return F.gelu(answer) if self.activation == "gelu" else answer
