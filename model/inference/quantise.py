"""A network's inference form with layers in int8: which ranges they need, and the exchange of the layers.

The ranges of activations are measured once over pictures (``observe``) and travel with the checkpoint, so that an
answer does not depend on what was scored before.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from torch import Tensor, fx, nn

from model.inference.convolution import FusedConv, FusedTrunk
from model.inference.linear import ONEDNN, FusedLinear
from model.inference.quantised import Dequantise, Quantise, QuantisedConv, QuantisedLinear
from model.inference.swin import FusedBlock
from model.ranges import Range, Ranges


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
    """Have the layers that ranges are given for computed in int8, in place; the others stay as they are.

    Raises:
        ValueError: This PyTorch was built without oneDNN.
    """
    if not ONEDNN:
        raise ValueError("int8 needs a PyTorch that was built with oneDNN; use fp32")
    for name, layer in list(form.named_modules()):
        if isinstance(layer, FusedTrunk):
            _quantise_graph(layer.graph, _below(ranges, f"{name}.graph."))
        elif isinstance(layer, FusedBlock):
            _quantise_block(layer, _below(ranges, f"{name}."))
    for name, layer in _layers(form):
        if name in ranges and isinstance(layer, FusedLinear):
            form.set_submodule(name, QuantisedLinear(layer, ranges[name][0]))


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
