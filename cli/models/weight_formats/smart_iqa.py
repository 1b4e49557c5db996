"""SMART-IQA, as its authors release it."""

import re
from typing import Any

from cli.models.weight_formats.base import Format, Weights
from cli.models.weight_formats.hyperiqa import AUTHORS_HYPER, lda


def swin_size(weights: Weights) -> str:
    """The size of a Swin backbone, ``tiny``, ``small`` or ``base``, by its renamed weights.

    Raises:
        KeyError: There is no Swin backbone.
    """
    channels = weights["backbone.features.patch_embed.proj.weight"].shape[0]
    blocks = {match[1] for key in weights if (match := re.match(r"backbone\.features\.layers_2\.blocks\.(\d+)\.", key))}
    return "base" if channels == 128 else "small" if len(blocks) > 6 else "tiny"


def _network(weights: Weights) -> tuple[str, dict[str, Any]]:
    attention = any(key.startswith("attention.") for key in weights)
    fused = weights["hyper.trunk.0.weight"].shape[1]
    deepest = weights["distortion.linears.3.weight"].shape[1]
    suffix = "" if attention else "-backbone-only" if fused == deepest else "-no-attention"
    return f"smart-{swin_size(weights)}{suffix}", {}


RELEASED = Format(
    title="SMART-IQA's released code",
    mark="swin.lda1_fc.weight",
    rules=(
        *lda(r"swin\."),
        (r"swin\.backbone\.", "backbone.features."),
        (r"multiscale_attention\.attention_net\.", "attention.layers."),
        *AUTHORS_HYPER,
    ),
    network=_network,
    recipes="hyperiqa",
)
