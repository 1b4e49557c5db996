"""Trunks of convolutions, with batch norms folded into weights, and activations and shortcuts fused."""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.padding import pad_same
from torch import Tensor, fx, nn

from model.inference.linear import ONEDNN, arithmetic

# oneDNN's name of an activation, its arguments, and PyTorch's form of it.
_Activation = tuple[str, tuple[float, ...], Callable[[Tensor], Tensor] | None]
_NONE: _Activation = ("none", (), None)
_ACTIVATIONS: dict[type[nn.Module], _Activation] = {
    nn.Identity: _NONE,
    nn.ReLU: ("relu", (), F.relu),
    nn.ReLU6: ("hardtanh", (0.0, 6.0), F.relu6),
}
_NOTHING = (nn.Identity, nn.Dropout)


class FusedConv(nn.Module):
    """A convolution, the batch norm behind it, perhaps a sum, and an activation.

    A convolution of single pixels is computed as a linear layer: oneDNN lays out the weights of a convolution for one
    size of batch and map, and lays them out again at every call with another, which can take ten times as long as the
    convolution.

    Args:
        conv: The convolution.
        norm: The batch norm.
        activation: A module that does nothing but activate.
        dtype: What it computes in, once ``pack`` has laid out its weights.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: nn.BatchNorm2d | None = None,
        activation: nn.Module | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.weight, self.bias = _folded(conv, norm)
        self.stride, self.dilation, self.groups = list(conv.stride), list(conv.dilation), conv.groups
        self.padding = [int(side) for side in conv.padding]
        self.pad = padder(conv)
        self.pointwise = self.groups == 1 and conv.kernel_size == conv.stride == (1, 1) and self.padding == [0, 0]
        self.activation = _NONE if activation is None else _ACTIVATIONS[type(activation)]
        self.dtype = self.arithmetic = dtype
        self.packed = False

    def pack(self) -> None:
        """Bring the weights to their type and final layout."""
        self.packed = ONEDNN and self.weight.device.type == "cpu"
        self.arithmetic = arithmetic(self.dtype) if self.packed else self.dtype
        self.bias = self.bias.to(self.dtype).to(self.arithmetic)
        weight = self.weight.to(self.dtype).to(self.arithmetic).contiguous(memory_format=torch.channels_last)
        if self.packed and self.pointwise:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight.flatten(1).contiguous())
        elif self.packed:
            weight = torch._C._nn.mkldnn_reorder_conv2d_weight(
                weight.contiguous().to_mkldnn(), self.padding, self.stride, self.dilation, self.groups
            )
        self.weight = weight

    def forward(self, inputs_NCHW: Tensor, addend_NCHW: Tensor | None = None) -> Tensor:
        """Convolve, add, activate."""
        inputs_NCHW = inputs_NCHW.to(self.dtype)
        addend_NCHW = None if addend_NCHW is None else addend_NCHW.to(self.dtype)
        if self.packed and self.pointwise:
            return self._linear(inputs_NCHW, addend_NCHW)
        if self.pad is not None:
            inputs_NCHW = self.pad(inputs_NCHW)
        name, arguments, function = self.activation
        geometry = (self.padding, self.stride, self.dilation, self.groups)
        answer: Tensor
        if not self.packed:
            answer = F.conv2d(
                inputs_NCHW, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
            )
            if addend_NCHW is not None:
                answer = answer + addend_NCHW
            return answer if function is None else function(answer)
        inputs_NCHW = inputs_NCHW.to(self.arithmetic)
        if addend_NCHW is None:
            answer = torch.ops.mkldnn._convolution_pointwise(
                inputs_NCHW, self.weight, self.bias, *geometry, name, list(arguments), ""
            )
        else:
            after = (None, [], None) if function is None else (name, list(arguments), None)
            answer = torch.ops.mkldnn._convolution_pointwise.binary(
                inputs_NCHW,
                addend_NCHW.to(self.arithmetic),
                self.weight,
                self.bias,
                *geometry,
                "add",
                1.0,
                *after,
            )
        return answer.to(self.dtype)

    def _linear(self, inputs_NCHW: Tensor, addend_NCHW: Tensor | None) -> Tensor:
        """The same for a convolution of single pixels."""
        name, arguments, function = self.activation
        inputs_NHWC = inputs_NCHW.to(self.arithmetic).permute(0, 2, 3, 1)
        if addend_NCHW is None:
            answer = torch.ops.mkldnn._linear_pointwise(inputs_NHWC, self.weight, self.bias, name, list(arguments), "")
        else:
            addend_NHWC = addend_NCHW.to(self.arithmetic).permute(0, 2, 3, 1)
            answer = torch.ops.mkldnn._linear_pointwise.binary(inputs_NHWC, addend_NHWC, self.weight, self.bias, "add")
            answer = answer if function is None else function(answer)
        values: Tensor = answer.permute(0, 3, 1, 2).to(self.dtype)
        return values


class FusedTrunk(nn.Module):
    """A traced trunk whose convolutions are ``FusedConv``.

    Args:
        graph: The trunk.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, crops_NCHW: Tensor) -> list[Tensor]:
        """Feature maps as fp32."""
        maps = self.graph(crops_NCHW.contiguous(memory_format=torch.channels_last))
        return [map_.float() for map_ in maps]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, (BatchNormAct2d, nn.Conv2d)) or super().is_leaf_module(module, name)


