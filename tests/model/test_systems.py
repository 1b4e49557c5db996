"""The other systems of the papers: sizes as published, and forward passes against the formulas written out."""

import math
from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.networks import registry
from model.networks.backbone import Backbone
from model.networks.equations import UNIFIED, EquationConfig, EquationIQA, LowRankKernel, WholeKernel
from model.networks.experts import Experts
from model.networks.life import LifeConfig, LifeIQA
from model.networks.loda import LoDa, LodaConfig
from model.networks.network import LEVELS, Network


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("hyperiqa", 27_375_369),
        ("life-iqa", 94_950_334),
        ("life-iqa-2-experts", 92_586_428),
        ("life-iqa-8-experts", 99_678_146),
        ("life-iqa-livec", 91_142_780),
        ("life-iqa-tiny", 35_579_520),
        ("life-iqa-small", 56_897_424),
        ("loda-b", 118_234_176),
        ("loda-s", 48_188_736),
        ("loda-ti", 30_418_368),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert registry.parameter_count(registry.build(name)) == parameters


@pytest.mark.parametrize(("name", "parameters"), [("loda-b", 8_927_488), ("loda-s", 3_015_040), ("loda-ti", 1_385_920)])
def test_what_of_loda_learns(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = registry.build(name)
    assert sum(one.numel() for one in network.parameters() if one.requires_grad) == parameters


def test_lodas_head_turns() -> None:
    """It starts at unit length; at the length of a normal vector, 28, it would turn by a few degrees."""
    network = LoDa(LodaConfig(transformer="vit_tiny_patch16_224", backbone="test_resnet"))
    assert network.head.norm().item() == pytest.approx(1)
    torch.manual_seed(0)
    width = 768
    features, direction = torch.randn(2000, width), torch.randn(width)
    labels = F.cosine_similarity(features, direction, dim=-1)
    head = nn.Parameter(F.normalize(torch.randn(width), dim=0))
    first = head.detach().clone()
    optimizer = torch.optim.AdamW([head], lr=3e-4, weight_decay=0.01)
    for step in range(1200):
        chosen = torch.arange(step * 64, step * 64 + 64) % len(features)
        optimizer.zero_grad()
        F.mse_loss(F.cosine_similarity(features[chosen], head, dim=-1), labels[chosen]).backward()
        optimizer.step()
    turned = math.degrees(math.acos(F.cosine_similarity(first, head, dim=0).item()))
    assert turned > 60
    assert F.cosine_similarity(head, direction, dim=0) > 0.9


@pytest.mark.parametrize("rank", [0, 64])
def test_the_sum_of_the_equations_starts_at_unit_scale(rank: int) -> None:
    """So that its sigmoid is not saturated."""
    torch.manual_seed(0)
    network = EquationIQA(EquationConfig(backbone="swin_tiny_patch4_window7_224", rank=rank)).eval()
    fused = 0.5 * torch.relu(torch.randn(8, 49, LEVELS * UNIFIED) / math.sqrt(3))
    deepest = torch.randn(8, 49, network.backbone.channels[-1])
    with torch.inference_mode():
        assert 0.7 < network.kernel(fused, deepest).std() < 1.4


def weights_of(network: nn.Module) -> Mapping[str, Tensor]:
    """Random weights everywhere, so that no zero or one hides a mistake."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.state_dict()


def linear(x: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    answer = x @ weights[f"{name}.weight"].T
    return answer + weights[f"{name}.bias"] if f"{name}.bias" in weights else answer


def layer_norm(x: Tensor, weights: Mapping[str, Tensor], name: str, eps: float) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + eps).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Multi-head attention of (T, C) to (S, C), a head at a time."""
    width = query.shape[-1] // heads
    answers = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        weights = (query[:, part] @ key[:, part].T / math.sqrt(width)).softmax(dim=-1)
        answers.append(weights @ value[:, part])
    return torch.cat(answers, dim=-1)


def grid(map_CHW: Tensor) -> Tensor:
    """Means over a 7x7 grid, as 49 tokens (49, C)."""
    return F.adaptive_avg_pool2d(map_CHW, 7).flatten(1).T


@torch.inference_mode()
def test_life_iqa_against_its_formulas() -> None:
    network = LifeIQA(LifeConfig(backbone="test_resnet", experts=3, depth=2, drop_path=0)).eval()
    weights = weights_of(network)
    crops = torch.randn(2, 3, 224, 224)
    expected = []
    for third, fourth in zip(*network.backbone(crops)[2:], strict=True):
        queries = weights["queries"][0] + linear(fourth.mean(dim=(1, 2)), weights, "from_fourth")
        memory = linear(grid(third), weights, "from_third")
        graph = torch.full((6, 6), 1 / 7) + torch.eye(6) / 7
        for layer in ("layers.0", "layers.1"):
            mixed = queries
            for place in range(3):
                name = f"{layer}.graph.layers.{place}"
                mixed = graph @ (mixed @ weights[f"{name}.weight"].T) + weights[f"{name}.bias"]
                mixed = mixed.clamp(min=0) if place < 2 else mixed
            queries = queries + mixed
            normed = layer_norm(queries, weights, f"{layer}.norm", 1e-5)
            stacked, bias = weights[f"{layer}.attention.in_proj_weight"], weights[f"{layer}.attention.in_proj_bias"]
            query, key, value = (
                source @ stacked[part * 384 : (part + 1) * 384].T + bias[part * 384 : (part + 1) * 384]
                for part, source in enumerate((normed, memory, memory))
            )
            queries = queries + linear(attend(query, key, value, 6), weights, f"{layer}.attention.out_proj")
        normed = layer_norm(queries, weights, "norm", 1e-5)
        answers = []
        for token in normed:
            logits = linear(token, weights, "experts.router")
            first, second = logits.argsort(descending=True)[:2].tolist()
            shares = torch.stack([logits[first], logits[second]]).softmax(dim=0)
            mixture = sum(
                share
                * linear(
                    linear(token, weights, f"experts.experts.{expert}.0").clamp(min=0),
                    weights,
                    f"experts.experts.{expert}.3",
                )
                for share, expert in zip(shares, (first, second), strict=True)
            )
            answers.append(linear(token + weights["gamma"] * mixture, weights, "score"))
        expected.append(torch.stack(answers).mean())
    prediction = network(crops)
    assert prediction.stage_weights is None
    torch.testing.assert_close(prediction.score, torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_the_losses_of_the_experts() -> None:
    experts = Experts(width=2, hidden=4, count=3, chosen=2, dropout=0.0)
    with torch.no_grad():
        experts.router.weight.copy_(torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]]))
        experts.router.bias.zero_()
    _, found = experts(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
    # Logits (2, 1, 0) and (0, 1, 2): experts 0 and 1, then 2 and 1; shares 1/2, 1, 1/2.
    probabilities = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]).softmax(dim=1).mean(dim=0)
    balance = 3 * (0.5 * probabilities[0] + probabilities[1] + 0.5 * probabilities[2])
    assert found["balance"].item() == pytest.approx(0.01 * balance.item())
    z = math.log(math.exp(2) + math.exp(1) + 1) ** 2
    assert found["router_z"].item() == pytest.approx(0.001 * z)


