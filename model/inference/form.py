"""The inference form of a network: the training form's weights, computed in fewer and larger steps.

It gives the scores of the training form, up to rounding; tests check that for every family.
"""

import copy

import torch
from torch import nn

from model.inference.convolution import FusedConv, fuse_trunk, is_plain, is_trunk
from model.inference.hyper import MergedHyperNetwork
from model.inference.linear import FusedLinear
from model.inference.quantise import quantise
from model.inference.swin import FusedSwin
from model.networks.hyper import HyperNetwork
from model.networks.life import GraphConvolution
from model.networks.network import Network
from model.ranges import Ranges

_READ_THEIR_LAYERS = (nn.MultiheadAttention, GraphConvolution)
"""Modules that read the weights of their layers without calling them, so these layers cannot be replaced."""


@torch.no_grad()
def inference_form(
    network: nn.Module, device: str = "cpu", dtype: torch.dtype = torch.float32, ranges: Ranges | None = None
) -> nn.Module:
    """Make the inference form of a network.

    Args:
        network: A network in training form; it is not changed.
        device: Device of the inference form.
        dtype: What the bulk of the network computes in; the rest computes in fp32.
        ranges: Ranges of the activations of the layers that compute in int8 instead.

    Returns:
        A network of the same class and behaviour, in evaluation mode, without gradients.
    """
    form = copy.deepcopy(network).eval().requires_grad_(False).to(device)
    bulk = {id(part) for part in form.bulk()} if isinstance(form, Network) else set()
    _replace(form, torch.float32, bulk, dtype)
    if ranges is not None:
        quantise(form, ranges)
    for layer in form.modules():
        if isinstance(layer, (FusedConv, FusedLinear)):
            layer.pack()
    return form


def _replace(parent: nn.Module, dtype: torch.dtype, bulk: set[int], bulk_dtype: torch.dtype) -> None:
    """Replace the parts of a module by faster ones; parts of the bulk compute in ``bulk_dtype``."""
    for name, module in parent.named_children():
        own = bulk_dtype if id(module) in bulk else dtype
        if (faster := _faster(module, own)) is not None:
            setattr(parent, name, faster)
        elif not isinstance(module, _READ_THEIR_LAYERS):
            _replace(module, own, bulk, bulk_dtype)


def _faster(module: nn.Module, dtype: torch.dtype) -> nn.Module | None:
    if type(module) is nn.Linear:
        return FusedLinear(module, dtype=dtype)
    if is_plain(module):
        return FusedConv(module, dtype=dtype)
    if isinstance(module, HyperNetwork):
        return MergedHyperNetwork(module)
    if FusedSwin.suits(module):
        return FusedSwin(module, dtype)
    if is_trunk(module):
        return fuse_trunk(module, dtype)
    return None
