"""HyperIQA, as its authors and as pyiqa release it; SMART-IQA's code has most of its keys."""

from cli.models.weight_formats.base import Format, Rules

HYPER: Rules = (
    (r"conv1\.(\d)\.", r"hyper.trunk.\1."),
    (r"fc5w_fc\.", "hyper.last_weight."),
)
"""Keys of the hyper network that all releases share."""
AUTHORS_HYPER: Rules = (
    *HYPER,
    *((rf"fc{layer}w_conv\.", f"hyper.weight_convs.{layer - 1}.") for layer in range(1, 5)),
    *((rf"fc{layer}b_fc\.", f"hyper.biases.{layer - 1}.") for layer in range(1, 6)),
)
"""Keys of the hyper network in the authors' releases."""


def lda(prefix: str) -> Rules:
    """Keys of the local distortion-aware module in the authors' releases, behind a prefix."""
    return (
        *((rf"{prefix}lda{stage}_pool\.0\.", f"distortion.convs.{stage - 1}.") for stage in range(1, 4)),
        *((rf"{prefix}lda{stage}_fc\.", f"distortion.linears.{stage - 1}.") for stage in range(1, 5)),
    )


RELEASED = Format(
    title="HyperIQA's released code",
    mark="res.lda1_fc.weight",
    rules=(*lda(r"res\."), (r"res\.", "backbone.features."), *AUTHORS_HYPER),
    network=lambda _: ("hyperiqa", {}),
    recipes="hyperiqa",
)

PYIQA = Format(
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
        *HYPER,
    ),
    dropped=(r"default_mean", r"default_std"),
    network=lambda _: ("hyperiqa", {}),
    recipes="hyperiqa",
    contract_fields={"resize": "fit", "width": 512, "height": 384},
    # Trained on MOS / 100.
    line=lambda scale: (scale.max, 0.0),
)
