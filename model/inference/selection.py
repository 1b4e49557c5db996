"""Which layers compute in int8: as many as keep the scores where they are.

Layers are tried one by one on pictures, and taken in the order of the harm that each does alone, as long as all of them
together move the scores by no more than the tolerance.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.inference.form import inference_form
from model.inference.quantise import observe
from model.ranges import Range

Percent = Callable[[NDArray[np.float64]], float]
"""From the outputs for a picture's crops to its score in points of 100."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The layers that compute in int8.

    Attributes:
        ranges: Of their inputs and outputs.
        layers: How many layers there were to choose from.
        error: Mean absolute difference of the chosen layers' scores from those of fp32, in points of 100.
    """

    ranges: dict[str, tuple[Range, Range]]
    layers: int
    error: float


@torch.inference_mode()
def select(
    network: nn.Module,
    pictures: Sequence[Tensor],
    percent: Percent,
    *,
    tolerance: float,
    progress: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> Selection:
    """Choose the layers of a network that compute in int8.

    Args:
        network: The network, on a CPU.
        pictures: Normalised crops of each picture, (n, 3, H, W).
        percent: From a picture's outputs to its score.
        tolerance: Largest mean absolute difference of the scores, in points of 100.
        progress: Wraps the names of the layers while they are tried.
    """
    form = inference_form(network)

    def scores_of(tried: nn.Module) -> NDArray[np.float64]:
        return np.array([percent(tried(crops)[0].double().numpy()) for crops in pictures])

    expected = scores_of(form)
    ranges = observe(form, lambda: [form(crops) for crops in pictures])

    def error_of(names: Iterable[str]) -> float:
        tried = inference_form(network, ranges={name: ranges[name] for name in names})
        return float(np.abs(scores_of(tried) - expected).mean())

    alone = {name: error_of([name]) for name in progress(ranges)}
    order = sorted(ranges, key=lambda name: alone[name])
    taken, refused, error = 0, len(order) + 1, 0.0
    while refused - taken > 1:
        middle = (taken + refused) // 2
        found = error_of(order[:middle])
        if found <= tolerance:
            taken, error = middle, found
        else:
            refused = middle
    return Selection(ranges={name: ranges[name] for name in order[:taken]}, layers=len(order), error=error)
