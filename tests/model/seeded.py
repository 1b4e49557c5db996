"""Golden outputs: what every network answers with weights and pictures that anybody can draw again.

Random numbers are numpy's PCG64, which does not change from release to release as initialisations of networks do:
``python -m tests.model.seeded`` prints the table of ``golden_outputs.json`` and ``docs/models.md``.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model import tokens
from model.networks import registry
from model.networks.musiq import Musiq

FILE = Path(__file__).with_name("golden_outputs.json")
NAMES = (
    "smart-mobile",
    "smart-tiny",
    "smart-small",
    "smart-base",
    "smart-mobile-eq",
    "hyperiqa",
    "life-iqa",
    "loda-b",
    "loda-s",
    "loda-ti",
    "musiq",
    "musiq-google",
    "musiq-single",
)


def fill(network: nn.Module) -> None:
    """Draw all weights, in the order of their names.

    One generator of seed 0 draws standard normal numbers z for one tensor after the other. Matrices and kernels become
    z / sqrt(inputs), where inputs is the product of all axes but the first; vectors 0.1 z, and 1 + 0.1 z if their name
    ends in ``weight`` or ``running_var`` (that one from the absolute value of z).
    """
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for name, value in sorted(network.state_dict().items()):
            if not value.is_floating_point():
                continue
            drawn = rng.standard_normal(value.shape)
            if value.ndim > 1:
                drawn /= np.sqrt(np.prod(value.shape[1:]))
            elif name.endswith("running_var"):
                drawn = 1 + 0.1 * np.abs(drawn)
            else:
                drawn = 0.1 * drawn + name.endswith("weight")
            value.copy_(torch.from_numpy(drawn))


def items(network: nn.Module) -> Tensor:
    """Two crops (2, 3, 224, 224) of standard normal numbers, or the tokens of one noisy picture of 512x384."""
    rng = np.random.default_rng(1)
    if isinstance(network, Musiq):
        pixels_HWC = rng.integers(0, 256, (384, 512, 3), dtype=np.uint8)
        cut = tokens.cut(pixels_HWC, network.config.longer_sides, network.config.kernel)
        return torch.from_numpy(cut).unsqueeze(0)
    return torch.from_numpy(rng.standard_normal((2, 3, 224, 224))).float()


@torch.inference_mode()
def outputs(name: str) -> dict[str, list[float]]:
    """Scores of a preset, and the first item's stage weights if it has any."""
    network = registry.build(name).eval()
    fill(network)
    prediction = network(items(network))
    answer = {"scores": prediction.score.tolist()}
    if prediction.stage_weights is not None:
        answer["stage_weights"] = prediction.stage_weights[0].tolist()
    return {key: [round(value, 7) for value in values] for key, values in answer.items()}


if __name__ == "__main__":
    lines = ",\n".join(f'  "{name}": {json.dumps(outputs(name))}' for name in NAMES)
    print(f"{{\n{lines}\n}}")  # noqa: T201
