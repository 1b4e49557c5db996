"""Heads beside the score: which defects a picture has, how wide an interval around its score must be, what it is like.

All read means and standard deviations of feature maps. Noise and blocks change how much a map varies, more than what
it shows. They are trained after the score, while the rest of the network stays as it is: ``training/heads.py``.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.defects import DEFECTS

HIDDEN = 320
LEAST_WIDTH = 0.02
"""Smallest width of an interval to either side, in units of the score: a picture like no other must not get a narrower
one than the photos that it was learned from."""


class Statistics(nn.Module):
    """Means and standard deviations of feature maps, brought to a common scale.

    Args:
        channels: Channels of the feature maps.

    Attributes:
        length: How many numbers describe an item.
        mean: Their means over the pictures that the heads were trained on.
        scale: Their standard deviations over them.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.length = 2 * sum(channels) + 1
        self.register_buffer("mean", torch.zeros(self.length))
        self.register_buffer("scale", torch.ones(self.length))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Describe items with feature maps (N, C_i, H_i, W_i) by vectors (N, ``length``).

        The last number is the size of the items: it tells close looks from whole views.
        """
        means, deviations = [], []
        for map_NCHW in maps:
            values = map_NCHW.float()
            mean_NC = values.mean(dim=(2, 3))
            square_NC = values.square().mean(dim=(2, 3))
            means.append(mean_NC)
            deviations.append((square_NC - mean_NC.square()).clamp_min(1e-6).sqrt())
        size_N1 = torch.full_like(means[0][:, :1], math.log(math.prod(maps[0].shape[2:])))
        return (torch.cat([*means, *deviations, size_N1], dim=1) - self.mean) / self.scale


class DefectHead(nn.Module):
    """Probability and severity of each of ``model.defects.DEFECTS``.

    Args:
        inputs: Length of the vectors that it reads.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * len(DEFECTS)))

    def parts(self, statistics_NI: Tensor) -> tuple[Tensor, Tensor]:
        """Log odds of each defect (N, D), and the severity that it has if it is there (N, D), 0 to 1."""
        odds_ND, severities_ND = self.layers(statistics_NI).chunk(2, dim=1)
        return odds_ND, severities_ND.sigmoid()

    def forward(self, statistics_NI: Tensor) -> Tensor:
        """Probabilities, then severities (N, 2 * D), all from 0 to 1.

        What is less likely than not is less severe for it.
        """
        odds_ND, severities_ND = self.parts(statistics_NI)
        probabilities_ND = odds_ND.sigmoid()
        return torch.cat([probabilities_ND, severities_ND * (2 * probabilities_ND).clamp_max(1)], dim=1)


class DescriptionHead(nn.Module):
    """A few numbers that are alike for pictures that are alike: principal components of their statistics.

    Args:
        inputs: Length of the vectors that it reads.
        channels: Channels of the deepest feature map, which tells what a picture shows.
        length: How many numbers.
    """

    def __init__(self, inputs: int, channels: int, length: int) -> None:
        super().__init__()
        self.components = nn.Linear(inputs + channels, length)

    def forward(self, statistics_NI: Tensor, deepest_NCHW: Tensor) -> Tensor:
        """Describe items (N, ``length``)."""
        described: Tensor = self.components(torch.cat([statistics_NI, deepest_NCHW.float().mean(dim=(2, 3))], dim=1))
        return described


class IntervalHead(nn.Module):
    """Widths below and above the score, and the kind of photo.

    Args:
        inputs: Length of the vectors that it reads.
        kinds: Number of kinds of photos that it tells apart; 1 for none.
    """

    def __init__(self, inputs: int, kinds: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs + 1, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 + (kinds if kinds > 1 else 0))
        )

    def forward(self, statistics_NI: Tensor, score_N: Tensor) -> Tensor:
        """Two widths in units of the score, then the probabilities of the kinds if there are several (N, 2 + K)."""
        outputs: Tensor = self.layers(torch.cat([statistics_NI, score_N.unsqueeze(1)], dim=1))
        # Before any training the widths are a tenth of the usual range of scores.
        widths_N2 = F.softplus(outputs[:, :2] - 2.2) + LEAST_WIDTH
        return torch.cat([widths_N2, outputs[:, 2:].softmax(dim=1)], dim=1)