def is_trunk(module: nn.Module) -> bool:
    """Whether a module is a timm network of convolutions and batch norms."""
    return hasattr(module, "feature_info") and any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


def is_plain(conv: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a convolution is no more than that, except that it may pad by the size of what it is given."""
    return type(conv) in (nn.Conv2d, Conv2dSame) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def padder(conv: nn.Conv2d) -> Callable[..., Tensor] | None:
    """A function that pads inputs before a convolution as TensorFlow does, with a ``value``; None if it does not."""
    if not isinstance(conv, Conv2dSame):
        return None
    return partial(pad_same, kernel_size=list(conv.kernel_size), stride=list(conv.stride), dilation=list(conv.dilation))


def traced(features: nn.Module) -> fx.GraphModule | None:
    """The steps of a trunk, with its convolutions and batch norms as they are; None if it cannot be traced."""
    try:
        return fx.GraphModule(features, _Tracer().trace(features))
    except Exception:  # whatever a network does that depends on values, of hundreds of them
        return None


def fuse_trunk(features: nn.Module, dtype: torch.dtype) -> FusedTrunk | None:
    """Fuse a trunk of convolutions and batch norms; None if it cannot be traced.

    Args:
        features: A timm network that gives a list of feature maps, in evaluation mode; its modules are left alone.
        dtype: What it shall compute in.
    """
    if (graph := traced(features)) is None:
        return None
    for node in list(graph.graph.nodes):
        if _is(graph, node, _NOTHING):
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.graph.erase_node(node)
    for node in list(graph.graph.nodes):
        if node.op == "call_module" and is_plain(_module(graph, node)):
            _fuse(graph, node, dtype)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    for conv in _exact(graph):
        conv.dtype = torch.float32
    return FusedTrunk(graph)


def _exact(graph: fx.GraphModule) -> list[FusedConv]:
    """The convolutions that compute in fp32 whatever the others do.

    The first one, as the 8 bits of bf16 would round the pixels themselves. In a trunk with depthwise convolutions all
    up to its first map: rounding goes through their few channels to the score (benchmarks/results/precision.json). And
    all of them where layers with weights of their own are left between them.
    """
    convs = {node: _module(graph, node) for node in graph.graph.nodes if _is(graph, node, FusedConv)}
    # Fused weights are no parameters any more.
    if next(graph.parameters(), None) is not None:
        return list(convs.values())
    if not any(1 < conv.groups == len(conv.weight) for conv in convs.values()):
        return [conv for node, conv in convs.items() if node.all_input_nodes[0].op == "placeholder"]
    last = graph.graph.output_node().all_input_nodes[0]
    return [conv for node, conv in convs.items() if not last < node]


def _fuse(graph: fx.GraphModule, node: fx.Node, dtype: torch.dtype) -> None:
    """Replace a convolution and what follows it, as far as one call can do it."""
    conv = _module(graph, node)
    last, norm = node, None
    if (after := _only_user(last)) and _is(graph, after, nn.BatchNorm2d):
        norm, last = _module(graph, after), after
    fused = FusedConv(conv, norm, dtype=dtype)
    arguments = node.args
    unknown = None
    if isinstance(norm, BatchNormAct2d) and type(norm.act) is not nn.Identity:
        fused.activation = _ACTIVATIONS.get(type(norm.act), _NONE)
        unknown = norm.act if fused.activation is _NONE else None
    else:
        after = _only_user(last)
        if after and after.target in (operator.add, operator.iadd, torch.add) and not after.kwargs:
            addend = next((other for other in after.all_input_nodes if other is not last), None)
            # What is added must be there before: of two branches, the later one takes the sum.
            if addend is not None and addend < node:
                arguments, last = (*arguments, addend), after
        after = _only_user(last)
        if after and _is(graph, after, tuple(_ACTIVATIONS)):
            fused.activation, last = _ACTIVATIONS[type(_module(graph, after))], after
    name = f"{str(node.target).replace('.', '_')}_fused"
    graph.add_submodule(name, fused)
    with graph.graph.inserting_after(node):
        replacement = graph.graph.call_module(name, arguments)
    if unknown is not None:
        graph.add_submodule(f"{name}_activation", unknown)
        with graph.graph.inserting_after(replacement):
            replacement = graph.graph.call_module(f"{name}_activation", (replacement,))
    last.replace_all_uses_with(replacement)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _module(graph: fx.GraphModule, node: fx.Node) -> Any:
    return graph.get_submodule(str(node.target))


def _is(graph: fx.GraphModule, node: fx.Node, kind: Any) -> bool:
    return node.op == "call_module" and isinstance(_module(graph, node), kind)


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the batch norm behind it, folded in fp64 and rounded once."""
    weight = conv.weight.detach().double()
    bias = None if conv.bias is None else conv.bias.detach().double()
    if norm is not None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain = norm.weight.detach().double() * (norm.running_var.double() + norm.eps).rsqrt()
        shift = norm.bias.detach().double() - norm.running_mean.double() * gain
        weight = weight * gain.view(-1, 1, 1, 1)
        bias = shift if bias is None else bias * gain + shift
    if bias is None:
        bias = weight.new_zeros(len(weight))
    return weight.float(), bias.float()
