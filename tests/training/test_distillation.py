from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model import checkpoint
from model.contract import Contract
from model.inference.engine import mean_std, network_inputs
from model.networks import registry
from model.networks.backbone import Backbone
from model.networks.smart import SmartIQA
from tests.training.conftest import RECIPE
from training import run, trainer
from training.distillation import Distiller


def test_a_student_that_is_its_teacher_is_no_distance_away(finished: Path) -> None:
    teacher = checkpoint.load(finished / "checkpoint")
    student = checkpoint.load(finished / "checkpoint").network
    distiller = Distiller(teacher, student, teacher.contract, torch.device("cpu"))
    for layer in distiller.maps:
        assert isinstance(layer, torch.nn.Conv2d)
        torch.nn.init.dirac_(layer.weight)
        assert layer.bias is not None
        torch.nn.init.zeros_(layer.bias)
    crops = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8)
    with distiller.record_maps() as maps, torch.no_grad():
        answered = student(network_inputs(crops, mean_std(teacher.contract, "cpu"))).score
    assert distiller(crops, answered, maps[0]).item() == pytest.approx(0, abs=1e-5)
    # A score that is off by a tenth of the range costs a tenth.
    tenth = 0.1 * (teacher.contract.scale.max - teacher.contract.scale.min)
    assert distiller(crops, answered + tenth, maps[0]).item() == pytest.approx(0.1, abs=1e-5)
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    assert set(distiller.state_dict()) == {f"maps.{stage}.{kind}" for stage in range(4) for kind in ("weight", "bias")}


def test_a_network_without_weights_learns_to_see_what_its_teacher_sees(
    finished: Path, root: Path, tmp_path: Path
) -> None:
    teacher = finished / "checkpoint"
    recipe = replace(
        RECIPE, backbone="test_efficientnet", distil_weight=1.0, epochs=2, visits=4, head_lr=3e-3,
        backbone_lr=1e-3, frozen=(), freeze_bn=False, degraded=0.5,
    )  # fmt: skip
    from training.initial_weights import RANDOM

    trainer.train(recipe, root, tmp_path / "run", init=RANDOM, teacher=teacher, decoders=0)
    lines = run.read_metrics(tmp_path / "run")
    assert lines[-1]["loss"] < lines[0]["loss"]
    state = torch.load(tmp_path / "run" / run.STATE, weights_only=True)
    assert "maps.0.weight" in state["learner"]["beside"]
    assert not any("maps" in name for name in checkpoint.load(tmp_path / "run" / "checkpoint").network.state_dict())
    with pytest.raises(ValueError, match="from other first weights"):
        trainer.train(recipe, root, tmp_path / "run", init=RANDOM, teacher=tmp_path / "run" / "checkpoint", decoders=0)


def test_crops_of_another_size_than_the_teacher_learned_on(finished: Path, contract: Contract) -> None:
    teacher, student = (checkpoint.load(finished / "checkpoint") for _ in range(2))
    distiller = Distiller(teacher, student.network, replace(contract, crop_size=192), torch.device("cpu"))
    crops = torch.randint(0, 256, (1, 192, 192, 3), dtype=torch.uint8)
    with distiller.record_maps() as maps:
        answered = student.network(network_inputs(crops, mean_std(contract, "cpu"))).score
    distiller(crops, answered, maps[0]).backward()
    assert [map_.shape[-1] for map_ in maps[0]] == [48, 24, 12, 6]


def test_networks_that_take_crops_of_one_size() -> None:
    assert {name: Backbone(name).fixed_size for name in ("resnet10t", "swin_tiny_patch4_window7_224")} == {
        "resnet10t": False,
        "swin_tiny_patch4_window7_224": True,
    }


def test_what_cannot_teach_or_learn(finished: Path, root: Path, tmp_path: Path, contract: Contract) -> None:
    teacher = checkpoint.load(finished / "checkpoint")
    assert isinstance(teacher.network, SmartIQA)
    teacher.network.backbone.fixed_size = True
    with pytest.raises(ValueError, match="crops of 96 pixels, and no others"):
        Distiller(teacher, teacher.network, replace(contract, crop_size=192), torch.device("cpu"))
    musiq = registry.build("musiq", width=48, depth=1, heads=4, hidden=64)
    with pytest.raises(ValueError, match="no stages"):
        Distiller(teacher, musiq, teacher.contract, torch.device("cpu"))
    for recipe, folder in ((RECIPE, teacher.folder), (replace(RECIPE, distil_weight=1.0), None)):
        with pytest.raises(ValueError, match="needs a teacher"):
            trainer.train(recipe, root, tmp_path / "run", teacher=folder, decoders=0)
