import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from torch import nn

from model.inference.convolution import FusedConv, FusedTrunk, fuse_trunk
from model.inference.form import inference_form
from model.inference.linear import FusedLinear
from model.inference.quantise import observe
from model.inference.quantised import QuantisedConv, QuantisedLinear, quantised
from model.inference.selection import select
from model.inference.swin import FusedSwin, window_order
from model.networks import registry
from model.networks.network import Network
from model.ranges import Range

SYSTEMS = ("smart-mobile", "smart-tiny", "smart-mobile-backbone-only", "hyperiqa", "life-iqa-mobile", "loda-ti")


def made(name: str, **changes: Any) -> Network:
    """A network whose batch norms have gathered something."""
    torch.manual_seed(1)
    network = registry.build(name, **changes).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


@pytest.fixture(scope="module")
def crops_NCHW() -> torch.Tensor:
    return torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", SYSTEMS)
@torch.inference_mode()
def test_answers_what_the_training_form_answers(name: str, crops_NCHW: torch.Tensor) -> None:
    network = made(name)
    expected, form = network(crops_NCHW), inference_form(network)
    answer = form(crops_NCHW)
    torch.testing.assert_close(answer.score, expected.score, atol=1e-5, rtol=1e-5)
    if expected.stage_weights is not None:
        torch.testing.assert_close(answer.stage_weights, expected.stage_weights, atol=1e-6, rtol=1e-5)
    assert type(form) is type(network)
    # The network itself is as it was, and can go on training.
    assert torch.equal(network(crops_NCHW).score, expected.score)
    assert any(parameter.requires_grad for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in form.parameters())


@torch.inference_mode()
def test_whole_pictures_too() -> None:
    network = made("musiq-single")
    nn.init.normal_(network.get_submodule("head").get_parameter("weight"))
    tokens = torch.rand(2, 7, 3075)
    tokens[..., 3072:] = torch.tensor([3.0, 0.0, 1.0])
    torch.testing.assert_close(inference_form(network)(tokens).score, network(tokens).score, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", ["smart-mobile", "smart-tiny"])
@torch.inference_mode()
def test_a_crop_is_scored_alike_in_all_batches(name: str, crops_NCHW: torch.Tensor) -> None:
    form = inference_form(made(name))
    together = form(crops_NCHW)
    for place in range(len(crops_NCHW)):
        alone = form(crops_NCHW[place : place + 1])
        assert torch.equal(alone.score, together.score[place : place + 1])
        assert torch.equal(alone.stage_weights, together.stage_weights[place : place + 1])


def test_nothing_of_a_convolutional_trunk_is_left_over() -> None:
    """No batch norm, no activation, no sum by itself: MobileNetV2 is 51 convolutions up to its last stage."""
    form = inference_form(made("smart-mobile"))
    trunk = form.get_submodule("backbone.features")
    assert not any(isinstance(module, nn.BatchNorm2d | nn.ReLU6) for module in form.modules())
    assert isinstance(trunk, FusedTrunk)
    nodes = trunk.graph.graph.nodes
    assert sum(node.op == "call_module" for node in nodes) == 51
    assert {node.op for node in nodes} == {"placeholder", "call_module", "output"}
    assert sum(len(node.all_input_nodes) == 2 for node in nodes if node.op == "call_module") == 10


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenetv2_100", "efficientnet_b0", "mobilenetv3_small_100", "tf_efficientnet_lite0"]
)
@torch.inference_mode()
def test_trunks_of_many_kinds(name: str, crops_NCHW: torch.Tensor) -> None:
    """Also those with activations and branches that no single call knows."""
    torch.manual_seed(3)
    features = timm.create_model(name, pretrained=False, features_only=True).eval()
    fused = fuse_trunk(features, torch.float32)
    assert fused is not None
    for layer in fused.modules():
        if isinstance(layer, FusedConv):
            layer.pack()
    for mine, its in zip(fused(crops_NCHW[:1]), features(crops_NCHW[:1]), strict=True):
        torch.testing.assert_close(mine, its, atol=1e-3, rtol=1e-3)


