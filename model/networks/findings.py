"""Heads beside the score: which defects a picture has, and how wide an interval around its score must be.

Both read means and standard deviations: of all four feature maps, and of filtered pixels, which know more of noise and
colours than the maps do. Noise and blocks change how much a map varies, more than what it shows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.defects import DEFECTS

HIDDEN = 160
FILTERS = 24
LEAST_WIDTH = 1e-3
"""Smallest width of an interval, in units of the score: keeps the factors of calibration finite."""


class Statistics(nn.Module):
    """Means and standard deviations of filtered pixels and of feature maps, each brought to a common scale.

    The scale is that of the first batch that is seen in training, as Kingma and Dhariwal's "Glow" (NeurIPS 2018)
    begins its activation norms.

    Args:
        channels: Channels of the feature maps.

    Attributes:
        length: How many numbers describe an item.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.filters = nn.Sequential(
            nn.Conv2d(3, FILTERS, 3, stride=2), nn.ReLU(), nn.Conv2d(FILTERS, FILTERS, 1), nn.ReLU()
        )
        self.length = 2 * (FILTERS + sum(channels))
        self.register_buffer("mean", torch.zeros(self.length))
        self.register_buffer("scale", torch.zeros(self.length))

    def forward(self, items_NCHW: Tensor, maps: list[Tensor]) -> Tensor:
        """Describe items (N, 3, H, W) with feature maps (N, C_i, H_i, W_i) by vectors (N, ``length``)."""
        means, deviations = [], []
        for map_NCHW in (self.filters(items_NCHW), *maps):
            values = map_NCHW.float()
            mean_NC = values.mean(dim=(2, 3))
            square_NC = values.square().mean(dim=(2, 3))
            means.append(mean_NC)
            deviations.append((square_NC - mean_NC.square()).clamp_min(1e-6).sqrt())
        vectors = torch.cat([*means, *deviations], dim=1)
        if self.training and not self.scale.any():
            with torch.no_grad():
                self.mean.copy_(vectors.mean(dim=0))
                self.scale.copy_(vectors.std(dim=0).clamp_min(1e-2))
        return (vectors - self.mean) / self.scale.clamp_min(1e-2)


class DefectHead(nn.Module):
    """Probability and severity of each of ``model.defects.DEFECTS``.

    Args:
        inputs: Length of the vectors that it reads.
        dropout: Dropout probability.
    """

    def __init__(self, inputs: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Dropout(dropout), nn.Linear(HIDDEN, 2 * len(DEFECTS))
        )

    def forward(self, statistics_NI: Tensor) -> Tensor:
        """Probabilities, then severities (N, 2 * D), all from 0 to 1."""
        outputs: Tensor = self.layers(statistics_NI)
        return outputs.sigmoid()


class IntervalHead(nn.Module):
    """Widths below and above the score, and the kind of photo.

    Its gradients end at the vectors that it reads: it says how sure the score is, and does not change it.

    Args:
        inputs: Length of the vectors that it reads.
        kinds: Number of kinds of photos that it tells apart; 1 for none.
        dropout: Dropout probability.
    """

    def __init__(self, inputs: int, kinds: int, dropout: float) -> None:
        super().__init__()
        self.kinds = kinds
        self.layers = nn.Sequential(
            nn.Linear(inputs + 1, HIDDEN),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN, 2 + (kinds if kinds > 1 else 0)),
        )

    def forward(self, statistics_NI: Tensor, score_N: Tensor) -> Tensor:
        """Two widths in units of the score, then the probabilities of the kinds if there are several (N, 2 + K)."""
        inputs = torch.cat([statistics_NI, score_N.unsqueeze(1)], dim=1).detach()
        outputs: Tensor = self.layers(inputs)
        # Before any training the widths are a tenth of the usual range of scores.
        widths_N2 = F.softplus(outputs[:, :2] - 2.2) + LEAST_WIDTH
        return torch.cat([widths_N2, outputs[:, 2:].softmax(dim=1)], dim=1)
