"""SMART-IQA: stage attention over a hierarchical backbone, followed by a content-adaptive hyper network.

This is the network of the authors' released code, whose parameter counts the paper publishes. The equations of the long
paper describe another one (sigmoid gate, two-layer target network): ``equations.py``.
"""

from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from model.networks.backbone import Backbone
from model.networks.distortion import LocalDistortion
from model.networks.findings import DefectHead, DescriptionHead, IntervalHead, Statistics
from model.networks.hyper import HyperNetwork, TargetNetwork, pool_to_grid
from model.networks.network import LEVELS, STRICT, Count, Network, Prediction, Rate


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SmartConfig:
    """Config of a SMART-IQA network.

    Raises:
        ValueError: Attention without several stages to weigh, or a field is out of range.
    """

    backbone: str
    """timm model name."""
    multi_scale: bool = True
    """Fuse all four stages; False is the paper's "backbone only" ablation: only stage 4 feeds the hyper network."""
    attention: bool = True
    """Weigh the stages; False concatenates them unweighted (the paper's "without attention" ablation)."""
    trunk: tuple[Count, ...] = (512, 256)
    """Widths of the hyper network's 1x1 convolutions before its last one."""
    dropout: Rate = 0.3
    drop_path: Rate = 0.2
    defects: bool = False
    """Whether a head beside the score finds defects."""
    bins: Count = 1
    """Bins of a distribution of opinions over the range of outputs, 0 to 1, whose mean is the score; 1 for a score
    without distribution."""
    kinds: Annotated[int, Field(ge=0)] = 0
    """Kinds of photos that a head for intervals tells apart, 1 for none; 0 without that head."""
    description: Annotated[int, Field(ge=0)] = 0
    """Numbers of a description of the picture; 0 for none."""

    def __post_init__(self) -> None:
        if self.attention and not self.multi_scale:
            raise ValueError("attention weighs several stages: it needs multi_scale")


class StageAttention(nn.Module):
    """Softmax weights of the four stages, computed from the pooled deepest one.

    Follows the released code (hidden 256, softmax); the paper's text has 128 and a sigmoid. The initial weights are
    nearly uniform.

    Args:
        channels: Channels of the deepest feature map.
        hidden: Width of the hidden layer.
    """

    def __init__(self, channels: int, hidden: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, LEVELS))
        for layer in (self.layers[0], self.layers[3]):
            nn.init.normal_(layer.get_parameter("weight"), std=0.01)
            nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, deepest_NCHW: Tensor) -> Tensor:
        """Weigh the stages: (N, C4, H, W) to rows of (N, 4) that sum to 1."""
        logits: Tensor = self.layers(deepest_NCHW.mean(dim=(2, 3)))
        return logits.softmax(dim=1)


class SmartIQA(Network):
    """SMART-IQA on any hierarchical backbone.

    Args:
        config: Its config.
        pretrained: Download the backbone's ImageNet weights from timm's hub.
    """

    def __init__(self, config: SmartConfig, *, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        finds = config.defects or config.kinds > 0 or config.description > 0
        self.backbone = Backbone(config.backbone, pretrained=pretrained, drop_path=config.drop_path, finer=finds)
        channels = self.backbone.channels
        fused = sum(channels) if config.multi_scale else channels[-1]
        self.attention = StageAttention(channels[-1]) if config.attention else None
        self.distortion = LocalDistortion(channels)
        self.hyper = HyperNetwork(fused, config.trunk, config.dropout, config.bins)
        self.target = TargetNetwork(config.dropout)
        # The deepest level tells what a picture shows; the others, how it was taken.
        self.statistics = Statistics((*self.backbone.finer_channels, *channels[:-1])) if finds else None
        length = 0 if self.statistics is None else self.statistics.length
        self.defects = DefectHead(length) if config.defects else None
        self.interval = IntervalHead(length, config.kinds) if config.kinds else None
        described = config.description
        self.description = DescriptionHead(length, channels[-1], described) if described else None

    def forward(self, items: Tensor) -> Prediction:
        """Score normalised RGB pictures (N, 3, H, W), of any size that the backbone takes."""
        all_maps = self.backbone(items)
        maps = all_maps[-LEVELS:]
        weights_N4 = self.attention(maps[-1]) if self.attention is not None else None
        layers = self.hyper(self._fuse(maps, weights_N4))
        outputs_NB = self.target(self.distortion(maps), layers)
        score_N = mean_opinion(outputs_NB).float() if self.config.bins > 1 else outputs_NB.flatten().float()
        logits_NB = outputs_NB if self.training and self.config.bins > 1 else None
        if self.statistics is None:
            return Prediction(score_N, weights_N4, logits=logits_NB)
        statistics_NI = self.statistics(all_maps[:-1])
        interval = self.interval(statistics_NI, score_N) if self.interval is not None else None
        defects = self.defects(statistics_NI) if self.defects is not None else None
        description = self.description(statistics_NI, all_maps[-1]) if self.description is not None else None
        return Prediction(score_N, weights_N4, interval, defects, description, logits_NB)

    @property
    def weighs_stages(self) -> bool:
        """Whether the config has attention."""
        return bool(self.config.attention)

    def trunks(self) -> dict[str, nn.Module]:
        """The backbone."""
        return {"backbone": self.backbone.features}

    def _fuse(self, maps: list[Tensor], weights_N4: Tensor | None) -> Tensor:
        if not self.config.multi_scale:
            return pool_to_grid(maps[-1])
        pooled = [pool_to_grid(map_) for map_ in maps]
        if weights_N4 is not None:
            pooled = [map_ * weights_N4[:, stage, None, None, None] for stage, map_ in enumerate(pooled)]
        return torch.cat(pooled, dim=1)


def mean_opinion(logits_NB: Tensor) -> Tensor:
    """The mean (N,) of distributions over bins, whose centres lie evenly from 0 to 1."""
    centres_B = torch.linspace(0, 1, logits_NB.shape[1], dtype=logits_NB.dtype, device=logits_NB.device)
    return (logits_NB.softmax(dim=1) * centres_B).sum(dim=1)
