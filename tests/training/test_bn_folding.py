from typing import Any

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from model.inference.convolution import FusedConv
from model.networks import registry
from training.bn_folding import FoldedConv, fold_batch_norms
from training.learner import Learner
from training.recipe import Recipe


def learning(network: str, frozen: tuple[str, ...], **options: Any) -> registry.Network:
    """A network with statistics that are not the initial ones, set to learn."""
    recipe = Recipe(network=network, dataset="csv", freeze_bn=True, frozen=frozen, dropout=0.3, options=options)
    torch.manual_seed(0)
    made = registry.build(network, **recipe.network_changes())
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    Learner(made, recipe, steps=1).train_mode(epoch=1)
    return made.to(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("network", "options", "frozen"),
    [
        ("smart-mobile", {"backbone": "test_resnet"}, ("conv1", "bn1")),
        ("smart-mobile", {}, ("conv_stem", "bn1", "blocks.0", "blocks.1")),
        ("smart-mobile", {}, ()),
        ("life-iqa-mobile", {"backbone": "test_resnet", "depth": 1}, ()),
    ],
)
def test_outputs_and_gradients_are_the_networks_own(
    network: str, options: dict[str, int | float | bool | str], frozen: tuple[str, ...]
) -> None:
    plain = learning(network, frozen, **options)
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    stand_in = fold_batch_norms(plain)
    kinds = {type(module) for module in stand_in.modules()}
    assert FoldedConv in kinds
    assert (FusedConv in kinds) == bool(frozen)
    answers, gradients = [], []
    # Dropout runs through memory: the layout must be the one that training uses.
    crops_NCHW = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    crops_NCHW = crops_NCHW.contiguous(memory_format=torch.channels_last)
    for one in (plain, stand_in):
        plain.zero_grad()
        torch.manual_seed(1)
        prediction = one(crops_NCHW)
        (prediction.score.sum() + sum(one.auxiliary.values())).backward()
        answers.append(prediction.score.detach())
        gradients.append({name: p.grad.clone() for name, p in plain.named_parameters() if p.grad is not None})
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-4, atol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert (gradients[1][name] - gradient).norm() <= 1e-2 * gradient.norm() + 1e-6, name
    assert all(torch.equal(before[name], value) for name, value in plain.state_dict().items())


def test_modules_that_are_not_trunks_are_shared() -> None:
    plain = learning("smart-mobile", (), backbone="test_resnet")
    stand_in = fold_batch_norms(plain)
    assert stand_in is not plain
    assert stand_in.hyper is plain.hyper
    assert {id(one) for one in stand_in.parameters()} == {id(one) for one in plain.parameters()}


def test_what_cannot_be_traced_stays_as_it_is() -> None:
    plain = registry.build("loda-ti", backbone="test_vit")
    assert fold_batch_norms(plain) is plain
    assert not any(isinstance(layer, BatchNormAct2d) for layer in plain.modules())
