"""Backbones: any timm network with hierarchical features, as four NCHW feature maps."""

from typing import Any

import timm
from torch import Tensor, nn

from model.networks.network import LEVELS

CROP = 224
"""Side in pixels of the crops that networks of a fixed input size are made for."""


class Backbone(nn.Module):
    """Four feature levels of a timm network: the last four, strides 4, 8, 16 and 32.

    A plain vision transformer has one stride, that of its patches; its levels are the outputs of four blocks, a quarter
    of the depth apart. Networks of a fixed input size other than 224x224 are made for crops of 224x224 instead. Swin
    returns NHWC maps, convolutional networks NCHW; callers always get NCHW.

    Args:
        name: timm model name; it must offer at least four feature levels.
        pretrained: Download timm's pretrained weights from its hub.
        drop_path: Stochastic depth rate; must be 0 for networks without stochastic depth.
        finer: Whether to give the level before the four as well, stride 2, where the network has it.

    Attributes:
        channels: Channels of the four levels.
        finer_channels: Channels of the level before them; empty without it.

    Raises:
        ValueError: timm does not know the name, or the network has fewer than four feature levels, or no stochastic
            depth.
    """

    def __init__(self, name: str, *, pretrained: bool = False, drop_path: float = 0.0, finer: bool = False) -> None:
        super().__init__()
        if not timm.is_model(name.split(".", maxsplit=1)[0]):
            raise ValueError(f"timm knows no backbone called {name!r}")
        self.features = _features(name, pretrained, drop_path, finer)
        feature_info: Any = self.features.feature_info
        channels: tuple[int, ...] = tuple(feature_info.channels())
        if len(channels) < LEVELS:
            raise ValueError(f"backbone {name!r} offers {len(channels)} feature levels, {LEVELS} are needed")
        self.finer_channels, self.channels = channels[:-LEVELS], channels[-LEVELS:]
        self.channels_last = str(getattr(self.features, "output_fmt", "NCHW")).endswith("NHWC")
        self.fixed_size = _has_fixed_size(name)

    def forward(self, crops_NCHW: Tensor) -> list[Tensor]:
        """Compute the feature maps of normalised crops (N, 3, H, W), shallowest first, each (N, C_i, H_i, W_i).

        The last four are the levels; a finer one is before them.
        """
        maps: list[Tensor] = self.features(crops_NCHW)
        return [map_.permute(0, 3, 1, 2) for map_ in maps] if self.channels_last else maps


def size_options(name: str) -> dict[str, Any]:
    """Arguments of ``timm.create_model`` that make a network of another fixed input size fit crops of 224x224."""
    origin = timm.get_pretrained_cfg(name)
    other = origin is not None and tuple(origin.input_size[1:]) != (CROP, CROP)
    return {"img_size": CROP} if other and _has_fixed_size(name) else {}


def _has_fixed_size(name: str) -> bool:
    origin = timm.get_pretrained_cfg(name)
    return origin is not None and bool(origin.fixed_input_size)


def _features(name: str, pretrained: bool, drop_path: float, finer: bool) -> nn.Module:
    options: dict[str, Any] = {**size_options(name), "drop_path_rate": drop_path}
    # Negative indices count from the deepest level: convolutional networks have a stride 2 level first.
    last = tuple(range(-LEVELS, 0))
    try:
        features = _create(name, pretrained, last, options)
    except TypeError as error:
        # Networks without stochastic depth reject the option; those with it may have a default above 0.
        if drop_path:
            raise ValueError(f"backbone {name!r} has no stochastic depth: drop_path must be 0") from error
        del options["drop_path_rate"]
        features = _create(name, pretrained, last, options)
    info: Any = features.feature_info
    depth = len(info.info)
    if len(set(info.reduction())) > 1:
        one_more = finer and depth > LEVELS
        return _create(name, pretrained, (-LEVELS - 1, *last), options) if one_more else features
    if depth == LEVELS:
        return features
    return _create(name, pretrained, tuple((level + 1) * depth // LEVELS - 1 for level in range(LEVELS)), options)


def _create(name: str, pretrained: bool, levels: tuple[int, ...], options: dict[str, Any]) -> nn.Module:
    try:
        network: nn.Module = timm.create_model(
            name, pretrained=pretrained, features_only=True, out_indices=levels, **options
        )
    except (IndexError, AssertionError, RuntimeError, AttributeError) as error:
        raise ValueError(f"backbone {name!r} cannot be used with {LEVELS} feature levels: {error}") from error
    return network
