"""Folding of fixed batch norms into convolutions for training, which then makes fewer passes over memory.

A batch norm that keeps its statistics is a factor and a term for each channel: folded into the convolution before it,
it costs next to nothing, forward and backward. Layers before the first trainable one run in the inference form.
"""

import copy
from typing import TypeVar

import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, fx, nn

from model.inference.convolution import FusedConv, is_plain, is_trunk, padder, traced
from model.networks.registry import Network

M = TypeVar("M", bound=nn.Module)


class FoldedConv(nn.Module):
    """A convolution with the fixed batch norm behind it folded in; the parameters of both are trained.

    Args:
        conv: The convolution.
        norm: The batch norm.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm
        self.pad = padder(conv)
        self.activation = norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()

    def forward(self, inputs_NCHW: Tensor) -> Tensor:
        """Convolve, normalise, activate."""
        conv, norm = self.conv, self.norm
        if self.pad is not None:
            inputs_NCHW = self.pad(inputs_NCHW)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain = norm.weight * (norm.running_var + norm.eps).rsqrt()
        bias = norm.bias - norm.running_mean * gain
        if conv.bias is not None:
            bias = bias + conv.bias * gain
        weight = conv.weight * gain.view(-1, 1, 1, 1)
        answer: Tensor = self.activation(
            F.conv2d(inputs_NCHW, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        )
        return answer


def fold_batch_norms(network: Network) -> Network:
    """Make a twin of a network with its fixed batch norms folded into convolutions; both share all parameters.

    Args:
        network: A network in training mode, with the batch norms of its trunks in evaluation mode. It needs a new twin
            whenever a module changes its mode or a parameter its ``requires_grad``.

    Returns:
        A network with the same outputs up to rounding, whose gradients go to the same parameters. Trunks that cannot be
        traced are not folded.
    """
    faster = {id(trunk): _fold(trunk) for trunk in network.trunks().values() if is_trunk(trunk)}
    return _rebuilt(network, faster)


def _rebuilt(module: M, replacements: dict[int, nn.Module]) -> M:
    """Copy a module with its descendants replaced; descendants without replacements are shared."""
    children = {}
    for name, child in module.named_children():
        replaced = replacements.get(id(child)) or _rebuilt(child, replacements)
        if replaced is not child:
            children[name] = replaced
    if not children:
        return module
    twin = copy.copy(module)
    twin._modules = {**module._modules, **children}
    return twin


def _fold(trunk: nn.Module) -> nn.Module:
    if (graph := traced(trunk)) is None:
        return trunk
    learning: set[fx.Node] = set()
    for node in list(graph.graph.nodes):
        module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        own = module is not None and any(parameter.requires_grad for parameter in module.parameters())
        if own or learning.intersection(node.all_input_nodes):
            learning.add(node)
        if not (isinstance(module, nn.BatchNorm2d) and len(node.all_input_nodes) == 1):
            continue
        before = node.all_input_nodes[0]
        conv = graph.get_submodule(str(before.target)) if before.op == "call_module" else None
        if conv is None or not is_plain(conv) or len(before.users) > 1 or module.training:
            continue
        name = f"{str(before.target).replace('.', '_')}_folded"
        graph.add_submodule(name, FoldedConv(conv, module) if node in learning else _fused(conv, module))
        with graph.graph.inserting_after(node):
            replacement = graph.graph.call_module(name, before.args)
        node.replace_all_uses_with(replacement)
        if node in learning:
            learning.add(replacement)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _fused(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> FusedConv:
    fused = FusedConv(conv, norm, norm.act if isinstance(norm, BatchNormAct2d) else None)
    fused.pack()
    return fused
