"""Life-IQA's training checkpoint."""

import re
from typing import Any

from torch import Tensor

from cli.models.weight_formats.base import Format, Weights
from cli.models.weight_formats.smart_iqa import swin_size


def _network(weights: Weights) -> tuple[str, dict[str, Any]]:
    experts = weights["experts.router.weight"].shape[0]
    depth = len({key.split(".")[1] for key in weights if key.startswith("layers.")})
    backbone = f"swin_{swin_size(weights)}_patch4_window7_224"
    return "life-iqa", {"backbone": backbone, "experts": experts, "depth": depth}


def _convert(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    made = {}
    for key, value in weights.items():
        # Graph convolutions keep their matrices as (inputs, outputs).
        made[key] = value.T if re.search(r"graph\.layers\.\d\.weight", key) else value
    # The projection of the fourth stage is a 1x1 convolution there, taken before the mean; both are linear.
    made["from_fourth.weight"] = made["from_fourth.weight"].flatten(1)
    return made


TRAINING = Format(
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
    network=_network,
    recipes="life-iqa",
    convert=_convert,
)
