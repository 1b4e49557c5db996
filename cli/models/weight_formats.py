"""Formats of released weights: what their keys mean here, and how their makers looked at pictures."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from model.contract import Contract, Scale
from training import recipe

Weights = Mapping[str, Tensor]
Rules = tuple[tuple[str, str], ...]

SCALES = {
    scale.dataset: scale
    for scale in (
        Scale(dataset="koniq10k", min=0.0, max=100.0),
        Scale(dataset="spaq", min=0.0, max=100.0),
        Scale(dataset="clive", min=0.0, max=100.0),
        Scale(dataset="flive", min=0.0, max=100.0),
        Scale(dataset="ava", min=1.0, max=10.0),
        Scale(dataset="kadid10k", min=1.0, max=5.0),
        Scale(dataset="tid2013", min=0.0, max=9.0),
        # Learned as they are there: differential scores, where less is better.
        Scale(dataset="live", min=0.0, max=100.0, higher_is_better=False),
        Scale(dataset="csiq", min=0.0, max=1.0, higher_is_better=False),
    )
}
"""Labels that released weights were trained on."""
_HYPER: Rules = (
    (r"conv1\.(\d)\.", r"hyper.trunk.\1."),
    (r"fc5w_fc\.", "hyper.last_weight."),
)
_AUTHOR_HYPER: Rules = (
    *_HYPER,
    *((rf"fc{layer}w_conv\.", f"hyper.weight_convs.{layer - 1}.") for layer in range(1, 5)),
    *((rf"fc{layer}b_fc\.", f"hyper.biases.{layer - 1}.") for layer in range(1, 6)),
)


def _lda(prefix: str) -> Rules:
    return (
        *((rf"{prefix}lda{stage}_pool\.0\.", f"distortion.convs.{stage - 1}.") for stage in range(1, 4)),
        *((rf"{prefix}lda{stage}_fc\.", f"distortion.linears.{stage - 1}.") for stage in range(1, 5)),
    )


@dataclass(frozen=True, kw_only=True)
class Format:
    """A foreign format.

    Attributes:
        title: What it is, for people.
        mark: A key that only it has.
        rules: Patterns of its keys and what they are called here, first match wins.
        dropped: Patterns of keys that nothing here needs.
        network: From its weights (already renamed) to preset and changes.
        recipes: What the names of this system's recipes begin with; they say how pictures of each data set are seen.
        looks: Fields of the contract that are otherwise than in those recipes.
        line: From the scale of the labels to the slope and intercept that turn an answer into a label.
        partial: Whether trunks are missing from it and come from timm's hub.
        convert: What else its tensors need, after renaming.
    """

    title: str
    mark: str
    rules: Rules
    dropped: tuple[str, ...] = ()
    network: Callable[[Weights], tuple[str, dict[str, Any]]]
    recipes: str
    looks: Mapping[str, Any] = field(default_factory=dict)
    line: Callable[[Scale], tuple[float, float]] = lambda _: (1.0, 0.0)
    partial: bool = False
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict

    def contract(self, dataset: str, view: Mapping[str, Any]) -> Contract:
        """How the origin looked at pictures.

        Args:
            dataset: Name of the data set that the weights were trained on.
            view: What the network says of it.

        Raises:
            ValueError: It is not known.
        """
        seen = {one.dataset: one for one in map(recipe.load, sorted(recipe.SHIPPED.glob(f"{self.recipes}-*.toml")))}
        if "ava" not in seen and self.recipes == "musiq":
            seen["ava"] = seen["koniq10k"]
        if dataset not in seen:
            raise ValueError(f"how {self.title} saw {dataset!r} is not known; known are {', '.join(seen)}")
        looked = {name: getattr(seen[dataset], name) for name in ("resize", "width", "height", "crops")}
        scale = SCALES[dataset]
        slope, intercept = self.line(scale)
        return Contract(**{**looked, **self.looks, **view}, scale=scale, slope=slope, intercept=intercept)


def _swin_size(weights: Weights) -> str:
    channels = weights["backbone.features.patch_embed.proj.weight"].shape[0]
    blocks = {match[1] for key in weights if (match := re.match(r"backbone\.features\.layers_2\.blocks\.(\d+)\.", key))}
    return "base" if channels == 128 else "small" if len(blocks) > 6 else "tiny"


def _smart(weights: Weights) -> tuple[str, dict[str, Any]]:
    attention = any(key.startswith("attention.") for key in weights)
    fused = weights["hyper.trunk.0.weight"].shape[1]
    deepest = weights["distortion.linears.3.weight"].shape[1]
    suffix = "" if attention else "-backbone-only" if fused == deepest else "-no-attention"
    return f"smart-{_swin_size(weights)}{suffix}", {}


def _life(weights: Weights) -> tuple[str, dict[str, Any]]:
    experts = weights["experts.router.weight"].shape[0]
    depth = len({key.split(".")[1] for key in weights if key.startswith("layers.")})
    backbone = f"swin_{_swin_size(weights)}_patch4_window7_224"
    return "life-iqa", {"backbone": backbone, "experts": experts, "depth": depth}


def _life_tensors(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    made = {}
    for key, value in weights.items():
        # Graph convolutions keep their matrices as (inputs, outputs).
        made[key] = value.T if re.search(r"graph\.layers\.\d\.weight", key) else value
    # The projection of the fourth stage is a 1x1 convolution there, taken before the mean; both are linear.
    made["from_fourth.weight"] = made["from_fourth.weight"].flatten(1)
    return made


def _loda(weights: Weights) -> tuple[str, dict[str, Any]]:
    width = weights["head"].shape[0]
    return {768: "loda-b", 384: "loda-s", 192: "loda-ti"}.get(width, f"loda of width {width}"), {}


def _loda_tensors(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    scales = weights.pop("scale_factor")
    weights |= {f"injectors.{place}.scale": scale for place, scale in enumerate(scales)}
    return {key: value.flatten() if key == "head" else value for key, value in weights.items()}


def _musiq(weights: Weights) -> tuple[str, dict[str, Any]]:
    name = "musiq" if weights["scales"].shape[-2] == 3 else "musiq-single"
    return name, {"classes": weights["head.weight"].shape[0]}


def _google(weights: Weights) -> tuple[str, dict[str, Any]]:
    return "musiq-google", {"classes": weights["head.weight"].shape[0]}


def _musiq_tensors(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        key: value.squeeze(0) if key in ("positions", "scales") and value.ndim == 3 else value
        for key, value in weights.items()
    }


def _google_tensors(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    made = {}
    for key, value in _musiq_tensors(weights).items():
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


_TRANSFORMER = r"transformer_encoder\.transformer\.encoderblock_(\d+)\."
_GOOGLE_BLOCK = r"Transformer\.encoderblock_(\d+)\."


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
    weighted = tuple(
        (f"(?i:{theirs}){kind}", ours + ending)
        for theirs, ours in names
        for kind, ending in ((r"(?:kernel|scale)$", "weight"), ("bias$", "bias"))
    )
    return (
        (r"Transformer\.cls", "cls"),
        (r"Transformer\.posembed_input\.pos_embedding", "positions"),
        (r"Transformer\.scaleembed_input\.scale_embedding", "scales"),
        *weighted,
    )


FORMATS: dict[str, Format] = {
    "smart": Format(
        title="SMART-IQA's released code",
        mark="swin.lda1_fc.weight",
        rules=(
            *_lda(r"swin\."),
            (r"swin\.backbone\.", "backbone.features."),
            (r"multiscale_attention\.attention_net\.", "attention.layers."),
            *_AUTHOR_HYPER,
        ),
        network=_smart,
        recipes="hyperiqa",
    ),
    "hyperiqa": Format(
        title="HyperIQA's released code",
        mark="res.lda1_fc.weight",
        rules=(*_lda(r"res\."), (r"res\.", "backbone.features."), *_AUTHOR_HYPER),
        network=lambda _: ("hyperiqa", {}),
        recipes="hyperiqa",
    ),
    "pyiqa-hyperiqa": Format(
        title="pyiqa's HyperIQA",
        mark="fc_w_modules.0.weight",
        rules=(
            (r"base_model\.", "backbone.features."),
            (r"lda_modules\.([012])\.0\.", r"distortion.convs.\1."),
            (r"lda_modules\.([012])\.3\.", r"distortion.linears.\1."),
            (r"lda_modules\.3\.2\.", "distortion.linears.3."),
            (r"fc_w_modules\.4\.2\.", "hyper.last_weight."),
            (r"fc_w_modules\.([0-3])\.", r"hyper.weight_convs.\1."),
            (r"fc_b_modules\.(\d)\.2\.", r"hyper.biases.\1."),
            *_HYPER,
        ),
        dropped=(r"default_mean", r"default_std"),
        network=lambda _: ("hyperiqa", {}),
        recipes="hyperiqa",
        looks={"resize": "fit", "width": 512, "height": 384},
        # Trained on MOS / 100.
        line=lambda scale: (scale.max, 0.0),
    ),
    "pyiqa-musiq": Format(
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
            (_TRANSFORMER + r"mlp\.fc1\.", r"blocks.\1.first."),
            (_TRANSFORMER + r"mlp\.fc2\.", r"blocks.\1.second."),
            (_TRANSFORMER, r"blocks.\1."),
            # The one for AVA is in a sequence with its softmax.
            (r"head\.0\.", "head."),
            (r"head\.", "head."),
        ),
        network=_musiq,
        recipes="musiq",
        convert=_musiq_tensors,
    ),
    "google-musiq": Format(
        title="Google's MUSIQ",
        mark="Transformer.posembed_input.pos_embedding",
        rules=_google_rules(),
        network=_google,
        recipes="musiq",
        convert=_google_tensors,
    ),
    "loda": Format(
        title="LoDa's learner file",
        mark="cross_attn.0.kv.weight",
        rules=(
            (r"conv\.(\d)\.", r"extractor.\1."),
            *(
                (rf"{theirs}\.(\d+)\.fc{number}\.", rf"injectors.\1.{ours}.{word}.")
                for theirs, ours in (("down_proj", "down"), ("up_proj", "up"))
                for number, word in ((1, "first"), (2, "second"))
            ),
            *(
                (rf"cross_attn\.(\d+)\.{theirs}\.", rf"injectors.\1.attention.{ours}.")
                for theirs, ours in (("q", "query"), ("kv", "key_value"), ("proj", "out"))
            ),
            (r"head\.weight", "head"),
            (r"scale_factor", "scale_factor"),
            # The statistics of batch norms move in training although the trunk's weights do not.
            (r"bn_buffer\.", "backbone.features."),
        ),
        network=_loda,
        recipes="loda-b",
        # Cosines, on a scale that the file does not tell: ranks are right, distances are not.
        line=lambda scale: ((scale.max - scale.min) / 2, (scale.max + scale.min) / 2),
        partial=True,
        convert=_loda_tensors,
    ),
    "life": Format(
        title="Life-IQA's training checkpoint",
        mark="bunch_embedding",
        rules=(
            (r"backbone_stages\.0\.0\.", "backbone.features.patch_embed."),
            (r"backbone_stages\.0\.1\.", "backbone.features.layers_0."),
            *((rf"backbone_stages\.{stage}\.", f"backbone.features.layers_{stage}.") for stage in (1, 2, 3)),
            (r"bunch_embedding", "queries"),
            (r"proj_layer3\.", "from_third."),
            (r"proj_layer4\.", "from_fourth."),
            (r"bunch_decoder\.layers\.(\d+)\.multihead_attn\.", r"layers.\1.attention."),
            *(
                (rf"bunch_decoder\.layers\.(\d+)\.GCN\.gcn{place}\.", rf"layers.\1.graph.layers.{place - 1}.")
                for place in (1, 2, 3)
            ),
            (r"bunch_decoder\.layers\.(\d+)\.norm2\.", r"layers.\1.norm."),
            (r"norm3\.", "norm."),
            (r"MOE\.router\.linear\.", "experts.router."),
            (r"MOE\.experts\.(\d+)\.net\.", r"experts.experts.\1."),
            (r"gamma", "gamma"),
            (r"fc\.", "score."),
        ),
        # The backbone is in the file twice.
        dropped=(r"pretrain_model\.",),
        network=_life,
        recipes="life-iqa",
        convert=_life_tensors,
    ),
}
