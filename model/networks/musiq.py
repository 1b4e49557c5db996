"""MUSIQ: a transformer over patch tokens of a whole picture at several scales.

Source: MUSIQ (Ke et al., ICCV 2021), appendix, and Google's inference code; ``model/tokens.py`` makes the tokens.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from model.networks.network import STRICT, Count, Network, Prediction
from model.token_shapes import GRID, PATCH, PIXELS, Kernel

EMBEDDING_STD = 0.02


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MusiqConfig:
    """Config of a MUSIQ network.

    Raises:
        ValueError: The width is no multiple of the heads, or a field is out of range.
    """

    longer_sides: tuple[Count, ...] = (224, 384)
    """Longer sides of the small copies beside the full-size picture, in pixels; () is MUSIQ-single."""
    width: Count = 384
    depth: Count = 14
    heads: Count = 6
    hidden: Count = 1152
    classes: Count = 1
    """Outputs of the head: 1 for a score. With more, they are the shares of the grades 1 to ``classes``, and the score
    is the mean grade (AVA)."""
    tanh_gelu: bool = False
    """Use the tanh form of GELU, as Google's code does, instead of the exact one, as pyiqa's port does."""
    kernel: Kernel = "bicubic"
    """How the small copies are resized; see ``model/tokens.py``."""

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of {self.heads} heads")


class StandardisedConv(nn.Conv2d):
    """A convolution without bias whose weights are standardised to mean 0 and deviation 1 for each output channel."""

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__(inputs, outputs, size, stride, padding, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, C, H, W)."""
        deviation, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        answer: Tensor = self._conv_forward(input, (self.weight - mean) / (deviation + 1e-5), None)
        return answer


class Stem(nn.Module):
    """Embeds a patch of 32x32 pixels as one vector: a convolution, a bottleneck, a linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.root = StandardisedConv(3, 64, 7, stride=2)
        self.root_norm = nn.GroupNorm(32, 64, eps=1e-6)
        self.convs = nn.ModuleList(
            [StandardisedConv(64, 64, 1), StandardisedConv(64, 64, 3, padding=1), StandardisedConv(64, 256, 1)]
        )
        self.norms = nn.ModuleList(nn.GroupNorm(32, channels, eps=1e-4) for channels in (64, 64, 256))
        self.shortcut = StandardisedConv(64, 256, 1)
        self.shortcut_norm = nn.GroupNorm(32, 256, eps=1e-4)
        self.embedding = nn.Linear((PATCH // 4) ** 2 * 256, width)
        nn.init.zeros_(self.norms[2].get_parameter("weight"))

    def forward(self, pixels_NCHW: Tensor) -> Tensor:
        """Embed patches (N, 3, 32, 32) as (N, width)."""
        # TensorFlow's SAME padding is uneven: 2 before and 3 after for the convolution, 0 and 1 for the pooling.
        root = F.relu(self.root_norm(self.root(F.pad(pixels_NCHW, (2, 3, 2, 3)))))
        pooled = F.max_pool2d(F.pad(root, (0, 1, 0, 1)), 3, 2)
        hidden = pooled
        for place, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            hidden = norm(conv(hidden))
            if place < 2:
                hidden = F.relu(hidden)
        hidden = F.relu(hidden + self.shortcut_norm(self.shortcut(pooled)))
        embedded: Tensor = self.embedding(hidden.permute(0, 2, 3, 1).flatten(1))
        return embedded


class Attention(nn.Module):
    """Multi-head self-attention that ignores padding."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens_NTC: Tensor, real_N11T: Tensor) -> Tensor:
        """Attend (N, T, C) to the tokens that are real (N, 1, 1, T)."""
        query, key, value = (
            layer(tokens_NTC).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=real_N11T)
        answer: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return answer


class Block(nn.Module):
    """A transformer block with layer norms before its branches (pre-norm)."""

    def __init__(self, config: MusiqConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(config.width, eps=1e-6) for _ in range(2))
        self.attention = Attention(config.width, config.heads)
        self.first, self.second = nn.Linear(config.width, config.hidden), nn.Linear(config.hidden, config.width)
        self.approximate = "tanh" if config.tanh_gelu else "none"
        for layer in (self.first, self.second):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens_NTC: Tensor, real_N11T: Tensor) -> Tensor:
        """Update tokens (N, T, C)."""
        tokens_NTC = tokens_NTC + self.attention(self.norm1(tokens_NTC), real_N11T)
        hidden = F.gelu(self.first(self.norm2(tokens_NTC)), approximate=self.approximate)
        updated: Tensor = tokens_NTC + self.second(hidden)
        return updated


class Musiq(Network):
    """MUSIQ.

    Args:
        config: Its config.
        pretrained: Must be False: timm has no weights for MUSIQ.

    Raises:
        ValueError: ``pretrained`` is True.
    """

    def __init__(self, config: MusiqConfig, *, pretrained: bool = False) -> None:
        super().__init__()
        if pretrained:
            raise ValueError("timm has no weights for MUSIQ: import a checkpoint, or start from one")
        self.config = config
        self.stem = Stem(config.width)
        self.positions = nn.Parameter(torch.empty(GRID * GRID, config.width))
        self.scales = nn.Parameter(torch.empty(len(config.longer_sides) + 1, config.width))
        for table in (self.positions, self.scales):
            nn.init.normal_(table, std=EMBEDDING_STD)
        self.cls = nn.Parameter(torch.zeros(1, 1, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.head = nn.Linear(config.width, config.classes)
        nn.init.zeros_(self.head.weight)

    def forward(self, items: Tensor) -> Prediction:
        """Score pictures as tokens (N, T, 3075)."""
        pixels_NTP, cells_NT, scales_NT = items[..., :PIXELS], items[..., PIXELS].long(), items[..., PIXELS + 1].long()
        real_NT = F.pad(items[..., PIXELS + 2] > 0, (1, 0), value=True)
        embedded = self.stem(pixels_NTP.reshape(-1, 3, PATCH, PATCH)).reshape(*items.shape[:2], -1)
        tokens_NTC = embedded + self.positions[cells_NT] + self.scales[scales_NT]
        tokens_NTC = torch.cat([self.cls.expand(items.shape[0], -1, -1), tokens_NTC], dim=1)
        for block in self.blocks:
            tokens_NTC = block(tokens_NTC, real_NT[:, None, None])
        answers_NK = self.head(self.norm(tokens_NTC[:, 0])).float()
        if self.config.classes == 1:
            return Prediction(answers_NK.flatten(), None)
        grades_K = torch.arange(1, self.config.classes + 1, device=answers_NK.device)
        return Prediction((answers_NK.softmax(dim=1) * grades_K).sum(dim=1), None)

    def trunks(self) -> dict[str, nn.Module]:
        """None: no part starts from timm's weights."""
        return {}

    def bulk(self) -> Iterable[nn.Module]:
        """The transformer's blocks."""
        return (self.blocks,)
