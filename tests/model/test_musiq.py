import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from model import token_shapes, tokens
from model.networks.musiq import Musiq, MusiqConfig
from tests.conftest import photo
from tests.model.test_systems import attend, layer_norm, linear, weights_of

CELL, SCALE, REAL = token_shapes.PIXELS, token_shapes.PIXELS + 1, token_shapes.PIXELS + 2


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(MusiqConfig(), 27_125_825), (MusiqConfig(longer_sides=()), 27_125_057)],
)
def test_parameter_counts_are_the_published_ones(config: MusiqConfig, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in Musiq(config).parameters()) == parameters


@pytest.mark.parametrize(
    ("depth", "width", "hidden", "heads", "millions"), [(8, 768, 2358, 8, 60.67), (12, 768, 3072, 12, 97.80)]
)
def test_the_larger_variants(depth: int, width: int, hidden: int, heads: int, millions: float) -> None:
    with torch.device("meta"):
        network = Musiq(MusiqConfig(depth=depth, width=width, hidden=hidden, heads=heads))
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize(
    ("width", "height", "real", "padded"),
    [(224, 224, 242, 257), (512, 384, 342, 449), (1024, 768, 918, 961), (728, 2048, None, None)],
)
def test_numbers_of_tokens(width: int, height: int, real: int | None, padded: int | None) -> None:
    cut = tokens.cut(np.zeros((height, width, 3), np.uint8))
    full = math.ceil(width / 32) * math.ceil(height / 32)
    counts = [int(cut[cut[:, SCALE] == scale][:, REAL].sum()) for scale in range(3)]
    assert counts[2] == full
    assert len(cut) == 49 + 144 + next(length for length in token_shapes.FULL_LENGTHS if length >= full)
    if real is not None:
        assert (int(cut[:, REAL].sum()), len(cut)) == (real, padded)


def test_patches_are_cut_row_by_row_with_half_the_padding_before() -> None:
    pixels = torch.arange(40 * 70, dtype=torch.float32).reshape(1, 1, 40, 70).expand(1, 3, 40, 70)
    cut = tokens.patches(pixels, scale=2)
    assert cut.shape == (2 * 3, token_shapes.LENGTH)
    # 24 rows of padding: 12 above; 26 columns: 13 to the left.
    first = cut[0, : token_shapes.PIXELS].reshape(3, 32, 32)
    assert first[0, 12, 13] == 0
    assert first[0, 12, 14] == 1
    assert first[0, 13, 13] == 70
    assert first[0, :12].abs().sum() == 0
    second = cut[1, : token_shapes.PIXELS].reshape(3, 32, 32)
    assert second[0, 12, 0] == 32 - 13
    below = cut[3, : token_shapes.PIXELS].reshape(3, 32, 32)
    assert below[0, 0, 13] == (32 - 12) * 70
    assert cut[:, SCALE].tolist() == [2.0] * 6


def test_pixels_run_from_minus_one_to_one() -> None:
    cut = tokens.cut(np.asarray(Image.new("RGB", (64, 64), (0, 255, 255))), longer_sides=())
    assert cut.shape == (64, token_shapes.LENGTH)
    assert cut[0, :1024].tolist() == [-1.0] * 1024
    assert cut[0, 1024:3072].tolist() == [1.0] * 2048
    assert cut[4:].sum() == 0


@pytest.mark.parametrize(("rows", "columns"), [(7, 7), (10, 10), (24, 32), (3, 12), (64, 23), (204, 1)])
def test_positions_equal_nearest_interpolation(rows: int, columns: int) -> None:
    """How pyiqa's port finds them: the 10 x 10 cells enlarged to the patches."""
    cells = torch.arange(100.0).reshape(1, 1, 10, 10)
    expected = F.interpolate(cells, size=(rows, columns), mode="nearest").flatten()
    assert torch.equal(tokens.position_cells(rows, columns).float(), expected)


