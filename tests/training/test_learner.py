"""What a learner trains, at which rates, and what decays."""

from dataclasses import replace

import pytest
import torch

from model.networks import registry
from training import recipe as recipes
from training.learner import Learner
from training.recipe import Recipe

RECIPE = Recipe(network="hyperiqa", dataset="csv", backbone="test_resnet", backbone_lr=1e-5, head_lr=1e-3)


def learner(recipe: Recipe) -> Learner:
    return Learner(registry.build(recipe.network, **recipe.network_changes()), recipe, steps=10)


def groups(one: Learner) -> list[tuple[set[str], float, float]]:
    """Names of the parameters, rate and decay of each group of the optimiser."""
    names = {id(value): name for name, value in one.network.named_parameters()}
    return [
        ({names[id(value)] for value in group["params"]}, group["initial_lr"], group["weight_decay"])
        for group in one._optimizer.param_groups
    ]


def take_step(one: Learner) -> set[str]:
    """Take a step in which every parameter has a gradient; the names of those that it moves."""
    before = {name: value.detach().clone() for name, value in one.network.named_parameters()}
    for value in one.network.parameters():
        value.grad = torch.ones_like(value) if value.requires_grad else None
    one.step()
    return {name for name, value in one.network.named_parameters() if not torch.equal(value, before[name])}


def test_two_rates() -> None:
    (trunk, low, _), (head, high, _) = groups(learner(RECIPE))
    assert (low, high) == (1e-5, 1e-3)
    assert all(name.startswith("backbone.") for name in trunk)
    assert any(name.startswith("distortion.") for name in head)
    assert not any(name.startswith("backbone.") for name in head)


def test_parts_beside_the_backbone_learn_at_its_rate() -> None:
    (trunk, _, _), (head, _, _) = groups(learner(replace(RECIPE, at_backbone_lr=("distortion",))))
    assert {name.partition(".")[0] for name in trunk} == {"backbone", "distortion"}
    assert head
    assert not any(name.startswith("distortion") for name in head)
    with pytest.raises(ValueError, match="at_backbone_lr: no parameter belongs to a part 'distort'"):
        learner(replace(RECIPE, at_backbone_lr=("distort",)))


@pytest.mark.parametrize("family", ["hyperiqa-koniq", "smart-base-koniq", "smart-tiny-koniq"])
def test_recipes_of_released_codes_have_distortion_learn_as_the_backbone_does(family: str) -> None:
    assert recipes.load(recipes.SHIPPED / f"{family}.toml").at_backbone_lr == ("distortion",)


def test_norms_and_biases_need_not_decay() -> None:
    one = learner(replace(RECIPE, decay_norms=False, weight_decay=0.1))
    found = groups(one)
    assert [decay for _, _, decay in found] == [0.1, 0.1, 0, 0]
    assert [rate for _, rate, _ in found] == [1e-5, 1e-3, 1e-5, 1e-3]
    dimensions = {name: value.ndim for name, value in one.network.named_parameters()}
    for place, (names, _, _) in enumerate(found):
        assert names
        assert {dimensions[name] < 2 for name in names} == {place >= 2}
    assert recipes.load(recipes.SHIPPED / "life-iqa-koniq.toml").decay_norms is False


def test_frozen_parts_are_named_whole() -> None:
    one = learner(replace(RECIPE, frozen=("layer1.0",)))
    resting = {name for name, value in one.network.named_parameters() if not value.requires_grad}
    assert resting
    assert all(name.startswith("backbone.features.layer1.0.") for name in resting)
    with pytest.raises(ValueError, match="frozen: no parameter belongs to a part 'layer'"):
        learner(replace(RECIPE, frozen=("layer",)))


def test_the_head_rests_after_the_first_epoch() -> None:
    one = learner(replace(RECIPE, freeze_hyper_after_first_epoch=True, at_backbone_lr=("distortion",)))
    one.train_mode(1)
    everything = {name for name, _ in one.network.named_parameters()}
    assert take_step(one) == everything
    one.train_mode(2)
    # Processes that train together wait for the gradients of all parameters.
    assert all(value.requires_grad for value in one.network.parameters())
    moved = take_step(one)
    assert {name.partition(".")[0] for name in moved} == {"backbone", "distortion"}
