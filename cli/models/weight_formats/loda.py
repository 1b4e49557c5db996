"""LoDa's learner file: the layers that were trained, without the frozen trunks."""

from typing import Any

from torch import Tensor

from cli.models.weight_formats.base import Format, Weights


def _network(weights: Weights) -> tuple[str, dict[str, Any]]:
    width = weights["head"].shape[0]
    return {768: "loda-b", 384: "loda-s", 192: "loda-ti"}.get(width, f"loda of width {width}"), {}


def _convert(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    scales = weights.pop("scale_factor")
    weights |= {f"injectors.{place}.scale": scale for place, scale in enumerate(scales)}
    return {key: value.flatten() if key == "head" else value for key, value in weights.items()}


LEARNER = Format(
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
    network=_network,
    recipes="loda-b",
    # Outputs are cosines, and the file does not tell their scale: ranks are right, distances are not.
    line=lambda scale: ((scale.max - scale.min) / 2, (scale.max + scale.min) / 2),
    partial=True,
    convert=_convert,
)
