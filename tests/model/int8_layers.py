"""What the 8-bit layers answer on this CPU, as a digest, and what they should.

All that goes in is drawn by NumPy, whose generators give the same on every CPU.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.inference.convolution import FusedConv
from model.inference.linear import FusedLinear
from model.inference.quantised import QuantisedConv, QuantisedLinear
from model.ranges import Range

INPUTS, ADDEND = Range(-1.0, 3.0), Range(-2.0, 1.7)


class Kind(NamedTuple):
    """A convolution: its shape, and what follows it."""

    inputs: int
    outputs: int
    side: int = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    activation: type[nn.Module] = nn.Identity
    added: bool = False


KINDS = (
    Kind(8, 16, 3, stride=2, activation=nn.ReLU6),
    Kind(3, 16, 3, activation=nn.ReLU),
    Kind(64, 24),
    Kind(64, 24, added=True),
    Kind(32, 32, 3, activation=nn.ReLU, added=True),
    Kind(960, 320),
    Kind(144, 144, 3, stride=2, groups=144, activation=nn.ReLU6),
    Kind(16, 32, 5, groups=16),
    Kind(32, 32, 3, dilation=2, groups=8),
    Kind(16, 16, 3, dilation=2),
)
LINEAR = ((5, 3), (96, 384), (784, 20))


def drawn(*shape: int) -> Tensor:
    """Normal numbers, the same for the same shape."""
    return torch.from_numpy(np.random.default_rng(list(shape)).normal(size=shape).astype(np.float32))


def drawn_steps(*shape: int) -> Tensor:
    """Steps, half of them the largest: with weights of one sign their products saturate 16 bits."""
    steps = np.random.default_rng(list(shape)).integers(0, 511, shape).clip(0, 255)
    return torch.from_numpy(steps.astype(np.uint8))


def conv_of(kind: Kind, *, worst: bool = False) -> FusedConv:
    """A convolution of a kind; at worst all its weights are as large as they can be, of one sign for each output."""
    padding = kind.dilation * (kind.side // 2)
    conv = nn.Conv2d(kind.inputs, kind.outputs, kind.side, kind.stride, padding, kind.dilation, kind.groups)
    weight = drawn(*conv.weight.shape)
    signs = torch.where(torch.arange(kind.outputs) % 2 == 0, 1.0, -1.0).view(-1, 1, 1, 1)
    fan_in = conv.weight[0].numel()
    conv.weight.data = (signs.expand_as(weight) if worst else weight) / fan_in
    assert conv.bias is not None
    conv.bias.data = drawn(kind.outputs)
    return FusedConv(conv, activation=kind.activation())


def answer_of(kind: Kind, *, worst: bool = False, fused: bool | None = None) -> tuple[Tensor, Tensor]:
    """What a quantised convolution answers, and what its formula gives in fp64, both in steps."""
    conv = conv_of(kind, worst=worst)
    outputs = Range(-3.5, 4.0)
    steps = drawn_steps(2, kind.inputs, 11, 13).contiguous(memory_format=torch.channels_last)
    layer = QuantisedConv(conv, INPUTS, outputs, ADDEND if kind.added else None, fused=fused)
    scales = conv.weight.abs().amax(dim=(1, 2, 3), keepdim=True).double() / 127
    weight = (conv.weight.double() / scales).round() * scales
    values = (steps.double() - INPUTS.zero) * INPUTS.scale
    padding = kind.dilation * (kind.side // 2)
    exact = F.conv2d(values, weight, conv.bias.double(), kind.stride, padding, kind.dilation, kind.groups)
    addend = None
    if kind.added:
        addend = drawn_steps(*exact.shape).contiguous(memory_format=torch.channels_last)
        exact = exact + (addend.double() - ADDEND.zero) * ADDEND.scale
    exact = kind.activation()(exact)
    answer = layer(steps) if addend is None else layer(steps, addend)
    return answer, (exact / outputs.scale).round().add(outputs.zero).clamp(0, 255)


def linear_answers(*, fused: bool | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """What quantised linear layers answer in fp32 and, behind a GELU, in 8 bits; and what their formula gives."""
    for inputs, outputs in LINEAR:
        linear = nn.Linear(inputs, outputs)
        linear.weight.data, linear.bias.data = drawn(outputs, inputs) / inputs, drawn(outputs)
        steps = drawn_steps(3, 5, inputs)
        scales = linear.weight.data.abs().amax(dim=1, keepdim=True).double() / 127
        weight = (linear.weight.data.double() / scales).round() * scales
        exact = F.linear((steps.double() - INPUTS.zero) * INPUTS.scale, weight, linear.bias.data.double())
        yield QuantisedLinear(FusedLinear(linear), INPUTS, quantised=True, fused=fused)(steps), exact
        target = Range(-0.2, 3.0)
        layer = QuantisedLinear(FusedLinear(linear, "gelu"), INPUTS, target, quantised=True, fused=fused)
        yield layer(steps), (F.gelu(exact) / target.scale).round().add(target.zero).clamp(0, 255)


@torch.inference_mode()
def digest(*, fused: bool | None = None) -> str:
    """Of the answers of all kinds of layers."""
    hashed = hashlib.sha256()
    for kind in KINDS:
        for worst in (False, True):
            hashed.update(answer_of(kind, worst=worst, fused=fused)[0].contiguous().numpy().tobytes())
    for answer, _ in linear_answers(fused=fused):
        hashed.update(answer.contiguous().numpy().tobytes())
    return hashed.hexdigest()