@torch.inference_mode()
def test_a_trunk_that_cannot_be_traced_stays_as_it_is() -> None:
    class Moody(nn.Module):
        feature_info: tuple[()] = ()

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, crops_NCHW: torch.Tensor) -> torch.Tensor:
            maps: torch.Tensor = self.norm(self.conv(crops_NCHW))
            return maps if maps.mean() > 0 else -maps

    network = nn.Sequential(Moody()).eval()
    assert fuse_trunk(network[0], torch.float32) is None
    crops = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(inference_form(network)(crops), network(crops))


def test_swin_is_recognised() -> None:
    assert isinstance(inference_form(made("smart-tiny")).get_submodule("backbone.features"), FusedSwin)
    assert not FusedSwin.suits(timm.create_model("resnet18", features_only=True))
    # Windows of 8 do not divide maps of 7.
    other = timm.create_model("swin_tiny_patch4_window7_224", features_only=True, img_size=240)
    assert not FusedSwin.suits(other)


@pytest.mark.parametrize("shift", [(0, 0), (3, 3)])
def test_window_order_is_what_timm_does(shift: tuple[int, int]) -> None:
    from timm.models.swin_transformer import window_partition

    map_NHWC = torch.arange(2 * 14 * 14.0).view(2, 14, 14, 1)
    rolled = torch.roll(map_NHWC, (-shift[0], -shift[1]), (1, 2))
    there, back = window_order((14, 14), (7, 7), shift)
    windowed = map_NHWC.flatten(1, 2)[:, there]
    assert torch.equal(windowed.reshape(-1, 7, 7, 1), window_partition(rolled, (7, 7)))
    assert torch.equal(windowed[:, back], map_NHWC.flatten(1, 2))


@torch.inference_mode()
def test_a_linear_layer_with_gain_and_gelu() -> None:
    layer = nn.Linear(6, 4)
    gain, inputs = torch.tensor([1.0, 2.0, 0.5, -1.0]), torch.randn(3, 5, 6)
    fused = FusedLinear(layer, "gelu", gain=gain)
    before = fused(inputs)
    fused.pack()
    torch.testing.assert_close(before, nn.functional.gelu(layer(inputs) * gain))
    torch.testing.assert_close(fused(inputs), before)


@pytest.mark.parametrize("name", ["smart-mobile", "smart-tiny", "loda-ti"])
@torch.inference_mode()
def test_bf16_computes_the_bulk_in_bf16_and_the_head_in_fp32(name: str, crops_NCHW: torch.Tensor) -> None:
    network = made(name)
    form, exact = inference_form(network, dtype=torch.bfloat16), inference_form(network)
    answer, expected = form(crops_NCHW).score, exact(crops_NCHW).score
    assert answer.dtype == torch.float32
    assert not torch.equal(answer, expected)
    torch.testing.assert_close(answer, expected, atol=0.05, rtol=0.02)


def test_steps_of_a_range() -> None:
    range_ = Range(-1.0, 3.0)
    assert range_.zero == 64
    values = torch.tensor([-2.0, -1.0, 0.0, 3.0, 9.0])
    assert quantised(values, range_).tolist() == [0, 0, 64, 255, 255]
    # Zero is always a step, or padding would not be nothing.
    assert Range(0.5, 1.0).zero == 0
    assert math.isclose(Range(0.5, 1.0).scale, 1 / 255)


