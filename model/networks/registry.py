"""Registry of networks: families and presets, by name.

A family is a network class with its typed config; a preset is a named config of one family. ``build("smart-tiny")``
makes a preset, ``from_dict`` the network that a checkpoint's ``config.json`` describes.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from torch import nn

from model.defects import DEFECTS
from model.interval import Interval
from model.networks.equations import EquationConfig, EquationIQA
from model.networks.life import LifeConfig, LifeIQA
from model.networks.loda import LoDa, LodaConfig
from model.networks.musiq import Musiq, MusiqConfig
from model.networks.network import Network, first_fault
from model.networks.smart import SmartConfig, SmartIQA

__all__ = ["FAMILIES", "PRESETS", "Network", "build", "from_dict", "names", "parameter_count", "to_dict"]


@dataclass(frozen=True)
class Family:
    """A network class and the config it is built from."""

    config: type[Any]
    network: type[Any]


FAMILIES: dict[str, Family] = {
    "smart": Family(SmartConfig, SmartIQA),
    "smart-eq": Family(EquationConfig, EquationIQA),
    "life": Family(LifeConfig, LifeIQA),
    "loda": Family(LodaConfig, LoDa),
    "musiq": Family(MusiqConfig, Musiq),
}

_SMART = {
    "smart-tiny": SmartConfig(backbone="swin_tiny_patch4_window7_224", dropout=0.3, drop_path=0.2),
    "smart-small": SmartConfig(backbone="swin_small_patch4_window7_224", dropout=0.35, drop_path=0.25),
    "smart-base": SmartConfig(backbone="swin_base_patch4_window7_224", dropout=0.4, drop_path=0.3),
    "smart-mobile": SmartConfig(backbone="mobilenetv2_100", dropout=0.3, drop_path=0.0),
    "smart-lite": SmartConfig(backbone="tf_efficientnet_lite0", dropout=0.3, drop_path=0.0),
}
_LIFE = LifeConfig()
PRESETS: dict[str, tuple[str, Any]] = {
    **{
        name + suffix: ("smart", replace(config, attention=attention, multi_scale=multi_scale))
        for name, config in _SMART.items()
        for suffix, attention, multi_scale in (
            ("", True, True),
            ("-no-attention", False, True),
            ("-backbone-only", False, False),
        )
    },
    # HyperIQA is the "backbone only" ablation of SMART-IQA with another backbone and a wider hyper trunk.
    "hyperiqa": (
        "smart",
        SmartConfig(
            backbone="resnet50.tv_in1k",
            trunk=(1024, 512),
            multi_scale=False,
            attention=False,
            dropout=0.0,
            drop_path=0.0,
        ),
    ),
    **{
        f"{name}-eq": ("smart-eq", EquationConfig(backbone=config.backbone, drop_path=config.drop_path))
        for name, config in _SMART.items()
    },
    "life-iqa": ("life", _LIFE),
    "life-iqa-2-experts": ("life", replace(_LIFE, experts=2)),
    "life-iqa-8-experts": ("life", replace(_LIFE, experts=8)),
    "life-iqa-livec": ("life", replace(_LIFE, experts=2, depth=2)),
    "life-iqa-tiny": ("life", replace(_LIFE, backbone="swin_tiny_patch4_window7_224")),
    "life-iqa-small": ("life", replace(_LIFE, backbone="swin_small_patch4_window7_224")),
    "life-iqa-mobile": ("life", replace(_LIFE, backbone="mobilenetv2_100", drop_path=0.0)),
    "loda-b": ("loda", LodaConfig()),
    "loda-s": ("loda", LodaConfig(transformer="vit_small_patch16_224.augreg_in21k_ft_in1k")),
    "loda-ti": ("loda", LodaConfig(transformer="vit_tiny_patch16_224.augreg_in21k_ft_in1k")),
    "musiq": ("musiq", MusiqConfig()),
    # As in Google's code, for its released weights.
    "musiq-google": ("musiq", MusiqConfig(tanh_gelu=True, kernel="gaussian")),
    "musiq-single": ("musiq", MusiqConfig(longer_sides=())),
    "musiq-medium": ("musiq", MusiqConfig(depth=8, width=768, hidden=2358, heads=8)),
    "musiq-large": ("musiq", MusiqConfig(depth=12, width=768, hidden=3072, heads=12)),
}


def names() -> list[str]:
    """List the presets that ``build`` knows."""
    return sorted(PRESETS)


def build(name: str, *, pretrained: bool = False, **changes: Any) -> Network:
    """Make a network by preset name, with random weights.

    Args:
        name: One of ``names()``.
        pretrained: Download the trunks' ImageNet weights from timm's hub.
        changes: Fields of the preset's config to change.

    Raises:
        ValueError: No preset has that name, or a change is invalid.
    """
    config = _config(name, changes)
    network: Network = FAMILIES[PRESETS[name][0]].network(config, pretrained=pretrained)
    return network


def _config(name: str, changes: Mapping[str, Any]) -> Any:
    if name not in PRESETS:
        raise ValueError(f"no network is called {name!r}; there are {', '.join(names())}")
    config = PRESETS[name][1]
    known = {field.name for field in dataclasses.fields(config)}
    if unknown := set(changes) - known:
        raise ValueError(f"{name} has no {min(unknown)}; its fields are {', '.join(sorted(known))}")
    return _made(type(config), {**dataclasses.asdict(config), **changes}, name)


def _made(config: type[Any], fields: Mapping[str, Any], origin: str) -> Any:
    try:
        return config(**fields)
    except ValidationError as error:
        raise ValueError(f"{origin}: {first_fault(error)}") from error


def view(name: str, **changes: Any) -> dict[str, Any]:
    """Fields of the contract that the preset determines, and recipes cannot choose."""
    config = _config(name, changes)
    if not isinstance(config, MusiqConfig):
        return {}
    return {"view": "tokens", "longer_sides": config.longer_sides, "kernel": config.kernel}


def output_range(name: str, **changes: Any) -> tuple[float, float] | None:
    """The range that the outputs of a preset have; None if they may be any numbers."""
    return (0.0, 1.0) if getattr(_config(name, changes), "bins", 1) > 1 else None


def findings(name: str, **changes: Any) -> dict[str, Any]:
    """Fields of the contract that tell what a preset finds beside the score, before any calibration."""
    config = _config(name, changes)
    kinds = getattr(config, "kinds", 0)
    return {
        "defects": DEFECTS if getattr(config, "defects", False) else (),
        "interval": Interval(below=(1.0,) * kinds, above=(1.0,) * kinds) if kinds else None,
        "description": getattr(config, "description", 0),
    }


def from_dict(description: Mapping[str, Any]) -> Network:
    """Make the network that ``to_dict`` described, with random weights.

    Raises:
        ValueError: The family is unknown, or its config has unknown, missing or invalid fields.
    """
    fields = dict(description)
    family = FAMILIES.get(str(fields.pop("family", None)))
    if family is None:
        raise ValueError(f"unknown network family {description.get('family')!r}; there are {', '.join(FAMILIES)}")
    known = {field.name for field in dataclasses.fields(family.config)}
    if unknown := set(fields) - known:
        raise ValueError(f"unknown network fields: {', '.join(sorted(unknown))}")
    network: Network = family.network(_made(family.config, fields, "network config"))
    return network


def to_dict(network: Network) -> dict[str, Any]:
    """Describe a network so that ``from_dict`` can make it again."""
    family = next(name for name, family in FAMILIES.items() if isinstance(network, family.network))
    return {"family": family, **dataclasses.asdict(network.config)}


def described(name: str, **changes: Any) -> dict[str, Any]:
    """Describe a preset with changes as ``to_dict`` describes its network, without making that."""
    return {"family": PRESETS[name][0], **dataclasses.asdict(_config(name, changes))}


def parameter_count(network: nn.Module) -> int:
    """Count all parameters, trainable or not."""
    return sum(parameter.numel() for parameter in network.parameters())
