from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from model.networks import registry
from model.networks.backbone import Backbone
from model.networks.distortion import LocalDistortion
from model.networks.hyper import TARGET_WIDTHS, HyperNetwork, TargetLayer, TargetNetwork
from model.networks.smart import SmartConfig, SmartIQA, StageAttention, mean_opinion


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("smart-tiny", 29_521_479),
        ("smart-small", 50_839_383),
        ("smart-base", 89_111_941),
        ("smart-tiny-no-attention", 29_323_587),
        ("smart-small-no-attention", 50_641_491),
        ("smart-base-no-attention", 88_848_513),
        ("smart-tiny-backbone-only", 28_979_523),
        ("smart-small-backbone-only", 50_297_427),
        ("smart-base-backbone-only", 88_389_761),
        ("smart-mobile", 3_101_517),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert registry.parameter_count(registry.build(name)) == parameters


@pytest.mark.parametrize(
    "name", ["smart-tiny", "smart-mobile", "smart-mobile-no-attention", "smart-mobile-backbone-only"]
)
def test_forward(name: str) -> None:
    torch.manual_seed(0)
    network = registry.build(name).eval()
    with torch.inference_mode():
        score, weights, *_ = network(torch.randn(2, 3, 224, 224))
    assert score.shape == (2,)
    assert score.isfinite().all()
    if "attention" in name or "only" in name:
        assert weights is None
    else:
        assert weights.shape == (2, 4)
        assert torch.allclose(weights.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "mobilenetv2_100", "convnextv2_atto", "resnet18"])
