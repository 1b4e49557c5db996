"""A labelled set of pictures, a small network's first weights and a finished run."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.training.layouts import blurred
from training import trainer
from training.recipe import Recipe

RECIPE = Recipe(
    network="smart-mobile", backbone="test_resnet", dataset="csv", epochs=2, batch_pictures=4, test_share=0.25,
    validation_share=0.25, crops=2, validation_crops=1, frozen=("conv1", "bn1"), freeze_bn=True, ema_decay=0.5,
    crop_size=96,
)  # fmt: skip
"""Twelve pictures: six to train on, three to validate, three to test."""


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, blurred ever more, with labels that say so."""
    return blurred(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Backbone weights in the form that timm's users have them, without batch counters."""
    torch.manual_seed(0)
    weights = timm.create_model("test_resnet", num_classes=0).state_dict()
    file = tmp_path_factory.mktemp("init") / "backbone.safetensors"
    save_file({name: value for name, value in weights.items() if not name.endswith("tracked")}, file)
    return file


@pytest.fixture(scope="session")
def finished(root: Path, init: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an uninterrupted training. Not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    assert trainer.train(RECIPE, root, out, init=init, decoders=0) == out / "checkpoint"
    return out
