"""8-bit integers for the products of a network's bulk: weights signed, one scale an output; activations unsigned.

The ranges of activations are measured once over pictures (``observe``) and travel with the checkpoint, so that an
answer does not depend on what was scored before. Sums of integers have no rounding: the results of these layers do
not depend on the shape of the batch.

Source of the scheme: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from model.inference.convolution import FusedConv, FusedTrunk
from model.inference.linear import FusedLinear
from model.inference.swin import FusedBlock

LEVELS = 255


class Range(NamedTuple):
    """The values that an activation takes."""

    low: float
    high: float

    @property
    def scale(self) -> float:
        """Width of one of the 255 steps."""
        return max(max(self.high, 0.0) - min(self.low, 0.0), 1e-6) / LEVELS

    @property
    def zero(self) -> int:
        """The step that stands for 0, which is always one of them."""
        return round(-min(self.low, 0.0) / self.scale)


Ranges = Mapping[str, tuple[Range, Range]]
"""Of inputs and outputs of the layers to quantise, by their names."""


def observe(form: nn.Module, run: Callable[[], object]) -> dict[str, tuple[Range, Range]]:
    """Measure the ranges of all layers of the bulk that can be quantised.

    Args:
        form: From ``inference_form``, in fp32.
        run: Calls it, on whatever the ranges shall hold for.
    """
    seen: dict[str, list[float]] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            low, high = (value.item() for value in inputs[0].aminmax())
            least, most = (value.item() for value in output.aminmax())
            before = seen.get(name, [0.0, 0.0, 0.0, 0.0])
            seen[name] = [min(before[0], low), max(before[1], high), min(before[2], least), max(before[3], most)]

        return hook

    with ExitStack() as hooks:
        for name, layer in _layers(form):
            hooks.callback(layer.register_forward_hook(record(name)).remove)
        run()
    return {name: (Range(*ends[:2]), Range(*ends[2:])) for name, ends in seen.items()}


def quantise(form: nn.Module, ranges: Ranges) -> None:
    """Have the layers that ranges are given for computed in int8, in place; the others stay as they are."""
    for name, layer in list(form.named_modules()):
        if isinstance(layer, FusedTrunk):
            _quantise_graph(layer.graph, _below(ranges, f"{name}.graph."))
        elif isinstance(layer, FusedBlock):
            _quantise_block(layer, _below(ranges, f"{name}."))
    for name, layer in _layers(form):
        if name in ranges and isinstance(layer, FusedLinear):
            form.set_submodule(name, QuantisedLinear(layer, ranges[name][0]))


class QuantisedConv(nn.Module):
    """A convolution from 8 bits to 8 bits, with the activation or the sum behind it.

    Args:
        conv: The layer.
        inputs: Range of what it reads.
        outputs: Range of what it answers.
        addend: Range of what is added, if anything is.
    """

    def __init__(self, conv: FusedConv, inputs: Range, outputs: Range, addend: Range | None) -> None:
        super().__init__()
        weight, self.scales, self.zeros = _weights(conv.weight)
        self.bias = conv.bias.float()
        self.inputs, self.outputs, self.addend = inputs, outputs, addend
        self.geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
        self.weight = torch.ops.onednn.qconv_prepack(
            weight, self.scales, inputs.scale, inputs.zero, *self.geometry, None
        )
        name, arguments, _ = conv.activation
        # The sum knows no bounded activation; where one is asked for, clipping at the top is left to the range.
        self.activation = (name, list(arguments)) if addend is None else ("none" if name == "none" else "relu", [])

    def forward(self, inputs_NCHW: Tensor, addend_NCHW: Tensor | None = None) -> Tensor:
        """Convolve and activate; with an addend, the sum is written over it."""
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


class QuantisedLinear(nn.Module):
    """A linear layer in int8.

    Args:
        linear: The layer.
        inputs: Range of what it reads.
        outputs: Range of what it answers, if it answers in 8 bits; else it answers in fp32.
        quantised: Whether its inputs come in 8 bits.
    """

    def __init__(
        self, linear: FusedLinear, inputs: Range, outputs: Range | None = None, *, quantised: bool = False
    ) -> None:
        super().__init__()
        weight, self.scales, self.zeros = _weights(linear.weight)
        self.weight = torch.ops.onednn.qlinear_prepack(weight, None)
        self.bias = None if linear.bias is None else linear.bias.float()
        self.inputs, self.outputs, self.quantised = inputs, outputs, quantised
        self.activation = linear.activation

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        steps = inputs if self.quantised else quantised(inputs, self.inputs)
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


def _weights(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Signed 8-bit weights, the scale of each output, and its zero, which is 0."""
    flat = weight.float().flatten(1)
    scales = flat.abs().amax(dim=1).clamp(min=1e-8) / 127
    steps = (weight.float() / scales.view(-1, *(1,) * (weight.dim() - 1))).round().to(torch.int8)
    return steps.contiguous(), scales, torch.zeros(len(scales), dtype=torch.int64)