@pytest.mark.parametrize("count", [205, 235, 266, 275, 305])
def test_positions_are_whole_number_arithmetic_where_interpolation_is_off(count: int) -> None:
    cells = tokens.position_cells(count, 1)
    assert cells.tolist() == [index * 10 // count * 10 for index in range(count)]


def test_a_picture_with_too_many_patches() -> None:
    with pytest.raises(ValueError, match="4096x2048 gives 8192 patches, more than 2304"):
        tokens.cut(np.zeros((2048, 4096, 3), np.uint8))


def standardised(weight: Tensor) -> Tensor:
    flat = weight.flatten(1)
    centred = flat - flat.mean(dim=1, keepdim=True)
    return (centred / (centred.square().mean(dim=1, keepdim=True).sqrt() + 1e-5)).view_as(weight)


def group_norm(x_CHW: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    groups = x_CHW.reshape(32, -1)
    centred = groups - groups.mean(dim=1, keepdim=True)
    normed = (centred / (centred.square().mean(dim=1, keepdim=True) + eps).sqrt()).view_as(x_CHW)
    return normed * scale[:, None, None] + shift[:, None, None]


@torch.inference_mode()
def test_against_its_formulas() -> None:
    network = Musiq(MusiqConfig(width=64, depth=2, heads=4, hidden=96)).eval()
    weights = weights_of(network)
    cut = torch.from_numpy(tokens.cut(np.asarray(photo(96, 64))))
    embedded = []
    for token in cut[cut[:, REAL] > 0]:
        pixels = token[: token_shapes.PIXELS].reshape(3, 32, 32)
        # TensorFlow's SAME for 7x7 with stride 2: 5 in all, the smaller half before.
        root = F.conv2d(F.pad(pixels, (2, 3, 2, 3)), standardised(weights["stem.root.weight"]), stride=2)
        root = group_norm(root, weights["stem.root_norm.weight"], weights["stem.root_norm.bias"], 1e-6).clamp(min=0)
        pooled = F.max_pool2d(F.pad(root, (0, 1, 0, 1)), 3, 2)
        hidden = pooled
        for place, padding in enumerate((0, 1, 0)):
            hidden = F.conv2d(hidden, standardised(weights[f"stem.convs.{place}.weight"]), padding=padding)
            hidden = group_norm(
                hidden, weights[f"stem.norms.{place}.weight"], weights[f"stem.norms.{place}.bias"], 1e-4
            )
            hidden = hidden.clamp(min=0) if place < 2 else hidden
        shortcut = F.conv2d(pooled, standardised(weights["stem.shortcut.weight"]))
        shortcut = group_norm(shortcut, weights["stem.shortcut_norm.weight"], weights["stem.shortcut_norm.bias"], 1e-4)
        flat = (hidden + shortcut).clamp(min=0).permute(1, 2, 0).flatten()
        position, scale = weights["positions"][int(token[CELL])], weights["scales"][int(token[SCALE])]
        embedded.append(linear(flat, weights, "stem.embedding") + position + scale)
    sequence = torch.stack([weights["cls"][0, 0], *embedded])
    for place in range(2):
        normed = layer_norm(sequence, weights, f"blocks.{place}.norm1", 1e-6)
        query, key, value = (
            linear(normed, weights, f"blocks.{place}.attention.{name}") for name in ("query", "key", "value")
        )
        sequence = sequence + linear(attend(query, key, value, 4), weights, f"blocks.{place}.attention.out")
        normed = layer_norm(sequence, weights, f"blocks.{place}.norm2", 1e-6)
        sequence = sequence + linear(
            F.gelu(linear(normed, weights, f"blocks.{place}.first")), weights, f"blocks.{place}.second"
        )
    expected = linear(layer_norm(sequence[0], weights, "norm", 1e-6), weights, "head")
    torch.testing.assert_close(network(cut.unsqueeze(0)).score, expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_padding_does_not_change_a_score() -> None:
    torch.manual_seed(0)
    network = Musiq(MusiqConfig(width=64, depth=2, heads=4, hidden=96)).eval()
    torch.nn.init.normal_(network.head.weight)
    cut = torch.from_numpy(tokens.cut(np.asarray(photo(300, 200))))
    longer = F.pad(cut, (0, 0, 0, 128))
    torch.testing.assert_close(
        network(longer.unsqueeze(0)).score, network(cut.unsqueeze(0)).score, rtol=1e-5, atol=1e-5
    )


def test_small_copies_are_bicubic_without_antialiasing() -> None:
    image = photo(512, 384)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
    small = F.interpolate(pixels, size=(168, 224), mode="bicubic", align_corners=False)
    cut = torch.from_numpy(tokens.cut(np.asarray(image)))
    assert torch.equal(cut[: 6 * 7], tokens.patches(small, 0))
    assert cut[6 * 7 : 49].sum() == 0


@pytest.mark.parametrize(("inputs", "outputs"), [(40, 9), (9, 40), (33, 33)])
def test_the_gaussian_kernel_of_tensorflow(inputs: int, outputs: int) -> None:
    """A pixel at a time: every output sees the inputs less than 1.5 pixels away, whatever the factor."""
    line = np.random.default_rng(0).random(inputs)
    expected = []
    for place in range(outputs):
        centre = (place + 0.5) * inputs / outputs
        near = range(max(math.ceil(centre - 2), 0), min(math.floor(centre + 2), inputs))
        weights = {i: math.exp(-(abs(i + 0.5 - centre) ** 2) / 0.5) for i in near if abs(i + 0.5 - centre) < 1.5}
        expected.append(sum(weight * line[i] for i, weight in weights.items()) / sum(weights.values()))
    picture = torch.from_numpy(line).float().expand(1, 3, 5, inputs)
    resized = tokens._gaussian(picture, (5, outputs))
    np.testing.assert_allclose(resized[0, 0, 2].numpy(), expected, rtol=1e-6)
    assert not torch.equal(
        torch.from_numpy(tokens.cut(np.asarray(photo(96, 64)), kernel="gaussian")),
        torch.from_numpy(tokens.cut(np.asarray(photo(96, 64)))),
    )
