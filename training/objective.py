"""The training loss of one batch."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

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
        sources: The sources of the training pictures, in the order of ``Batch.kinds``.

    Raises:
        ValueError: The recipe names a source that there is not.
    """

    def __init__(
        self,
        recipe: Recipe,
        contract: Contract,
        team: Team,
        distiller: Distiller | None,
        sources: Sequence[str] = ("",),
    ) -> None:
        self._recipe, self._contract, self._team, self._distiller = recipe, contract, team, distiller
        self._labels_loss = losses.make(
            recipe.loss, ranking_weight=recipe.ranking_weight, ranking_margin=recipe.ranking_margin
        )
        self._mean_std = mean_std(contract, str(team.device))
        if absent := {*recipe.unscored} - {*sources}:
            raise ValueError(f"unscored: no picture is from {min(absent)!r}; there are {', '.join(sources)}")
        kinds = {source: kind for kind, source in enumerate(sources)}
        self._unscored = torch.tensor([kinds[source] for source in recipe.unscored], dtype=torch.int64)
        # In units of the network's output.
        self._lowest_label = (contract.scale.min - contract.intercept) / contract.slope
        self._label_range = (contract.scale.max - contract.scale.min) / contract.slope

    def __call__(self, model: Network | DistributedDataParallel, batch: Batch) -> Tensor:
        """Run the network on this process's part of a batch, and compute its loss.

        Args:
            model: The network, plain or wrapped for several processes.
            batch: Labelled items, degraded ones, close looks and blanks.

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
        rows = _merged(predictions, batch.order.to(device))
        labels_PN = self._output(batch.labels.to(device, non_blocking=True))
        scores, degraded, close, blanks = rows.score.split(batch.parts)
        taught_P = ~torch.isin(batch.kinds, self._unscored).to(device)
        taught_N = torch.where(taught_P[:, None], labels_PN, torch.nan).flatten()
        loss = self._of_known(self._team.gather(scores), self._team.gather(taught_N))

        own = self._unlabelled(batch, scores.view_as(labels_PN), degraded, blanks)
        own = own + self._recipe.close_weight * losses.known_l1(close, self._output(batch.close_labels.to(device)))
        if rows.defects is not None:
            severities = batch.severities.to(device, non_blocking=True)
            own = own + self._recipe.defects_weight * losses.defects(rows.defects.float(), severities)
        if rows.interval is not None:
            kinds_P = batch.kinds.to(device).repeat_interleave(labels_PN.shape[1])
            columns = rows.interval[: len(scores)].float()
            own = own + losses.interval(columns, scores.detach().float(), labels_PN.flatten(), kinds_P)
        if self._distiller is not None:
            for group, prediction, own_maps in zip(items, predictions, maps, strict=True):
                share = len(group) / len(rows.score)
                own = own + self._recipe.distil_weight * share * self._distiller(group, prediction.score, own_maps)
        network: Network = model.module if isinstance(model, DistributedDataParallel) else model
        own = own + sum(network.auxiliary.values())
        # Each process adds only its part of the batch to these, so the team's mean counts them once.
        return loss + own / self._team.size

    def _of_known(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The loss against labels, without those that are NaN."""
        known = ~labels.isnan()
        return self._labels_loss(scores[known], labels[known]) if known.any() else 0 * scores.sum()

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


def _merged(predictions: list[Prediction], order: Tensor) -> Prediction:
    """One prediction of several, with its items in another order."""
    columns: list[Any] = [
        None if parts[0] is None else torch.cat(parts)[order] for parts in zip(*predictions, strict=True)
    ]
    return Prediction(*columns)
