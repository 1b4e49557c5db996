"""Optimiser, learning rates, gradient clipping and weight average of a network in training."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from model.networks.registry import Network
from training.recipe import Recipe


class Learner:
    """A network with its optimiser, its schedule and the moving average of its weights.

    Args:
        network: The network, on its device.
        recipe: Gives the optimiser, the rates and what is frozen.
        steps: Steps of an epoch.
        extra: A module outside the checkpoint that is trained with the head's rate.

    Attributes:
        network: The network in training.
        averaged: The same network with the moving average of its weights: what becomes a checkpoint.

    Raises:
        ValueError: A name in ``frozen`` or ``at_backbone_lr`` is that of no part.
    """

    def __init__(self, network: Network, recipe: Recipe, steps: int, extra: nn.Module | None = None) -> None:
        self.network = network
        self._extra = extra
        self._recipe = recipe
        self._optimizer = _optimizer(network, recipe)
        self._head_rests = False
        if extra is not None:
            self._optimizer.param_groups[1]["params"].extend(extra.parameters())
        self._schedule = LambdaLR(self._optimizer, rates(recipe, steps))
        self._average = AveragedModel(network, multi_avg_fn=_moving_average(recipe.ema_decay))
        assert isinstance(self._average.module, Network)
        self.averaged = self._average.module

    def train_mode(self, epoch: int) -> None:
        """Switch to training mode, except what the recipe freezes: batch norms, and the head after the first epoch."""
        self.network.train()
        self._head_rests = self._recipe.freeze_hyper_after_first_epoch and epoch > 1
        if self._recipe.freeze_bn:
            for trunk in self.network.trunks().values():
                for layer in trunk.modules():
                    if isinstance(layer, nn.BatchNorm2d):
                        layer.eval()

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        self._optimizer.zero_grad()

    def step(self) -> Tensor:
        """Take an optimiser step and update the average; returns the norm of the gradients before clipping."""
        if self._head_rests:
            # Their gradients are computed all the same: processes that train together wait for those of all.
            for group in self._optimizer.param_groups[1::2]:
                for parameter in group["params"]:
                    parameter.grad = None
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self._recipe.clip_norm or math.inf)
        self._optimizer.step()
        self._schedule.step()
        self._average.update_parameters(self.network)
        return norm

    def learning_rates(self) -> dict[str, float]:
        """The current learning rates, by the names of the recipe's fields."""
        backbone, head, *_ = self._schedule.get_last_lr()
        return {"backbone_lr": float(backbone), "head_lr": float(head)}

    def state_dict(self) -> dict[str, Any]:
        """The state of network, average, optimiser and schedule."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that ``state_dict`` returned."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "network": self.network,
            "average": self._average,
            "optimizer": self._optimizer,
            "schedule": self._schedule,
        }
        return parts if self._extra is None else {**parts, "beside": self._extra}


def rates(recipe: Recipe, steps: int) -> Callable[[int], float]:
    """Factor of both learning rates at a step: a linear warm-up, then a cosine to zero or stairs.

    Args:
        recipe: Gives the schedule.
        steps: Steps of an epoch.
    """
    warmup = round(recipe.warmup_epochs * steps)
    total = recipe.epochs * steps

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if recipe.schedule == "step":
            return recipe.step_factor ** (step // (recipe.step_epochs * steps))
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))

    return factor


def _moving_average(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """An exponential moving average with a smaller decay at first: a short run must not keep its first weights."""

    def update(kept: Any, present: Any, count: Tensor | int) -> None:
        taken = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + taken) / (10 + taken)))(kept, present, count)

    return update


def _optimizer(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    """An optimiser with two groups: the trunks with what learns at their rate, and all others. Frozen ones are in none.

    Without ``decay_norms`` two more follow in the same order, of the norms and biases, which do not decay.
    """
    trunks = {name: value for trunk in network.trunks().values() for name, value in trunk.named_parameters()}
    ids = {id(parameter) for parameter in trunks.values()}
    beside = {name: value for name, value in network.named_parameters() if id(value) not in ids}
    for parameter in _parts(trunks, recipe.frozen, "frozen").values():
        parameter.requires_grad_(False)
    ids |= {id(parameter) for parameter in _parts(beside, recipe.at_backbone_lr, "at_backbone_lr").values()}
    groups: list[dict[str, Any]] = [
        {"params": [], "lr": rate, "weight_decay": decay}
        for decay in ((recipe.weight_decay,) if recipe.decay_norms else (recipe.weight_decay, 0.0))
        for rate in (recipe.backbone_lr, recipe.head_lr)
    ]
    for parameter in network.parameters():
        if parameter.requires_grad:
            undecayed = 2 if parameter.ndim < 2 and not recipe.decay_norms else 0
            groups[undecayed + (id(parameter) not in ids)]["params"].append(parameter)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups)


def _parts(parameters: Mapping[str, nn.Parameter], names: Sequence[str], field: str) -> dict[str, nn.Parameter]:
    """The parameters of the parts of some names: ``blocks.1`` is not ``blocks.10``.

    Raises:
        ValueError: There is no part of a name.
    """
    found: dict[str, nn.Parameter] = {}
    for part in names:
        own = {name: value for name, value in parameters.items() if f"{name}.".startswith(f"{part}.")}
        if not own:
            first = next(iter(parameters), "none")
            raise ValueError(f"{field}: no parameter belongs to a part {part!r}; one is {first!r}")
        found |= own
    return found
