"""LoDa: a frozen vision transformer into which frozen convolutional features are injected before every block.

Source: LoDa (CVPR 2024) and its released code: a cosine head, ImageNet normalisation for both trunks, no layer norm in
the injectors, no projections shared between blocks.
"""

import timm
import torch
import torch.nn.functional as F
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from model.networks.backbone import Backbone, size_options
from model.networks.hyper import pool_to_grid
from model.networks.network import STRICT, Network, Prediction, Rate

RANK = 64
HEADS = 4
SCALE_STD = 0.02


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LodaConfig:
    """Config of a LoDa network.

    Raises:
        ValueError: A field is out of range.
    """

    transformer: str = "vit_base_patch16_224.augreg2_in21k_ft_in1k"
    """timm name of a plain vision transformer."""
    backbone: str = "resnet50.a1_in1k"
    """timm name of the convolutional network that extracts local distortions."""
    dropout: Rate = 0.1


class Perceptron(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, outputs)
        self.second = nn.Linear(outputs, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        answer: Tensor = self.second(F.gelu(self.first(tokens)))
        return answer


class CrossAttention(nn.Module):
    """Multi-head attention of tokens to local-distortion tokens; only its output layer has a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(RANK, RANK, bias=False)
        self.key_value = nn.Linear(RANK, 2 * RANK, bias=False)
        self.out = nn.Linear(RANK, RANK)

    def forward(self, tokens_NTR: Tensor, local_NLR: Tensor) -> Tensor:
        """Attend from tokens (N, T, 64) to local-distortion tokens (N, L, 64)."""
        query = _heads(self.query(tokens_NTR))
        key, value = (_heads(part) for part in self.key_value(local_NLR).chunk(2, dim=-1))
        read = F.scaled_dot_product_attention(query, key, value)
        answer: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return answer


class Injector(nn.Module):
    """The addition to the tokens before a block of the transformer: down to 64 channels, attention, and up again."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = Perceptron(width, RANK)
        self.attention = CrossAttention()
        self.up = Perceptron(RANK, width)
        self.scale = nn.Parameter(torch.empty(width))
        nn.init.trunc_normal_(self.scale, std=SCALE_STD)

    def forward(self, tokens_NTC: Tensor, local_NLR: Tensor) -> Tensor:
        """Compute the addition (N, T, C) to tokens (N, T, C) from local-distortion tokens (N, L, 64)."""
        low_NTR = self.down(tokens_NTC)
        addition: Tensor = self.scale * self.up(low_NTR + self.attention(low_NTR, local_NLR))
        return addition


class LoDa(Network):
    """LoDa on a plain vision transformer.

    Only the extractor, the injectors and the head are trained. The weights of both trunks are frozen; the batch norms
    of the convolutional one still update their statistics, as in the released code, unless a recipe has ``freeze_bn``.

    Args:
        config: Its config.
        pretrained: Download the weights of both trunks from timm's hub.
    """

    def __init__(self, config: LodaConfig, *, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone, pretrained=pretrained)
        self.transformer = _transformer(config.transformer, pretrained)
        width, depth = int(self.transformer.embed_dim), len(self.transformer.blocks)
        self.extractor = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, RANK, 1), nn.GELU(), nn.Conv2d(RANK, RANK, 3, padding=1, bias=False))
            for channels in self.backbone.channels
        )
        self.injectors = nn.ModuleList(Injector(width) for _ in range(depth))
        self.dropout = nn.Dropout(config.dropout)
        # Of unit length, as in the released code: only its direction counts, and a long vector hardly turns.
        self.head = nn.Parameter(F.normalize(torch.randn(width), dim=0))
        for trunk in self.trunks().values():
            trunk.requires_grad_(False)

    def forward(self, items: Tensor) -> Prediction:
        """Score normalised RGB crops (N, 3, 224, 224): cosines between -1 and 1."""
        maps = self.backbone(items)
        small = [pool_to_grid(layer(map_)) for layer, map_ in zip(self.extractor, maps, strict=True)]
        local_NLR = torch.cat([map_.flatten(2).transpose(1, 2) for map_ in small], dim=1)
        transformer = self.transformer
        tokens_NTC = transformer.norm_pre(transformer._pos_embed(transformer.patch_embed(items)))
        for injector, block in zip(self.injectors, transformer.blocks, strict=True):
            tokens_NTC = block(tokens_NTC + injector(tokens_NTC, local_NLR))
        feature_NC = self.dropout(transformer.norm(tokens_NTC)[:, 0])
        return Prediction(F.cosine_similarity(feature_NC.float(), self.head.float(), dim=-1), None)

    def train(self, mode: bool = True) -> "LoDa":
        """Switch training mode on or off; the transformer always stays in evaluation mode."""
        super().train(mode)
        self.transformer.eval()
        return self

    @property
    def frozen(self) -> frozenset[str]:
        """The parameters of both trunks."""
        prefixes = ("backbone.", "transformer.")
        return frozenset(name for name, _ in self.named_parameters() if name.startswith(prefixes))

    def trunks(self) -> dict[str, nn.Module]:
        """Both trunks, which are frozen."""
        return {"backbone": self.backbone.features, "transformer": self.transformer}


def _heads(tokens_NTR: Tensor) -> Tensor:
    """(N, T, 64) to (N, heads, T, 16)."""
    split: Tensor = tokens_NTR.unflatten(-1, (HEADS, RANK // HEADS))
    return split.transpose(1, 2)


def _transformer(name: str, pretrained: bool) -> timm.models.VisionTransformer:
    if not timm.is_model(name.split(".", maxsplit=1)[0]):
        raise ValueError(f"timm knows no transformer called {name!r}")
    network = timm.create_model(name, pretrained=pretrained, num_classes=0, **size_options(name))
    if not isinstance(network, timm.models.VisionTransformer) or not network.has_class_token:
        raise ValueError(f"{name!r} is no plain vision transformer with a class token")
    return network