def test_backbones_give_channels_first_levels(name: str) -> None:
    backbone = Backbone(name).eval()
    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, 224, 224))
    assert [tuple(map_.shape) for map_ in maps] == [
        (1, channels, side, side) for channels, side in zip(backbone.channels, (56, 28, 14, 7), strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "words"), [("no_such_net", "knows no backbone"), ("efficientvit_m0", "feature levels")]
)
def test_unusable_backbones_are_refused(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SmartIQA(SmartConfig(backbone=name, drop_path=0.0))


def test_attention_starts_uniform_and_follows_the_formula() -> None:
    attention = StageAttention(32).eval()
    deepest = torch.randn(3, 32, 7, 7)
    with torch.inference_mode():
        assert torch.allclose(attention(deepest), torch.full((3, 4), 0.25), atol=0.02)
    pooled = deepest.mean(dim=(2, 3))
    first, last = attention.layers[0], attention.layers[3]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    logits = (pooled @ first.weight.T + first.bias).clamp(min=0) @ last.weight.T + last.bias
    expected = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    torch.testing.assert_close(attention(deepest), expected)


def test_hyper_network_generates_the_target_network() -> None:
    torch.manual_seed(0)
    hyper = HyperNetwork(24, (16, 8), dropout=0.3).eval()
    fused = torch.randn(2, 24, 7, 7).contiguous(memory_format=torch.channels_last)
    layers = hyper(fused)
    assert [tuple(layer.weight.shape[1:]) for layer in layers] == [(112, 224), (56, 112), (28, 56), (14, 28), (1, 14)]
    assert sum(layer.weight[0].numel() + layer.bias[0].numel() for layer in layers) == 33_545
    # The generated map is read channel, row, column; channels-last memory must not change that.
    hidden = hyper.trunk(fused)
    generated = hyper.weight_convs[1](hidden)[1]
    assert layers[1].weight[1, 3, 5] == generated.contiguous().flatten()[3 * 112 + 5]
    linear = hyper.last_weight(hidden.mean(dim=(2, 3)))
    torch.testing.assert_close(layers[4].weight[:, 0], linear)


def test_the_target_network_of_a_distribution_has_an_output_for_each_bin() -> None:
    hyper = HyperNetwork(24, (16, 8), dropout=0.0, outputs=5).eval()
    fused = torch.randn(2, 24, 7, 7)
    layers = hyper(fused)
    assert layers[4].weight.shape == (2, 5, 14)
    assert layers[4].bias.shape == (2, 5)
    assert TargetNetwork(0.0).eval()(torch.randn(2, 224), layers).shape == (2, 5)


def test_a_score_is_the_mean_of_a_distribution_over_bins() -> None:
    torch.manual_seed(0)
    network = registry.build("smart-mobile", bins=4)
    assert network.config.bins == 4
    items = torch.randn(2, 3, 64, 64)
    logits = network.train()(items).logits
    assert logits is not None
    assert logits.shape == (2, 4)
    prediction = network.eval()(items)
    assert prediction.logits is None, "only training needs it"
    assert ((prediction.score > 0) & (prediction.score < 1)).all()
    third = torch.tensor([[0.0, 0.0, 30.0, 0.0]])
    assert float(mean_opinion(third)) == pytest.approx(2 / 3)
    assert float(mean_opinion(torch.zeros(1, 4))) == pytest.approx(0.5)


def target_by_hand(vector: Tensor, layers: list[TargetLayer]) -> float:
    for index, layer in enumerate(layers):
        vector = torch.stack([(row * vector).sum() for row in layer.weight[0]]) + layer.bias[0]
        if index < 4:
            vector = 1 / (1 + (-vector).exp())
    return float(vector)


def test_target_network_follows_the_formula() -> None:
    torch.manual_seed(1)
    widths = (*TARGET_WIDTHS, 1)
    layers = [
        TargetLayer(torch.randn(3, outputs, inputs) / inputs**0.5, torch.randn(3, outputs))
        for inputs, outputs in pairwise(widths)
    ]
    vectors = torch.randn(3, 224)
    scores = TargetNetwork(0.3).eval()(vectors, layers)
    first = [TargetLayer(layer.weight[:1], layer.bias[:1]) for layer in layers]
    assert scores.shape == (3, 1)
    assert float(scores[0]) == pytest.approx(target_by_hand(vectors[0], first), abs=1e-5)


def test_target_network_keeps_its_precision_under_autocast() -> None:
    layers = [
        TargetLayer(
            torch.randn(1, outputs, inputs, dtype=torch.bfloat16), torch.zeros(1, outputs, dtype=torch.bfloat16)
        )
        for inputs, outputs in zip(TARGET_WIDTHS, (*TARGET_WIDTHS[1:], 1), strict=True)
    ]
    with torch.autocast("cpu", torch.bfloat16):
        assert TargetNetwork(0.0).eval()(torch.randn(1, 224, dtype=torch.bfloat16), layers).dtype == torch.float64
        assert TargetNetwork(0.0).train()(torch.randn(1, 224, dtype=torch.bfloat16), layers).dtype == torch.float32


def test_distortion_vector_is_conv_then_pool() -> None:
    torch.manual_seed(2)
    channels = (8, 12, 16, 20)
    distortion = LocalDistortion(channels)
    maps = [torch.randn(2, count, side, side) for count, side in zip(channels, (56, 28, 14, 7), strict=True)]
    vectors = distortion(maps)
    assert vectors.shape == (2, 224)
    pooled = [
        nn.functional.avg_pool2d(conv(map_), 7).flatten(1)
        for conv, map_ in zip(distortion.convs, maps[:3], strict=True)
    ]
    pooled.append(maps[3].mean(dim=(2, 3)))
    expected = torch.cat([linear(part) for linear, part in zip(distortion.linears, pooled, strict=True)], dim=1)
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=1e-5)


def test_stage_weights_scale_the_stages() -> None:
    torch.manual_seed(0)
    network = SmartIQA(SmartConfig(backbone="mobilenetv2_100", drop_path=0.0)).eval()
    maps = [torch.randn(1, count, 14, 14) for count in network.backbone.channels]
    weights = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    fused = network._fuse(maps, weights)
    start = network.backbone.channels[0]
    expected = 0.2 * nn.functional.avg_pool2d(maps[1], 2)
    torch.testing.assert_close(fused[:, start : start + network.backbone.channels[1]], expected)


def test_registry_round_trip_and_refusals() -> None:
    network = registry.build("smart-mobile-no-attention")
    described = registry.to_dict(network)
    assert registry.from_dict(described).config == network.config
    with pytest.raises(ValueError, match="no network is called"):
        registry.build("smart-huge")
    with pytest.raises(ValueError, match="unknown network family"):
        registry.from_dict({**described, "family": "other"})
    with pytest.raises(ValueError, match="unknown network fields: depth"):
        registry.from_dict({**described, "depth": 3})
    with pytest.raises(ValueError, match="backbone"):
        registry.from_dict({"family": "smart"})


@pytest.mark.parametrize("change", [{"attention": True, "multi_scale": False}, {"dropout": 1.0}, {"drop_path": -0.1}])
def test_impossible_configs_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"attention weighs|greater than or equal|less than 1"):
        replace(SmartConfig(backbone="mobilenetv2_100"), **change)  # type: ignore[arg-type]
