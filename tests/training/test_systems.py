"""The other systems, trained for a moment by the same loop, end as checkpoints that can be served."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from model import checkpoint, golden
from model.contract import Contract
from model.networks import registry
from model.scale import Scale
from model.scorer import Scorer
from tests.training.conftest import RECIPE
from training import initial_weights, learner, run, trainer
from training.recipe import Recipe

SHORT = replace(RECIPE, epochs=1, freeze_bn=False, frozen=())


def trained(recipe: Recipe, root: Path, init: Path | None, out: Path) -> Scorer:
    trainer.train(recipe, root, out, init=init, decoders=0)
    scorer = Scorer.load(out / "checkpoint", device="cpu", precision="fp32")
    assert golden.verify(scorer)
    assert scorer.score(root.with_name("03.jpg")).score >= 0
    return scorer


def test_hyperiqa(root: Path, init: Path, tmp_path: Path) -> None:
    scorer = trained(replace(SHORT, network="hyperiqa", optimizer="adam"), root, init, tmp_path)
    assert scorer.score(root.with_name("03.jpg")).stage_weights is None


def test_the_hyper_network_can_be_left_after_the_first_epoch(root: Path, init: Path, tmp_path: Path) -> None:
    recipe = replace(SHORT, network="hyperiqa", epochs=2, freeze_hyper_after_first_epoch=True, ema_decay=0.0)
    states = {}
    for epochs in (1, 2):
        out = tmp_path / str(epochs)
        # The same rates for both, so that the first epoch is the same.
        trained(replace(recipe, epochs=epochs, schedule="step", warmup_epochs=0.0, selection="last"), root, init, out)
        states[epochs] = checkpoint.load(out / "checkpoint").network.state_dict()
    for name, value in states[1].items():
        if value.is_floating_point() and "running" not in name:
            moved = not torch.equal(value, states[2][name])
            assert moved == name.startswith("backbone"), name


def test_life_iqa_adds_the_losses_of_its_experts(root: Path, init: Path, tmp_path: Path) -> None:
    recipe = replace(SHORT, network="life-iqa-mobile", options={"experts": 3, "depth": 1}, loss="smooth_l1")
    scorer = trained(recipe, root, init, tmp_path)
    network = scorer.checkpoint.network
    assert registry.to_dict(network)["experts"] == 3
    network.train()
    network(torch.randn(2, 3, 224, 224))
    assert set(network.auxiliary) == {"balance", "router_z"}
    assert all(loss.requires_grad for loss in network.auxiliary.values())


def test_the_network_of_the_equations(root: Path, init: Path, tmp_path: Path) -> None:
    scorer = trained(replace(SHORT, network="smart-mobile-eq", options={"rank": 8}), root, init, tmp_path)
    weights = scorer.score(root.with_name("03.jpg")).stage_weights
    assert weights is not None
    assert all(0 < weight < 1 for weight in weights)


def test_loda_learns_its_adapters_alone(root: Path, tmp_path: Path) -> None:
    start = registry.build("loda-ti", backbone="test_resnet", transformer="test_vit")
    checkpoint.save(
        tmp_path / "start",
        start,
        name="s",
        contract=Contract(scale=Scale(dataset="made-up", min=-1.0, max=1.0)),
        card="",
    )
    recipe = replace(
        SHORT, network="loda-ti", backbone="test_resnet", options={"transformer": "test_vit"},
        loss="plcc_mse", vertical_flip=True,
    )  # fmt: skip
    network = initial_weights.network(recipe, tmp_path / "start", fetch=False)
    made = learner.Learner(network, recipe, steps=2)
    assert len(made._optimizer.param_groups[0]["params"]) == 0
    scorer = trained(recipe, root, tmp_path / "start", tmp_path / "run")
    adapters = (tmp_path / "run" / "checkpoint" / checkpoint.WEIGHTS).stat().st_size
    (trunk,) = (tmp_path / "run" / checkpoint.TRUNKS).iterdir()
    frozen = sum(value.numel() for part in start.trunks().values() for value in part.parameters())
    own = sum(value.numel() for value in start.parameters()) - frozen
    assert adapters < 4.2 * own < 4 * frozen <= trunk.stat().st_size
    # Cosines lie between -1 and 1; the contract brings them to the labels.
    assert scorer.checkpoint.contract.slope != 1
    # A file holds one of its trunks, and the other one would stay random for ever.
    save_file(start.trunks()["backbone"].state_dict(), tmp_path / "trunk.safetensors")
    with pytest.raises(ValueError, match="this network has backbone and transformer; start it from a checkpoint"):
        trained(recipe, root, tmp_path / "trunk.safetensors", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_musiq_learns_whole_pictures(root: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"width": 48, "depth": 1, "heads": 4, "hidden": 64}
    torch.manual_seed(0)
    start = registry.build("musiq", **options)
    checkpoint.save(
        tmp_path / "start",
        start,
        name="musiq",
        contract=Contract(
            view="tokens", longer_sides=(224, 384), crops=1, scale=Scale(dataset="made-up", min=0.0, max=1.0)
        ),
        card="",
    )
    recipe = replace(SHORT, network="musiq", backbone="", options=options, optimizer="sgd", crops=1)
    scorer = trained(recipe, root, tmp_path / "start", tmp_path / "run")
    assert scorer.checkpoint.contract.view == "tokens"
    assert len(run.read_metrics(tmp_path / "run")) == 1
    with pytest.raises(ValueError, match="crops must be 1, not 2"):
        trained(replace(recipe, crops=2), root, tmp_path / "start", tmp_path / "other")
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="this network has none; start it from a checkpoint folder"):
        trained(recipe, root, tmp_path / "a.safetensors", tmp_path / "third")


def test_a_checkpoint_of_the_other_direction_goes_on_with_best_and_worst(tmp_path: Path) -> None:
    lower_is_better = Contract(scale=Scale(dataset="live", min=0.0, max=100.0, higher_is_better=False))
    network = registry.build("smart-mobile", backbone="test_resnet", drop_path=0.0)
    checkpoint.save(tmp_path / "dmos", network, name="dmos", contract=lower_is_better, card="")
    scale = Scale(dataset="made-up", min=1.0, max=5.0)
    made = initial_weights.contract(replace(SHORT, network="smart-mobile"), scale, tmp_path / "dmos")
    for output in (0.0, 25.0, 100.0):
        before = lower_is_better.scale.to_percent(output)
        assert scale.to_percent(made.slope * output + made.intercept) == pytest.approx(before)
