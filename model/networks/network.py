"""Base class of all networks, and their output."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import ConfigDict, Field, ValidationError
from torch import Tensor, nn

STRICT = ConfigDict(extra="forbid")
"""For the config dataclasses: unknown fields are errors, values are validated, lists become tuples."""
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
LEVELS = 4
"""Feature levels (stages) of a backbone."""
HEADS = frozenset({"defects", "kinds", "description"})
"""Fields of a network's config that give it heads beside the score."""


def first_fault(error: ValidationError) -> str:
    """Describe the first error in one line."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where + ': ' if where else ''}{fault['msg'].removeprefix('Value error, ')}"


class Prediction(NamedTuple):
    """Output of a network for a batch of work items.

    Attributes:
        score: (N,) outputs; ``Contract.raw`` converts them to raw scores.
        stage_weights: (N, 4) weights of the backbone stages; None if the network has none. Rows of softmax weights sum
            to 1, rows of gates do not.
        interval: (N, 2 or 2 + K) widths below and above the score, and probabilities of K kinds of photos; None if the
            network gives no interval.
        defects: (N, 2 * D) probabilities of the defects, then their severities; None if the network finds none.
        description: (N, K) numbers that are alike for pictures that are alike; None if the network gives none.
        logits: (N, B) logits of the bins of a distribution of opinions, in training only; None for other networks.
    """

    score: Tensor
    stage_weights: Tensor | None
    interval: Tensor | None = None
    defects: Tensor | None = None
    description: Tensor | None = None
    logits: Tensor | None = None

    def rows(self) -> Tensor:
        """All that is served as one row for each item, (N, columns) fp32, in this order."""
        columns = [self.score.unsqueeze(1), self.stage_weights, self.interval, self.defects, self.description]
        return torch.cat([column.float() for column in columns if column is not None], dim=1)


class Network(nn.Module, ABC):
    """A network that scores work items.

    Attributes:
        config: The frozen config dataclass that it was made from.
        auxiliary: Weighted losses of the last forward pass, by name, which training adds to the main loss; empty for
            most networks.
    """

    config: Any
    auxiliary: Mapping[str, Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = {}

    @abstractmethod
    def forward(self, items: Tensor) -> Prediction:
        """Score a batch of work items."""

    @property
    def weighs_stages(self) -> bool:
        """Whether predictions come with stage weights."""
        return False

    @property
    def frozen(self) -> frozenset[str]:
        """Names of the weights that are never trained, so that checkpoints of several data sets can share them."""
        return frozenset()

    @abstractmethod
    def trunks(self) -> Mapping[str, nn.Module]:
        """The parts that start from pretrained weights, by name; recipes give them a lower learning rate."""

    def bulk(self) -> Iterable[nn.Module]:
        """The parts with nearly all of the arithmetic: bf16 and int8 apply to these."""
        return self.trunks().values()

    def stages(self, items: Tensor) -> list[Tensor] | None:
        """Feature maps of the four stages of the backbone (N, C_i, H_i, W_i); None for networks without stages."""
        backbone = getattr(self, "backbone", None)
        return backbone(items)[-LEVELS:] if backbone is not None else None

    def activity(self, items: Tensor) -> list[Tensor] | None:
        """Activity of the stages: mean magnitudes over channels, (N, H_i, W_i) fp32; None if there are no stages."""
        maps = self.stages(items)
        return [map_NCHW.float().abs().mean(dim=1) for map_NCHW in maps] if maps is not None else None