@pytest.mark.parametrize("name", ["smart-mobile", "hyperiqa", "smart-tiny", "loda-ti"])
@torch.inference_mode()
def test_int8_stays_near_and_does_not_depend_on_company(name: str, crops_NCHW: torch.Tensor) -> None:
    network = made(name)
    exact = inference_form(network)
    ranges = observe(exact, lambda: exact(crops_NCHW))
    form = inference_form(network, ranges=ranges)
    layers = [module for module in form.modules() if isinstance(module, QuantisedConv | QuantisedLinear)]
    assert len(layers) == len(ranges)
    answer, expected = form(crops_NCHW).score, exact(crops_NCHW).score
    assert not torch.equal(answer, expected)
    torch.testing.assert_close(answer, expected, atol=0.05, rtol=0.1)
    assert torch.equal(form(crops_NCHW[1:2]).score, answer[1:2])


@torch.inference_mode()
def test_a_quantised_convolution_is_its_formula() -> None:
    torch.manual_seed(0)
    conv = FusedConv(nn.Conv2d(8, 16, 3, padding=1, stride=2), activation=nn.ReLU6())
    inputs = torch.rand(1, 8, 9, 9) * 4 - 1
    inside, outside = Range(-1.0, 3.0), Range(0.0, 2.0)
    steps = quantised(inputs, inside).contiguous(memory_format=torch.channels_last)
    answer = QuantisedConv(conv, inside, outside, None)(steps)
    rounded = (steps.float() - inside.zero) * inside.scale
    scales = conv.weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    weight = (conv.weight / scales).round() * scales
    exact = nn.functional.conv2d(rounded, weight, conv.bias, 2, 1).clamp(0, 6)
    assert (answer.float() - quantised(exact, outside).float()).abs().max() <= 1


@torch.inference_mode()
def test_the_layers_that_do_harm_stay_in_fp32(crops_NCHW: torch.Tensor) -> None:
    network = made("smart-mobile", backbone="test_resnet")

    def percent(outputs: NDArray[np.float64]) -> float:
        return 100 * float(outputs.mean())

    pictures = [crop[None, :, :64, :64] for crop in crops_NCHW]
    none = select(network, pictures, percent, tolerance=0.0)
    some = select(network, pictures, percent, tolerance=0.5)
    every = select(network, pictures, percent, tolerance=1e9)
    assert len(none.ranges) < len(some.ranges) <= len(every.ranges) == every.layers
    assert every.layers > 5
    assert some.error <= 0.5


@torch.inference_mode()
def test_without_onednn_pytorch_computes(monkeypatch: pytest.MonkeyPatch, crops_NCHW: torch.Tensor) -> None:
    network = made("smart-mobile")
    expected = inference_form(network)(crops_NCHW).score
    monkeypatch.setattr("model.inference.linear.ONEDNN", False)
    monkeypatch.setattr("model.inference.convolution.ONEDNN", False)
    form = inference_form(network)
    assert not any(getattr(module, "packed", False) for module in form.modules())
    torch.testing.assert_close(form(crops_NCHW).score, expected, atol=1e-5, rtol=1e-5)
    monkeypatch.setattr("model.inference.quantise.ONEDNN", False)
    with pytest.raises(ValueError, match="built with oneDNN"):
        inference_form(network, ranges={})


def test_ranges_travel_with_the_checkpoint(checkpoint_folder: str, tmp_path: Path) -> None:
    import shutil

    from model.checkpoint import CheckpointError, load
    from model.inference.engine import Engine

    folder = shutil.copytree(checkpoint_folder, tmp_path / "copy")
    (folder / "int8.json").unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="smart-iqa models quantise"):
        Engine.of(load(folder), device="cpu", precision="int8")
    loaded = load(folder)
    form = inference_form(loaded.network)
    crops = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        ranges = observe(form, lambda: form(crops))
    loaded.save_ranges(ranges)
    assert load(folder).ranges == ranges
    assert Engine.of(load(folder), device="cpu", precision="int8").precision == "int8"
    file = folder / "int8.json"
    for damage in ('{"weights_sha256": "0", "layers": {}}', "[]", "{", '{"layers": {}}'):
        file.write_text(damage)
        with pytest.raises(CheckpointError, match="int8"):
            _ = load(folder).ranges
