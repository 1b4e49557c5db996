"""Layers in 8-bit integers: weights signed, one scale an output; activations unsigned.

Sums of integers have no rounding: the results of these layers do not depend on the shape of the batch.

CPUs without VNNI instructions add products in pairs within 16 bits, where two of 255 x 127 do not fit. There each
weight is computed as two halves of at most 64: no pair of products saturates, whichever pairs a kernel takes. And
oneDNN's kernels for other CPUs round a sum on its way to 8 bits in another order: there PyTorch's single operations do
that, in the order of the kernels for AVX-512. So these layers answer the same on every CPU, bit for bit.

Source of the scheme: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from model.inference.convolution import FusedConv
from model.inference.linear import FusedLinear
from model.ranges import LEVELS, Range


class QuantisedConv(nn.Module):
    """A convolution from 8 bits to 8 bits, with the activation or the sum behind it.

    Args:
        conv: The layer.
        inputs: Range of what it reads.
        outputs: Range of what it answers.
        addend: Range of what is added, if anything is.
        fused: Whether oneDNN does it in one call; where that is exact if None.
    """

    def __init__(
        self, conv: FusedConv, inputs: Range, outputs: Range, addend: Range | None, *, fused: bool | None = None
    ) -> None:
        super().__init__()
        weight, self.scales, self.zeros = _weights(conv.weight)
        self.bias = conv.bias.float()
        self.inputs, self.outputs, self.addend = inputs, outputs, addend
        self.geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
        self.pad = conv.pad
        self.fused = fused_is_exact() if fused is None else fused
        if not self.fused:
            weight, self.geometry = _halved(weight, *self.geometry)
        self.weight = torch.ops.onednn.qconv_prepack(
            weight, self.scales, inputs.scale, inputs.zero, *self.geometry, None
        )
        name, arguments, _ = conv.activation
        # The sum knows no bounded activation; where one is asked for, clipping at the top is left to the range.
        self.activation = (name, list(arguments)) if addend is None else ("none" if name == "none" else "relu", [])

    def forward(self, inputs_NCHW: Tensor, addend_NCHW: Tensor | None = None) -> Tensor:
        """Convolve and activate; with an addend, the sum may be written over it."""
        if self.pad is not None:
            inputs_NCHW = self.pad(inputs_NCHW, value=self.inputs.zero)
        if not self.fused:
            return self._unfused(inputs_NCHW, addend_NCHW)
        call = (inputs_NCHW, self.inputs.scale, self.inputs.zero, self.weight, self.scales, self.zeros)
        target = (self.outputs.scale, self.outputs.zero, torch.uint8)
        name, arguments = self.activation
        answer: Tensor
        if addend_NCHW is None:
            answer = torch.ops.onednn.qconv_pointwise(*call, self.bias, *self.geometry, *target, name, arguments, "")
        else:
            assert self.addend is not None
            answer = torch.ops.onednn.qconv2d_pointwise.binary(
                *call,
                addend_NCHW,
                self.bias,
                *self.geometry,
                *target,
                self.addend.scale,
                self.addend.zero,
                "sum",
                1.0,
                name,
                arguments,
                "",
            )
        return answer

    def _unfused(self, inputs_NCHW: Tensor, addend_NCHW: Tensor | None) -> Tensor:
        """The same to the last bit, from exact sums on."""
        doubled_NCHW = _doubled(inputs_NCHW, self.geometry[-1])
        call = (doubled_NCHW, 1.0, self.inputs.zero, self.weight, torch.ones_like(self.scales), self.zeros)
        target = (1.0, 0, torch.float32)
        sums = torch.ops.onednn.qconv_pointwise(*call, None, *self.geometry, *target, "none", [], "")
        values = _values(sums, self.inputs, self.scales.view(-1, 1, 1), self.bias.view(-1, 1, 1))
        if addend_NCHW is not None:
            assert self.addend is not None
            # oneDNN multiplies and adds with one rounding. In fp64 the product is exact.
            steps = addend_NCHW.double().sub_(self.addend.zero)
            values = values.double().add_(steps, alpha=_fp32(self.addend.scale).item()).float()
        name, arguments = self.activation
        if name != "none":
            values.clamp_(*(arguments or [0.0]))
        return _steps(values, self.outputs)


class QuantisedLinear(nn.Module):
    """A linear layer in int8.

    Args:
        linear: The layer.
        inputs: Range of what it reads.
        outputs: Range of what it answers, if it answers in 8 bits; else it answers in fp32.
        quantised: Whether its inputs come in 8 bits.
        fused: Whether oneDNN does it in one call; where that is exact if None.
    """

    def __init__(
        self,
        linear: FusedLinear,
        inputs: Range,
        outputs: Range | None = None,
        *,
        quantised: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__()
        weight, self.scales, self.zeros = _weights(linear.weight)
        self.fused = fused_is_exact() if fused is None else fused
        if not self.fused:
            weight = torch.cat(_halves(weight), dim=1)
        self.weight = torch.ops.onednn.qlinear_prepack(weight, None)
        self.bias = None if linear.bias is None else linear.bias.float()
        self.inputs, self.outputs, self.quantised = inputs, outputs, quantised
        self.activation = linear.activation

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        steps = inputs if self.quantised else quantised(inputs, self.inputs)
        if not self.fused:
            return self._unfused(steps)
        scale, zero = (1.0, 0) if self.outputs is None else (self.outputs.scale, self.outputs.zero)
        answer: Tensor = torch.ops.onednn.qlinear_pointwise(
            steps,
            self.inputs.scale,
            self.inputs.zero,
            self.weight,
            self.scales,
            self.zeros,
            self.bias,
            scale,
            zero,
            torch.float32 if self.outputs is None else torch.uint8,
            self.activation,
            [],
            "none",
        )
        return answer

    def _unfused(self, steps: Tensor) -> Tensor:
        """The same to the last bit, from exact sums on."""
        doubled = torch.cat([steps, steps], dim=-1)
        call = (doubled, 1.0, self.inputs.zero, self.weight, torch.ones_like(self.scales), self.zeros)
        sums = torch.ops.onednn.qlinear_pointwise(*call, None, 1.0, 0, torch.float32, "none", [], "none")
        values = _values(sums, self.inputs, self.scales, self.bias)
        if self.activation == "gelu":
            values = F.gelu(values)
        return values if self.outputs is None else _steps(values, self.outputs)


class Quantise(nn.Module):
    """fp32 to 8 bits."""

    def __init__(self, range_: Range) -> None:
        super().__init__()
        self.range = range_

    def forward(self, values: Tensor) -> Tensor:
        """Round to steps."""
        return quantised(values, self.range)


class Dequantise(nn.Module):
    """8 bits to fp32."""

    def __init__(self, range_: Range) -> None:
        super().__init__()
        self.range = range_

    def forward(self, steps: Tensor) -> Tensor:
        """Steps to values."""
        return steps.float().sub_(self.range.zero).mul_(self.range.scale)


def quantised(values: Tensor, range_: Range) -> Tensor:
    """Round fp32 values to the steps of a range, as uint8."""
    return (values.float() / range_.scale).round_().add_(range_.zero).clamp_(0, LEVELS).to(torch.uint8)


@cache
def fused_is_exact() -> bool:
    """Whether oneDNN's layers in one call answer, on this CPU, what exact sums and PyTorch's operations answer.

    Layers of each kind are tried once, on products that saturate where they can and on values that lie halfway between
    two steps. It is not read from the CPU's flags: oneDNN may be held to fewer instructions, and chooses its kernels
    by rules of its own.
    """
    return all(torch.equal(one, other) for one, other in zip(_trials(fused=True), _trials(fused=False), strict=True))


def _trials(*, fused: bool) -> list[Tensor]:
    """Answers of layers of each kind, all of whose weights are 127."""
    channels = 32
    inputs = Range(0.0, LEVELS / 3)
    steps_NHWC = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).repeat(1, 1, 1, channels)
    steps_NCHW = steps_NHWC.permute(0, 3, 1, 2)
    # Not initialised: the generator of the process is the caller's.
    linear = skip_init(nn.Linear, channels, 16, bias=False)
    nn.init.ones_(linear.weight)
    outputs = Range(0.0, 2 * channels * inputs.high)
    answers = [QuantisedLinear(FusedLinear(linear), inputs, outputs, quantised=True, fused=fused)(steps_NHWC)]
    for width, side, groups, added in (
        (16, 3, 1, False),
        (16, 1, 1, False),
        (32, 1, 1, True),
        (32, 3, 32, False),
        (64, 3, 32, False),
        (32, 3, 4, False),
    ):
        conv = skip_init(nn.Conv2d, channels, width, side, groups=groups, bias=False)
        nn.init.ones_(conv.weight)
        outputs = Range(0.0, 2 * conv.weight[0].numel() * inputs.high)
        layer = QuantisedConv(FusedConv(conv), inputs, outputs, outputs if added else None, fused=fused)
        # What is added is overwritten.
        answers.append(layer(steps_NCHW, steps_NHWC.clone().permute(0, 3, 1, 2) if added else None))
    return answers


_Geometry = tuple[list[int], list[int], list[int], int]
"""Stride, padding and dilation of a convolution, and its groups."""


def _halved(
    weight_OIHW: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int
) -> tuple[Tensor, _Geometry]:
    """Weights and geometry of the convolution of ``_doubled`` inputs with both halves of the weights."""
    halves = _halves(weight_OIHW)
    if groups == 1:
        return torch.cat(halves, dim=1), (stride, padding, dilation, groups)
    # With two inputs to a group, a depthwise convolution would lose its fast kernel: columns are doubled instead. The
    # gaps of a dilated kernel become weights of 0.
    outputs, inputs, height, width = weight_OIHW.shape
    weight = weight_OIHW.new_zeros(outputs, inputs, height, (width - 1) * dilation[1] + 1, 2)
    weight[..., :: dilation[1], :] = torch.stack(halves, dim=-1)
    geometry = ([stride[0], 2 * stride[1]], [padding[0], 2 * padding[1]], [dilation[0], 1], groups)
    return weight.flatten(3), geometry


def _doubled(inputs_NCHW: Tensor, groups: int) -> Tensor:
    """Every channel twice, or with groups every column."""
    if groups == 1:
        return torch.cat([inputs_NCHW, inputs_NCHW], dim=1)
    return inputs_NCHW.permute(0, 2, 3, 1).repeat_interleave(2, dim=2).permute(0, 3, 1, 2)


def _halves(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Two weights of at most 64 whose sum is a weight of at most 127: two products with 255 fit 16 bits."""
    half = weight.div(2, rounding_mode="trunc")
    return half, weight - half


def _values(sums: Tensor, inputs: Range, scales: Tensor, bias: Tensor | None) -> Tensor:
    """What sums of products of steps stand for, rounded in the order of oneDNN's kernels for AVX-512; in place."""
    values = sums.mul_(_fp32(inputs.scale)).mul_(scales)
    return values if bias is None else values.add_(bias)


def _steps(values: Tensor, outputs: Range) -> Tensor:
    """Round values to steps as oneDNN does, by the inverse of the scale; in place."""
    inverse = _fp32(outputs.scale).reciprocal_()
    return values.mul_(inverse).add_(outputs.zero).round_().clamp_(0, LEVELS).to(torch.uint8)


def _fp32(number: float) -> Tensor:
    return torch.tensor(number, dtype=torch.float32)


def _weights(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Signed 8-bit weights, the scale of each output, and its zero, which is 0."""
    flat = weight.float().flatten(1)
    scales = flat.abs().amax(dim=1).clamp(min=1e-8) / 127
    steps = (weight.float() / scales.view(-1, *(1,) * (weight.dim() - 1))).round().to(torch.int8)
    return steps.contiguous(), scales, torch.zeros(len(scales), dtype=torch.int64)