def _layers(form: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers of a network's bulk that can be quantised, by name."""
    parts: Any = form
    inside = [layer for part in parts.bulk() for layer in part.modules()]
    trunks = [layer for layer in inside if isinstance(layer, FusedTrunk)]
    # A convolution by itself would gain less than its conversions cost.
    known = {id(layer) for trunk in trunks for layer in trunk.modules() if isinstance(layer, FusedConv)}
    known |= {id(layer) for layer in inside if isinstance(layer, FusedLinear)}
    return [(name, layer) for name, layer in form.named_modules() if id(layer) in known]


def _below(ranges: Ranges, prefix: str) -> Ranges:
    return {name.removeprefix(prefix): both for name, both in ranges.items() if name.startswith(prefix)}


def _quantise_block(block: FusedBlock, ranges: Ranges) -> None:
    """A Swin block's perceptron stays in 8 bits between its two layers."""
    if "fc1" in ranges and "fc2" in ranges:
        assert isinstance(block.fc1, FusedLinear)
        assert isinstance(block.fc2, FusedLinear)
        hidden = ranges["fc2"][0]
        block.fc1 = QuantisedLinear(block.fc1, ranges["fc1"][0], hidden)
        block.fc2 = QuantisedLinear(block.fc2, hidden, quantised=True)


def _quantise_graph(graph: fx.GraphModule, ranges: Ranges) -> None:
    """Put convolutions into int8; values stay in 8 bits from one to the next."""
    steps: dict[fx.Node, tuple[fx.Node, Range]] = {}

    def insert(after: fx.Node, name: str, module: nn.Module) -> fx.Node:
        graph.add_submodule(name, module)
        with graph.graph.inserting_after(after):
            return graph.graph.call_module(name, (after,))

    def as_steps(value: fx.Node, range_: Range) -> tuple[fx.Node, Range]:
        if value not in steps:
            steps[value] = insert(value, f"{value.name}_steps", Quantise(range_)), range_
        return steps[value]

    order = {node: place for place, node in enumerate(graph.graph.nodes)}
    for node in list(graph.graph.nodes):
        name = str(node.target)
        if node.op != "call_module" or name not in ranges:
            continue
        conv = graph.get_submodule(name)
        assert isinstance(conv, FusedConv)
        (source, *others), (inputs, outputs) = node.all_input_nodes, ranges[name]
        if others and (source is others[0] or _outlives(others[0], node, order)):
            continue  # the sum is written over the addend
        source_steps, inputs = as_steps(source, inputs)
        addend = as_steps(others[0], outputs) if others else None
        graph.add_submodule(f"{name}_int8", QuantisedConv(conv, inputs, outputs, addend[1] if addend else None))
        with graph.graph.inserting_before(node):
            arguments = (source_steps,) if addend is None else (source_steps, addend[0])
            answer = graph.graph.call_module(f"{name}_int8", arguments)
        values = insert(answer, f"{name}_values", Dequantise(outputs))
        order[values] = order[node]
        node.replace_all_uses_with(values)
        steps[values] = answer, outputs
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()


def _outlives(addend: fx.Node, node: fx.Node, order: Mapping[fx.Node, int]) -> bool:
    return any(order.get(user, -1) > order[node] for user in addend.users)
