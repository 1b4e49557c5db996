"""Checkpoints of other projects, made into ours.

A format is told from its keys. Weights are read with ``weights_only=True``: nothing in a file is run.
"""

import pickle
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model import checkpoint, golden, registry
from model.contract import Contract, Scale
from model.scorer import Scorer

Weights = Mapping[str, Tensor]
Rules = tuple[tuple[str, str], ...]

KONIQ = Scale(dataset="koniq10k", min=0.0, max=100.0)
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
        contract: How its pictures were looked at.
        partial: Whether trunks are missing from it and come from timm's hub.
        convert: What else its tensors need, after renaming.
    """

    title: str
    mark: str
    rules: Rules
    dropped: tuple[str, ...] = ()
    network: Callable[[Weights], tuple[str, dict[str, Any]]]
    contract: Contract
    partial: bool = False
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict


def _crops(**fields: Any) -> Contract:
    return Contract(**{"crops": 25, "scale": KONIQ, **fields})


_SWAPPED = {"resize": "exact", "width": 384, "height": 512}
"""torchvision's Resize((512, 384)) is 512 high and 384 wide, whatever the picture's shape."""


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
    return ("musiq" if weights["scales"].shape[0] == 3 else "musiq-single"), {}


def _musiq_tensors(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        key: value.squeeze(0) if key in ("positions", "scales") and value.ndim == 3 else value
        for key, value in weights.items()
    }


_TRANSFORMER = r"transformer_encoder\.transformer\.encoderblock_(\d+)\."
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
        contract=_crops(**_SWAPPED),
    ),
    "hyperiqa": Format(
        title="HyperIQA's released code",
        mark="res.lda1_fc.weight",
        rules=(*_lda(r"res\."), (r"res\.", "backbone.features."), *_AUTHOR_HYPER),
        network=lambda _: ("hyperiqa", {}),
        contract=_crops(**_SWAPPED),
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
        # Trained on MOS / 100.
        contract=_crops(resize="fit", width=512, height=384, scale=KONIQ, slope=100.0),
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
            (r"head\.", "head."),
        ),
        network=_musiq,
        contract=Contract(view="tokens", longer_sides=(224, 384), crops=1, width=1536, height=1536, scale=KONIQ),
        convert=_musiq_tensors,
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
        contract=_crops(crops=15, resize="fit", width=512, height=384),
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
        contract=_crops(crops=40, **_SWAPPED),
        convert=_life_tensors,
    ),
}


def read(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a foreign checkpoint, whatever wraps them.

    Raises:
        ValueError: The file is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        found: Any = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"{file}: not a PyTorch file of plain tensors: {str(error).splitlines()[0] or type(error).__name__}"
        ) from error
    for wrapper in ("params", "learner", "model", "state_dict"):
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            buffers = found.get("bn_buffer")
            found = found[wrapper]
            if isinstance(buffers, dict):
                found = found | {f"bn_buffer.{name}": value for name, value in buffers.items()}
    weights = {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}
    weights = {key.removeprefix("module."): value for key, value in weights.items() if isinstance(value, Tensor)}
    if not weights:
        raise ValueError(f"{file}: holds no tensors by name")
    return weights


def detect(weights: Weights) -> str:
    """Tell a format from the keys.

    Raises:
        ValueError: It is none that is known.
    """
    for name, format_ in FORMATS.items():
        if format_.mark in weights:
            return name
    known = ", ".join(f"{name} ({format_.title})" for name, format_ in FORMATS.items())
    raise ValueError(
        f"the keys are of no format that is known, the first is {next(iter(weights))!r}; known are {known}"
    )


def convert(weights: Weights, format_: Format) -> tuple[registry.Network, Contract]:
    """Make a network of foreign weights, and the contract that they were trained by.

    Raises:
        ValueError: Keys are missing or unexpected, or a tensor has another shape; the message lists them.
    """
    renamed: dict[str, Tensor] = {}
    unexpected = []
    for key, value in weights.items():
        if any(re.match(pattern, key) for pattern in format_.dropped):
            continue
        for pattern, ours in format_.rules:
            if re.match(pattern, key):
                renamed[re.sub(f"^{pattern}", ours, key)] = value
                break
        else:
            unexpected.append(key)
    if unexpected:
        raise ValueError(_listed("unexpected keys", unexpected, format_))
    try:
        renamed = format_.convert(renamed)
        name, changes = format_.network(renamed)
    except KeyError as error:
        raise ValueError(_listed("missing keys", [str(error.args[0])], format_)) from error
    network = registry.build(name, pretrained=format_.partial, **changes)
    own = network.state_dict()
    trunks = tuple(f"{name}." for name in network.trunks()) if format_.partial else ()
    missing = [
        key
        for key in own
        if key not in renamed and not key.endswith("num_batches_tracked") and not key.startswith(trunks or ("\0",))
    ]
    if missing:
        raise ValueError(_listed("missing keys", missing, format_))
    if unexpected := [key for key in renamed if key not in own]:
        raise ValueError(_listed("unexpected keys", unexpected, format_))
    shapes = [
        f"{key} {tuple(value.shape)} instead of {tuple(own[key].shape)}"
        for key, value in renamed.items()
        if value.shape != own[key].shape
    ]
    if shapes:
        raise ValueError(_listed("tensors of another shape", shapes, format_))
    network.load_state_dict(own | renamed)
    return network, format_.contract


def _listed(what: str, names: list[str], format_: Format) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} others" if len(names) > 5 else "")
    return f"not {format_.title}: {what}: {shown}"


def write(weights: Weights, format_: Format, out: Path, *, name: str, origin: str) -> None:
    """Make a checkpoint folder with golden scores; nothing is left of it if that fails.

    Args:
        weights: As ``read`` gives them.
        format_: What they are of.
        out: The folder; it must not exist.
        name: Name that requests will choose the model by.
        origin: Name of the file, for the card.

    Raises:
        ValueError: The weights are not of that format, or the folder exists.
    """
    if out.exists():
        raise ValueError(f"{out} exists already")
    network, contract = convert(weights, format_)
    staging = out.with_name(f".{out.name}.importing")
    try:
        checkpoint.save(
            staging,
            network,
            name=name,
            contract=contract,
            card=(
                f"# {name}\n\nImported from `{origin}` ({format_.title}).\n\nIts terms are those of its authors and "
                f"of its training data. No figure of it was measured here.\n"
            ),
            trained_on=f"{contract.scale.dataset}, by its authors",
            licence="of its authors and of the training data",
        )
        golden.write(Scorer.load(staging, device="cpu", precision="fp32"))
        checkpoint.replace(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
