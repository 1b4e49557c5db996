"""SMART-IQA by the equations of its long paper, which differs from the network that its published figures are for.

Source: SMART-IQA, long paper, Eq. 4 (stages to 512 channels), 7-9 (sigmoid gate), 10 (fused vector), 14-16 (hyper and
target network).

Eq. 14 generates, for each crop, a matrix W1 of 128 x 100,352 numbers by a 1x1 convolution of the deepest features. The
product with the fused features is computed without making that matrix:

    h_j = sum_p sum_k v[p,k] (sum_c K[j,k,c] f[p,c] + bias[j,k]) = sum_k,c K[j,k,c] M[k,c] + sum_k bias[j,k] s[k]

with M = v^T f and s the sum of v over the positions p: bilinear pooling and one linear map. The paper does not say how
K starts. Here h_j has a variance of about 1 for features of unit variance, so that no sigmoid of Eq. 15 is saturated.
"""

import torch
from pydantic import NonNegativeInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from model.networks.backbone import Backbone
from model.networks.hyper import pool_to_grid
from model.networks.network import LEVELS, STRICT, Network, Prediction, Rate

UNIFIED = 512
"""Channels of each stage after Eq. 4."""
GATE_HIDDEN = 128
TARGET_HIDDEN = 128
FUSED_SQUARE = 1 / 24
"""Mean square of the fused features at the start, of stages of unit variance: a third by torch's first weights of
Eq. 4, half of it left by the ReLU, a quarter by the gates, which start at a half."""
SUMMED_SQUARE = 49 * FUSED_SQUARE
"""Mean square of an entry of M, of deepest features of unit variance at 49 positions."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EquationConfig:
    """Config of the network of the equations.

    Raises:
        ValueError: A field is out of range.
    """

    backbone: str
    """timm model name."""
    rank: NonNegativeInt = 0
    """Rank of the kernel K: it is a sum of that many products of three vectors. 0 keeps it whole (268 M numbers for the
    base network)."""
    dropout: Rate = 0.3
    drop_path: Rate = 0.2


class WholeKernel(nn.Module):
    """Eq. 14 and the product of Eq. 16 in closed form.

    Args:
        fused: Channels K of the fused features.
        semantic: Channels C of the deepest features.
        hidden: Hidden units J of the target network.
    """

    def __init__(self, fused: int, semantic: int, hidden: int) -> None:
        super().__init__()
        self.kernel_JKC = nn.Parameter(torch.empty(hidden, fused, semantic))
        self.bias_JK = nn.Parameter(torch.zeros(hidden, fused))
        nn.init.normal_(self.kernel_JKC, std=(SUMMED_SQUARE * fused * semantic) ** -0.5)

    def forward(self, fused_NPK: Tensor, semantic_NPC: Tensor) -> Tensor:
        """Apply the generated matrix: fused (N, P, K) and semantic (N, P, C) features to (N, J)."""
        pooled_NKC = fused_NPK.transpose(1, 2) @ semantic_NPC
        return pooled_NKC.flatten(1) @ self.kernel_JKC.flatten(1).T + fused_NPK.sum(dim=1) @ self.bias_JK.T


class LowRankKernel(nn.Module):
    """``WholeKernel`` with K[j,k,c] = sum_r A[j,r] B[r,k] C[r,c].

    Args:
        fused: Channels K of the fused features.
        semantic: Channels C of the deepest features.
        hidden: Hidden units J of the target network.
        rank: Number of products.
    """

    def __init__(self, fused: int, semantic: int, hidden: int, rank: int) -> None:
        super().__init__()
        self.fused = nn.Linear(fused, rank, bias=False)
        self.semantic = nn.Linear(semantic, rank, bias=False)
        self.out = nn.Linear(rank, hidden, bias=False)
        self.bias = nn.Linear(fused, hidden, bias=False)
        nn.init.zeros_(self.bias.weight)
        for layer in (self.fused, self.semantic):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        nn.init.normal_(self.out.weight, std=(SUMMED_SQUARE * rank) ** -0.5)

    def forward(self, fused_NPK: Tensor, semantic_NPC: Tensor) -> Tensor:
        """Apply the generated matrix: fused (N, P, K) and semantic (N, P, C) features to (N, J)."""
        pooled_NR = (self.fused(fused_NPK) * self.semantic(semantic_NPC)).sum(dim=1)
        answer: Tensor = self.out(pooled_NR) + self.bias(fused_NPK.sum(dim=1))
        return answer


class EquationIQA(Network):
    """SMART-IQA of the equations.

    Args:
        config: Its config.
        pretrained: Download the backbone's ImageNet weights from timm's hub.
    """

    def __init__(self, config: EquationConfig, *, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone, pretrained=pretrained, drop_path=config.drop_path)
        channels = self.backbone.channels
        self.unify = nn.ModuleList(nn.Conv2d(inputs, UNIFIED, 1) for inputs in channels)
        self.gate = nn.Sequential(
            nn.Linear(channels[-1], GATE_HIDDEN), nn.ReLU(), nn.Linear(GATE_HIDDEN, LEVELS), nn.Sigmoid()
        )
        fused, semantic = LEVELS * UNIFIED, channels[-1]
        self.kernel: nn.Module = (
            LowRankKernel(fused, semantic, TARGET_HIDDEN, config.rank)
            if config.rank
            else WholeKernel(fused, semantic, TARGET_HIDDEN)
        )
        # 128 is no multiple of 49, so W2 cannot be generated as a 7x7 map like the weights of HyperIQA.
        self.hidden_bias = nn.Linear(semantic, TARGET_HIDDEN)
        self.last_weight = nn.Linear(semantic, TARGET_HIDDEN)
        self.last_bias = nn.Linear(semantic, 1)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, items: Tensor) -> Prediction:
        """Score normalised RGB crops (N, 3, 224, 224)."""
        maps = self.backbone(items)
        deepest = pool_to_grid(maps[-1])
        semantic_NC = deepest.mean(dim=(2, 3))
        weights_N4 = self.gate(semantic_NC)
        stages = [torch.relu(conv(pool_to_grid(map_))) for conv, map_ in zip(self.unify, maps, strict=True)]
        fused = torch.cat([map_ * weights_N4[:, place, None, None, None] for place, map_ in enumerate(stages)], dim=1)
        with torch.autocast(items.device.type, enabled=False):
            summed_NJ = self.kernel(_positions(fused).float(), _positions(deepest).float())
            pooled_NC = semantic_NC.float()
            hidden_NJ = self.dropout(torch.sigmoid(summed_NJ + self.hidden_bias(pooled_NC)))
            score_N = (self.last_weight(pooled_NC) * hidden_NJ).sum(dim=1) + self.last_bias(pooled_NC).squeeze(1)
        return Prediction(score_N, weights_N4)

    @property
    def weighs_stages(self) -> bool:
        """Always; unlike softmax weights, these sigmoid gates do not sum to 1."""
        return True

    def trunks(self) -> dict[str, nn.Module]:
        """The backbone."""
        return {"backbone": self.backbone.features}


def _positions(map_NCHW: Tensor) -> Tensor:
    """(N, C, 7, 7) to (N, 49, C)."""
    return map_NCHW.flatten(2).transpose(1, 2)
