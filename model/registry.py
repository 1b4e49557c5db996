"""Networks by name.

A family is a network class with its typed config; a preset is a named config of one family. ``build("smart-tiny")``
makes a preset, ``from_dict`` the network that a checkpoint's ``config.json`` describes.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from model.networks.smart import SmartConfig, SmartIQA


@dataclass(frozen=True)
class Family:
    """A network class and the config it is built from."""

    config: type[SmartConfig]
    network: type[SmartIQA]


Network = SmartIQA
"""Any network that the registry can make."""

FAMILIES: dict[str, Family] = {"smart": Family(SmartConfig, SmartIQA)}

_SMART = {
    "smart-tiny": SmartConfig(backbone="swin_tiny_patch4_window7_224", dropout=0.3, drop_path=0.2),
    "smart-small": SmartConfig(backbone="swin_small_patch4_window7_224", dropout=0.35, drop_path=0.25),
    "smart-base": SmartConfig(backbone="swin_base_patch4_window7_224", dropout=0.4, drop_path=0.3),
    "smart-mobile": SmartConfig(backbone="mobilenetv2_100", dropout=0.3, drop_path=0.0),
}
PRESETS: dict[str, tuple[str, SmartConfig]] = {
    name + suffix: ("smart", replace(config, attention=attention, multi_scale=multi_scale))
    for name, config in _SMART.items()
    for suffix, attention, multi_scale in (
        ("", True, True),
        ("-no-attention", False, True),
        ("-backbone-only", False, False),
    )
}


def names() -> list[str]:
    """List the presets that ``build`` knows."""
    return sorted(PRESETS)


def build(name: str, *, pretrained: bool = False, **changes: Any) -> Network:
    """Make a network by preset name, with random weights.

    Args:
        name: One of ``names()``.
        pretrained: Fetch the backbone's ImageNet weights from timm's hub.
        changes: Fields of the preset's config to set otherwise.

    Raises:
        ValueError: No preset has that name, or a change is impossible.
    """
    if name not in PRESETS:
        raise ValueError(f"no network is called {name!r}; there are {', '.join(names())}")
    family, config = PRESETS[name]
    return FAMILIES[family].network(replace(config, **changes), pretrained=pretrained)


def from_dict(description: Mapping[str, Any]) -> Network:
    """Make the network that ``to_dict`` described, with random weights.

    Raises:
        ValueError: The family is unknown, or its config has unknown, missing or impossible fields.
    """
    fields = dict(description)
    family = FAMILIES.get(str(fields.pop("family", None)))
    if family is None:
        raise ValueError(f"unknown network family {description.get('family')!r}; there are {', '.join(FAMILIES)}")
    known = {field.name for field in dataclasses.fields(family.config)}
    if unknown := set(fields) - known:
        raise ValueError(f"unknown network fields: {', '.join(sorted(unknown))}")
    try:
        config = family.config(**fields)
    except TypeError as error:
        raise ValueError(f"network config: {error}") from error
    return family.network(config)


def to_dict(network: Network) -> dict[str, Any]:
    """Describe a network so that ``from_dict`` can make it again."""
    family = next(name for name, family in FAMILIES.items() if isinstance(network, family.network))
    return {"family": family, **dataclasses.asdict(network.config)}


def parameter_count(network: nn.Module) -> int:
    """Count all parameters, trainable or not."""
    return sum(parameter.numel() for parameter in network.parameters())
