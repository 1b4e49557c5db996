"""What every network answers."""

from typing import NamedTuple

from torch import Tensor


class Prediction(NamedTuple):
    """Raw answers for a batch of work items.

    Attributes:
        score: (N,) raw scores, on the scale of the data set that the network was trained on.
        stage_weights: (N, 4) weights of the backbone stages, each row summing to 1, or None if the network has none.
    """

    score: Tensor
    stage_weights: Tensor | None