def test_a_router_that_is_even_costs_two() -> None:
    experts = Experts(width=4, hidden=4, count=8, chosen=2, dropout=0.0)
    torch.nn.init.zeros_(experts.router.weight)
    torch.nn.init.zeros_(experts.router.bias)
    _, found = experts(torch.randn(5, 6, 4))
    assert found["balance"].item() == pytest.approx(0.01 * 2)


@torch.inference_mode()
def test_loda_against_its_formulas() -> None:
    network = LoDa(LodaConfig(transformer="vit_tiny_patch16_224", backbone="test_resnet")).eval()
    weights = weights_of(network)
    crops = torch.randn(2, 3, 224, 224)
    transformer = network.transformer
    tokens_NTC = transformer._pos_embed(transformer.patch_embed(crops))
    expected = []
    for index in range(2):
        local = []
        for level, map_ in enumerate(network.backbone(crops)):
            name = f"extractor.{level}"
            hidden = F.gelu(F.conv2d(map_[index], weights[f"{name}.0.weight"], weights[f"{name}.0.bias"]))
            local.append(grid(F.conv2d(hidden, weights[f"{name}.2.weight"], padding=1)))
        memory = torch.cat(local)
        tokens = tokens_NTC[index]
        for place, block in enumerate(transformer.blocks):
            name = f"injectors.{place}"
            low = linear(F.gelu(linear(tokens, weights, f"{name}.down.first")), weights, f"{name}.down.second")
            key, value = linear(memory, weights, f"{name}.attention.key_value").split(64, dim=-1)
            read = attend(linear(low, weights, f"{name}.attention.query"), key, value, 4)
            mixed = low + linear(read, weights, f"{name}.attention.out")
            high = linear(F.gelu(linear(mixed, weights, f"{name}.up.first")), weights, f"{name}.up.second")
            tokens = block((tokens + weights[f"{name}.scale"] * high).unsqueeze(0))[0]
        feature = transformer.norm(tokens)[0]
        expected.append((feature / feature.norm()) @ (weights["head"] / weights["head"].norm()))
    torch.testing.assert_close(network(crops).score, torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_lodas_trunks_do_not_learn() -> None:
    network = LoDa(LodaConfig(transformer="vit_tiny_patch16_224", backbone="test_resnet")).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(torch.randn(2, 3, 224, 224)).score.sum().backward()
    learning = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert all(name.startswith(("extractor", "injectors", "head")) for name in learning)
    assert network.frozen == {name for name, _ in network.named_parameters()} - learning
    changed = {name for name, value in before.items() if not torch.equal(value, network.state_dict()[name])}
    # As in the released code, only the statistics of the convolutional trunk move.
    assert changed
    assert all(name.startswith("backbone") and ("running" in name or "tracked" in name) for name in changed)
    assert network.dropout.training
    assert not network.transformer.training


def literal(kernel: WholeKernel, fused_NPK: Tensor, semantic_NPC: Tensor) -> Tensor:
    """Eq. 14 to the letter: a 1x1 convolution writes a matrix for each crop, which is then applied."""
    hidden, fused, semantic = kernel.kernel_JKC.shape
    map_NCHW = semantic_NPC.transpose(1, 2).unflatten(2, (7, 7))
    written = F.conv2d(map_NCHW, kernel.kernel_JKC.reshape(-1, semantic, 1, 1), kernel.bias_JK.flatten())
    matrix_NJV = written.reshape(-1, hidden, fused * 49)
    vector_NV = fused_NPK.transpose(1, 2).flatten(1)
    return (matrix_NJV @ vector_NV.unsqueeze(-1)).squeeze(-1)


def test_the_closed_form_equals_literal_generation() -> None:
    torch.manual_seed(0)
    kernel = WholeKernel(fused=6, semantic=5, hidden=4).double()
    nn.init.normal_(kernel.bias_JK)
    fused, semantic = torch.rand(3, 49, 6).double(), torch.randn(3, 49, 5).double()
    torch.testing.assert_close(kernel(fused, semantic), literal(kernel, fused, semantic), rtol=1e-12, atol=1e-10)


def test_a_kernel_of_low_rank_is_a_whole_one() -> None:
    torch.manual_seed(0)
    low = LowRankKernel(fused=6, semantic=5, hidden=4, rank=3).double()
    nn.init.normal_(low.bias.weight)
    whole = WholeKernel(fused=6, semantic=5, hidden=4).double()
    with torch.no_grad():
        factors = (low.out.weight, low.fused.weight, low.semantic.weight)
        whole.kernel_JKC.copy_(torch.einsum("jr,rk,rc->jkc", *factors))
        whole.bias_JK.copy_(low.bias.weight)
    fused, semantic = torch.rand(3, 49, 6).double(), torch.randn(3, 49, 5).double()
    torch.testing.assert_close(low(fused, semantic), whole(fused, semantic), rtol=1e-10, atol=1e-10)


@torch.inference_mode()
def test_the_network_of_the_equations_against_them() -> None:
    network = EquationIQA(EquationConfig(backbone="test_resnet", drop_path=0)).eval()
    weights = weights_of(network)
    # Sums of the size that they have in training: sigmoids of large ones would be 0 or 1, and hide a mistake.
    network.kernel.get_parameter("kernel_JKC").mul_(0.01)
    crops = torch.randn(2, 3, 224, 224)
    maps = network.backbone(crops)
    prediction = network(crops)
    for index in range(2):
        deepest = grid(maps[3][index])
        pooled = deepest.mean(dim=0)
        gate = torch.sigmoid(linear(linear(pooled, weights, "gate.0").clamp(min=0), weights, "gate.2"))
        fused = torch.cat(
            [
                gate[place]
                * (
                    grid(map_[index]) @ weights[f"unify.{place}.weight"].flatten(1).T + weights[f"unify.{place}.bias"]
                ).clamp(min=0)
                for place, map_ in enumerate(maps)
            ],
            dim=1,
        )
        assert fused.shape == (49, 2048)
        generated = literal(network.kernel, fused[None], deepest[None])[0]  # type: ignore[arg-type]
        hidden = torch.sigmoid(generated + linear(pooled, weights, "hidden_bias"))
        score = linear(pooled, weights, "last_weight") @ hidden + linear(pooled, weights, "last_bias")
        torch.testing.assert_close(prediction.score[index : index + 1], score, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(prediction.stage_weights[index], gate)


@pytest.mark.parametrize(
    ("name", "gmacs"),
    [
        ("hyperiqa", 4.29),
        ("life-iqa", 15.54),
        ("loda-b", 23.63),
        ("loda-s", 9.51),
        ("loda-ti", 5.84),
        ("musiq", 8.90),
        ("musiq-single", 1.72),
    ],
)
def test_multiply_accumulates_are_the_published_ones(name: str, gmacs: float) -> None:
    from training import complexity

    assert complexity.gmacs(registry.build(name)) == pytest.approx(gmacs, rel=0.02)


@pytest.mark.parametrize(
    "backbone",
    [
        "convnextv2_atto",
        "swinv2_tiny_window8_256",
        "hiera_tiny_224",
        "mobilenetv2_100",
        "vit_tiny_patch16_224",
        "vit_base_patch32_siglip_256.v2_webli",
        "vit_small_patch16_dinov3.lvd1689m",
    ],
)
def test_one_line_changes_the_backbone(backbone: str) -> None:
    network: Network = registry.build("smart-mobile", backbone=backbone).eval()
    with torch.inference_mode():
        prediction = network(torch.randn(1, 3, 224, 224))
    assert prediction.score.isfinite().all()
    assert prediction.stage_weights is not None


@torch.inference_mode()
def test_levels_of_a_plain_transformer_are_spread_over_its_depth() -> None:
    backbone = Backbone("vit_tiny_patch16_224").eval()
    crops = torch.randn(1, 3, 224, 224)
    found = backbone(crops)
    expected = backbone.features.model.forward_intermediates(crops, indices=[2, 5, 8, 11], intermediates_only=True)  # type: ignore[union-attr,operator]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_fields_that_a_network_does_not_have() -> None:
    with pytest.raises(ValueError, match="loda-b has no drop_path; its fields are backbone, dropout, transformer"):
        registry.build("loda-b", drop_path=0.1)
    for changes, words in (
        ({"experts": 1}, "life-iqa: experts: Input should be greater than or equal to 2"),
        ({"depth": "deep"}, "life-iqa: depth: Input should be a valid integer"),
    ):
        with pytest.raises(ValueError, match=words):
            registry.build("life-iqa", **changes)
    with pytest.raises(ValueError, match="network config: width 100 is no multiple of 7 heads"):
        registry.from_dict({"family": "musiq", "width": 100, "heads": 7})
