"""Distillation: a network learns the scores and feature maps of another checkpoint.

It takes the place of ImageNet weights where a backbone's are not available. The loss of a stage is 1 - cosine between
the teacher's feature maps and the student's, after a learned 1x1 convolution to the teacher's channels.
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
from model.networks.network import LEVELS, Network


class Distiller(nn.Module):
    """The loss of a student network against a teacher.

    Its own parameters are the 1x1 convolutions from the student's stages to the teacher's.

    Args:
        teacher: A checkpoint of a network with stages.
        student: The network that learns; it has stages too.
        contract: The student's contract.
        device: Where both compute.

    Raises:
        ValueError: One of them has no stages, or the teacher cannot take crops of the student's size.
    """

    def __init__(self, teacher: Checkpoint, student: Network, contract: Contract, device: torch.device) -> None:
        super().__init__()
        of_teacher, of_student = _backbone(teacher.network), _backbone(student)
        if of_teacher.fixed_size and teacher.contract.crop_size != contract.crop_size:
            raise ValueError(f"{teacher.folder} sees crops of {teacher.contract.crop_size} pixels, and no others")
        network = teacher.network.to(device).to(memory_format=torch.channels_last).requires_grad_(False)
        # Modules in tuples are not submodules: only the convolutions are saved with the state of a run.
        self._teacher, self._of_student = (network, of_teacher), (of_student,)
        self._contracts = (teacher.contract, contract)
        self._statistics = mean_std(teacher.contract, str(device))
        pairs = zip(of_student.channels, of_teacher.channels, strict=True)
        self.maps = nn.ModuleList(nn.Conv2d(ours, theirs, 1) for ours, theirs in pairs).to(device)

    @contextmanager
    def record_maps(self) -> Iterator[list[list[Tensor]]]:
        """Record the student's feature maps: a list of four for each forward pass within."""
        with _record_maps(*self._of_student) as recorded:
            yield recorded

    def forward(self, items: Tensor, outputs_N: Tensor, maps: list[Tensor]) -> Tensor:
        """Compute the loss.

        Args:
            items: Work items of the student's contract (N, ...), which both networks see.
            outputs_N: The student's outputs for them.
            maps: Its four feature maps for them (N, C_i, H_i, W_i).

        Returns:
            The mean of 1 - cosine over stages and cells of a 7x7 grid, plus the mean absolute difference of the scores
            as a share of the range of labels.
        """
        of_teacher, of_student = self._contracts
        teacher, backbone = self._teacher
        with torch.no_grad(), _record_maps(backbone) as recorded:
            teacher_N = _share_of_range(teacher(network_inputs(items, self._statistics)).score, of_teacher)
        student_N = _share_of_range(outputs_N, of_student)
        distances = [
            1 - F.cosine_similarity(map_(pool_to_grid(own.float())), pool_to_grid(other.float()), dim=1).mean()
            for map_, own, other in zip(self.maps, maps, recorded[0], strict=True)
        ]
        return torch.stack(distances).mean() + F.l1_loss(student_N, teacher_N)


def _share_of_range(outputs_N: Tensor, contract: Contract) -> Tensor:
    """Outputs of a network as shares of its range of labels, 0 for the worst and 1 for the best."""
    raw_N = contract.slope * outputs_N + contract.intercept
    return (raw_N - contract.scale.min) / (contract.scale.max - contract.scale.min)


def _backbone(network: Network) -> Backbone:
    backbone = getattr(network, "backbone", None)
    if not isinstance(backbone, Backbone):
        raise ValueError(f"a {type(network).__name__} has no stages to learn from, or by")
    return backbone


@contextmanager
def _record_maps(backbone: Backbone) -> Iterator[list[list[Tensor]]]:
    recorded: list[list[Tensor]] = []
    handle = backbone.register_forward_hook(lambda _module, _inputs, maps: recorded.append(maps[-LEVELS:]))
    try:
        yield recorded
    finally:
        handle.remove()
