"""Life-IQA: six quality queries, mixed by graph convolutions, attend to the third stage of a backbone.

Source: Life-IQA and its released code, whose network has the published 95 M parameters. There the graph is constant,
(J + I) / 7 over six fully connected queries; the paper calls it learnable.
"""

import math
from copy import deepcopy
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from model.networks.backbone import Backbone
from model.networks.experts import Experts
from model.networks.hyper import pool_to_grid
from model.networks.network import LEVELS, STRICT, Count, Network, Prediction, Rate

QUERIES = 6
GRAPH_WIDTHS = (384, 192, 96, 384)
WIDTH = 384
HEADS = 6


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LifeConfig:
    """Config of a Life-IQA network.

    Raises:
        ValueError: A field is out of range.
    """

    backbone: str = "swin_base_patch4_window7_224"
    experts: Annotated[int, Field(ge=2)] = 4
    depth: Count = 4
    """Number of decoder layers."""
    learnable_graph: bool = False
    """Train the graphs, as in the paper, starting from the constant one."""
    dropout: Rate = 0.1
    drop_path: Rate = 0.1


class GraphConvolution(nn.Module):
    """Three graph convolutions over the queries; each query has weight 2/7 on itself and 1/7 on every other."""

    def __init__(self, *, learnable: bool) -> None:
        super().__init__()
        graph_QQ = (torch.ones(QUERIES, QUERIES) + torch.eye(QUERIES)) / (QUERIES + 1)
        self.graphs = nn.ParameterList()
        if learnable:
            self.graphs.extend(graph_QQ.clone() for _ in range(3))
        else:
            self.register_buffer("graph", graph_QQ, persistent=False)
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(GRAPH_WIDTHS))
        for layer in self.layers:
            # The released code stores the matrix as (inputs, outputs), so torch takes the outputs for the fan-in.
            assert isinstance(layer, nn.Linear)
            bound = math.sqrt(1 / layer.out_features)
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)

    def forward(self, queries_NQC: Tensor) -> Tensor:
        """Mix queries (N, 6, 384)."""
        for place, layer in enumerate(self.layers):
            graph = self.graphs[place] if len(self.graphs) else self.get_buffer("graph")
            # A (h W) + b: the bias is added after the graph.
            assert isinstance(layer, nn.Linear)
            queries_NQC = graph @ F.linear(queries_NQC, layer.weight) + layer.bias
            if place < len(self.layers) - 1:
                queries_NQC = F.relu(queries_NQC)
        return queries_NQC


class DecoderLayer(nn.Module):
    """A graph branch and an attention branch, both residual, without a feed-forward part."""

    def __init__(self, *, learnable_graph: bool) -> None:
        super().__init__()
        self.graph = GraphConvolution(learnable=learnable_graph)
        self.norm = nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, queries_NQC: Tensor, memory_NTC: Tensor) -> Tensor:
        """Update queries (N, 6, 384) from each other and from the memory (N, 49, 384)."""
        queries_NQC = queries_NQC + self.graph(queries_NQC)
        read, _ = self.attention(self.norm(queries_NQC), memory_NTC, memory_NTC, need_weights=False)
        updated: Tensor = queries_NQC + read
        return updated


class LifeIQA(Network):
    """Life-IQA on a hierarchical backbone.

    Args:
        config: Its config.
        pretrained: Download the backbone's ImageNet weights from timm's hub.
    """

    def __init__(self, config: LifeConfig, *, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone, pretrained=pretrained, drop_path=config.drop_path)
        *_, third, fourth = self.backbone.channels
        self.queries = nn.Parameter(torch.empty(1, QUERIES, WIDTH))
        nn.init.trunc_normal_(self.queries, std=0.02)
        self.from_fourth = nn.Linear(fourth, WIDTH)
        self.from_third = nn.Linear(third, WIDTH)
        layer = DecoderLayer(learnable_graph=config.learnable_graph)
        # The released code copies one layer, so all layers start with the same weights.
        self.layers = nn.ModuleList(deepcopy(layer) for _ in range(config.depth))
        self.norm = nn.LayerNorm(WIDTH)
        self.experts = Experts(WIDTH, 4 * WIDTH, config.experts, chosen=2, dropout=config.dropout)
        self.gamma = nn.Parameter(torch.tensor([0.1]))
        self.dropout = nn.Dropout(config.dropout)
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, items: Tensor) -> Prediction:
        """Score normalised RGB crops (N, 3, 224, 224)."""
        maps = self.backbone(items)
        assert len(maps) == LEVELS
        queries_NQC = self.queries + self.from_fourth(maps[3].mean(dim=(2, 3))).unsqueeze(1)
        memory_NTC = self.from_third(pool_to_grid(maps[2]).flatten(2).transpose(1, 2))
        for layer in self.layers:
            queries_NQC = layer(queries_NQC, memory_NTC)
        normed_NQC = self.norm(queries_NQC)
        mixed_NQC, self.auxiliary = self.experts(normed_NQC)
        answers_NQ1 = self.score(self.dropout(normed_NQC + self.gamma * mixed_NQC))
        return Prediction(answers_NQ1.float().mean(dim=(1, 2)), None)

    def trunks(self) -> dict[str, nn.Module]:
        """The backbone."""
        return {"backbone": self.backbone.features}
