"""MUSIQ, as pyiqa and as Google release it."""

import re
from typing import Any

from torch import Tensor

from cli.models.weight_formats.base import Format, Rules, Weights

_PYIQA_BLOCK = r"transformer_encoder\.transformer\.encoderblock_(\d+)\."
_GOOGLE_BLOCK = r"Transformer\.encoderblock_(\d+)\."


def _pyiqa_network(weights: Weights) -> tuple[str, dict[str, Any]]:
    name = "musiq" if weights["scales"].shape[-2] == 3 else "musiq-single"
    return name, {"classes": weights["head.weight"].shape[0]}


def _pyiqa_convert(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        key: value.squeeze(0) if key in ("positions", "scales") and value.ndim == 3 else value
        for key, value in weights.items()
    }


def _google_network(weights: Weights) -> tuple[str, dict[str, Any]]:
    return "musiq-google", {"classes": weights["head.weight"].shape[0]}


def _google_convert(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    made = {}
    for key, value in _pyiqa_convert(weights).items():
        if key.endswith(("query.weight", "key.weight", "value.weight")):
            value = value.flatten(1).T  # (width, heads, width / heads)
        elif key.endswith("out.weight"):
            value = value.flatten(0, 1).T  # (heads, width / heads, width)
        elif re.search(r"(query|key|value)\.bias", key):
            value = value.flatten()
        elif key.endswith("weight") and value.ndim == 4:
            value = value.permute(3, 2, 0, 1)  # (height, width, inputs, outputs)
        elif key.endswith("weight") and value.ndim == 2:
            value = value.T
        made[key] = value.contiguous()
    return made


def _google_rules() -> Rules:
    names: Rules = (
        (r"conv_root\.", "stem.root."),
        (r"gn_root\.", "stem.root_norm."),
        (r"block1\.unit1\.conv_proj\.", "stem.shortcut."),
        (r"block1\.unit1\.gn_proj\.", "stem.shortcut_norm."),
        *((rf"block1\.unit1\.conv{place}\.", f"stem.convs.{place - 1}.") for place in (1, 2, 3)),
        *((rf"block1\.unit1\.gn{place}\.", f"stem.norms.{place - 1}.") for place in (1, 2, 3)),
        (r"embedding\.", "stem.embedding."),
        (r"Transformer\.encoder_norm\.", "norm."),
        # Flax numbers the parts of a block by itself: norm, attention, norm, perceptron.
        (_GOOGLE_BLOCK + r"LayerNorm_0\.", r"blocks.\1.norm1."),
        (_GOOGLE_BLOCK + r"LayerNorm_[12]\.", r"blocks.\1.norm2."),
        (_GOOGLE_BLOCK + r"[^.]*attention[^.]*\.(query|key|value|out)\.", r"blocks.\1.attention.\2."),
        (_GOOGLE_BLOCK + r"MlpBlock_\d\.Dense_0\.", r"blocks.\1.first."),
        (_GOOGLE_BLOCK + r"MlpBlock_\d\.Dense_1\.", r"blocks.\1.second."),
        (r"head\.", "head."),
    )
    weights_and_biases = tuple(
        (f"(?i:{theirs}){kind}", ours + ending)
        for theirs, ours in names
        for kind, ending in ((r"(?:kernel|scale)$", "weight"), ("bias$", "bias"))
    )
    return (
        (r"Transformer\.cls", "cls"),
        (r"Transformer\.posembed_input\.pos_embedding", "positions"),
        (r"Transformer\.scaleembed_input\.scale_embedding", "scales"),
        *weights_and_biases,
    )


PYIQA = Format(
    title="pyiqa's MUSIQ",
    mark="transformer_encoder.posembed_input.position_emb",
    rules=(
        (r"conv_root\.", "stem.root."),
        (r"gn_root\.", "stem.root_norm."),
        (r"block1\.conv_proj\.", "stem.shortcut."),
        (r"block1\.gn_proj\.", "stem.shortcut_norm."),
        *((rf"block1\.conv{place}\.", f"stem.convs.{place - 1}.") for place in (1, 2, 3)),
        *((rf"block1\.gn{place}\.", f"stem.norms.{place - 1}.") for place in (1, 2, 3)),
        (r"embedding\.", "stem.embedding."),
        (r"transformer_encoder\.cls", "cls"),
        (r"transformer_encoder\.posembed_input\.position_emb", "positions"),
        (r"transformer_encoder\.scaleembed_input\.scale_emb", "scales"),
        (r"transformer_encoder\.encoder_norm\.", "norm."),
        (_PYIQA_BLOCK + r"mlp\.fc1\.", r"blocks.\1.first."),
        (_PYIQA_BLOCK + r"mlp\.fc2\.", r"blocks.\1.second."),
        (_PYIQA_BLOCK, r"blocks.\1."),
        # The head for AVA is in a sequence with its softmax.
        (r"head\.0\.", "head."),
        (r"head\.", "head."),
    ),
    network=_pyiqa_network,
    recipes="musiq",
    convert=_pyiqa_convert,
)

GOOGLE = Format(
    title="Google's MUSIQ",
    mark="Transformer.posembed_input.pos_embedding",
    rules=_google_rules(),
    network=_google_network,
    recipes="musiq",
    convert=_google_convert,
)
