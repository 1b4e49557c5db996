"""Learning from another checkpoint: its scores and its feature maps, on pictures and their degradations.

Where no ImageNet weights of a backbone are to be had, a trained network of another kind can stand in for them. Each
stage of the student, seen through a linear map of its own, shall point where the teacher's stage points.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.checkpoint import Checkpoint
from model.contract import Contract
from model.inference.engine import mean_std, network_inputs
from model.networks.backbone import Backbone
from model.networks.hyper import pool_to_grid
from model.networks.network import Network


class Distiller(nn.Module):
    """What a student network shall learn from a teacher.

    Its own parameters are the maps from the student's stages to the teacher's (1x1 convolutions).

    Args:
        teacher: A checkpoint of a network with stages.
        student: The network that learns, likewise.
        contract: How the student looks at pictures.
        device: Where both compute.

    Raises:
        ValueError: One of them has no stages, or the teacher cannot look at what the student sees.
    """

    def __init__(self, teacher: Checkpoint, student: Network, contract: Contract, device: torch.device) -> None:
        super().__init__()
        of_teacher, of_student = _backbone(teacher.network), _backbone(student)
        if of_teacher.fixed_size and teacher.contract.crop_size != contract.crop_size:
            raise ValueError(f"{teacher.folder} sees crops of {teacher.contract.crop_size} pixels, and no others")
        network = teacher.network.to(device).to(memory_format=torch.channels_last).requires_grad_(False)
        # In tuples, which are no parts of a module: only the maps are saved with the state of a run.
        self._teacher, self._of_student = (network, of_teacher), (of_student,)
        self._contracts = (teacher.contract, contract)
        self._statistics = mean_std(teacher.contract, str(device))
        pairs = zip(of_student.channels, of_teacher.channels, strict=True)
        self.maps = nn.ModuleList(nn.Conv2d(ours, theirs, 1) for ours, theirs in pairs).to(device)

    @contextmanager
    def watching(self) -> Iterator[list[list[Tensor]]]:
        """Collect the feature maps of the student's forward passes within."""
        with _watching(*self._of_student) as seen:
            yield seen

    def forward(self, items: Tensor, outputs_N: Tensor, maps: list[Tensor]) -> Tensor:
        """Say how far the student is from the teacher.

        Args:
            items: What both see, as the contract cuts it.
            outputs_N: The student's outputs.
            maps: Its four feature maps (N, C_i, H_i, W_i).

        Returns:
            The mean of 1 - cosine over stages and places of a 7x7 grid, plus the mean difference of the scores as a
            share of the range of labels.
        """
        theirs, ours = self._contracts
        teacher, backbone = self._teacher
        with torch.no_grad(), _watching(backbone) as seen:
            answered_N = teacher(network_inputs(items, self._statistics)).score
        raw_N = theirs.slope * answered_N + theirs.intercept
        wanted_N = (raw_N - theirs.scale.min) / (theirs.scale.max - theirs.scale.min)
        told_N = (ours.slope * outputs_N + ours.intercept - ours.scale.min) / (ours.scale.max - ours.scale.min)
        distances = [
            1 - F.cosine_similarity(map_(pool_to_grid(own.float())), pool_to_grid(other.float()), dim=1).mean()
            for map_, own, other in zip(self.maps, maps, seen[0], strict=True)
        ]
        return torch.stack(distances).mean() + F.l1_loss(told_N, wanted_N)


def _backbone(network: Network) -> Backbone:
    backbone = getattr(network, "backbone", None)
    if not isinstance(backbone, Backbone):
        raise ValueError(f"a {type(network).__name__} has no stages to learn from, or by")
    return backbone


@contextmanager
def _watching(backbone: Backbone) -> Iterator[list[list[Tensor]]]:
    seen: list[list[Tensor]] = []
    handle = backbone.register_forward_hook(lambda _module, _inputs, maps: seen.append(maps))
    try:
        yield seen
    finally:
        handle.remove()
