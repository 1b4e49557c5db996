"""The training loss of one batch."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from model.contract import Contract
from model.inference.engine import mean_std, network_inputs
from model.networks.network import Prediction
from model.networks.registry import Network
from training import losses
from training.crops import Batch
from training.distillation import Distiller
from training.distributed import Team
from training.recipe import Recipe


class Objective:
    """The loss that a recipe minimises.

    It is the sum of the loss against the labels, over the whole team's batch, and of what concerns only this process's
    part of it: losses of degraded crops and blanks, the distance from the teacher, the network's auxiliary losses.

    Args:
        recipe: Gives the losses and their weights.
        contract: Gives the normalisation, and the line between network outputs and labels.
        team: The processes that train together.
        distiller: Compares with a teacher; None without one.
    """

    def __init__(
        self,
        recipe: Recipe,
        contract: Contract,
        team: Team,
        distiller: Distiller | None,
    ) -> None:
        self._recipe, self._contract, self._team, self._distiller = recipe, contract, team, distiller
        self._labels_loss = losses.make(
            recipe.loss, ranking_weight=recipe.ranking_weight, ranking_margin=recipe.ranking_margin
        )
        self._mean_std = mean_std(contract, str(team.device))
        # In units of the network's output.
        self._lowest_label = (contract.scale.min - contract.intercept) / contract.slope
        self._label_range = (contract.scale.max - contract.scale.min) / contract.slope

    def __call__(self, model: Network | DistributedDataParallel, batch: Batch) -> Tensor:
        """Run the network on this process's part of a batch, and compute its loss.

        Args:
            model: The network, plain or wrapped for several processes.
            batch: Labelled items, degraded ones and blanks.

        Returns:
            The loss as a scalar. Its gradient must be multiplied by the team's size, see ``Team.gather``.
        """
        device = self._team.device
        bf16 = torch.autocast(device.type, torch.bfloat16, enabled=self._recipe.precision == "bf16")
        recording: AbstractContextManager[list[list[Tensor]]] = (
            nullcontext([]) if self._distiller is None else self._distiller.record_maps()
        )
        items = [group.to(device, non_blocking=True) for group in batch.items]
        with recording as maps, bf16:
            predictions: list[Prediction] = [model(network_inputs(group, self._mean_std)) for group in items]
        outputs_M = torch.cat([prediction.score for prediction in predictions])[batch.order.to(device)]
        labels_PN = self._output(batch.labels.to(device, non_blocking=True))
        scores, degraded, blanks = outputs_M.split(batch.parts)
        compared = scores
        if self._recipe.loss == "bins":
            logits = [prediction.logits for prediction in predictions if prediction.logits is not None]
            compared = torch.cat(logits)[batch.order.to(device)][: len(scores)]
        loss = self._labels_loss(self._team.gather(compared), self._team.gather(labels_PN.flatten()))

        own = self._unlabelled(batch, scores.view_as(labels_PN), degraded, blanks)
        if self._distiller is not None:
            for group, prediction, own_maps in zip(items, predictions, maps, strict=True):
                share = len(group) / len(outputs_M)
                own = own + self._recipe.distil_weight * share * self._distiller(group, prediction.score, own_maps)
        network: Network = model.module if isinstance(model, DistributedDataParallel) else model
        own = own + sum(network.auxiliary.values())
        # Each process adds only its part of the batch to these, so the team's mean counts them once.
        return loss + own / self._team.size

    def _output(self, labels: Tensor) -> Tensor:
        """What the network must answer for labels."""
        return (labels - self._contract.intercept) / self._contract.slope

    def _unlabelled(self, batch: Batch, scores_PN: Tensor, degraded: Tensor, blanks: Tensor) -> Tensor:
        """Loss of the degraded crops, each after the crop that it was made from, and of the blanks."""
        originals_D1 = scores_PN[batch.origins, :1]
        ladders_DL = torch.cat([originals_D1, degraded.unflatten(0, (-1, 2))], dim=1)
        drops_DL = (self._recipe.degraded_margin * self._label_range * batch.steps).to(scores_PN.device)
        return losses.unlabelled(
            ladders_DL, blanks, drops_DL, lowest=self._lowest_label, weight=self._recipe.degraded_weight
        )
