"""Several processes that train one network, started by ``torchrun`` or Ray Train; one process is a team too."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

PATIENCE = timedelta(hours=4)
"""The others wait so long while the first process validates."""


@dataclass(frozen=True)
class Team:
    """The processes of a run.

    Attributes:
        rank: Number of this process.
        size: How many there are.
        device: Where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process validates and writes."""
        return self.rank == 0

    def check_batch(self, size: int) -> None:
        """Make sure that batches can be shared evenly.

        Raises:
            ValueError: They cannot.
        """
        if size % self.size:
            raise ValueError(f"batches of {size} pictures cannot be shared evenly by {self.size} processes")

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part of a batch; of a last, uneven one up to ``size - 1`` items are left out."""
        return list(items[self.rank : len(items) - len(items) % self.size : self.size])

    def gather(self, values: Tensor) -> Tensor:
        """Put the parts of a batch together, so that a loss sees all of it; gradients flow to this process's part.

        The loss that is then computed must be multiplied by ``size`` for its gradient: averaged over the team it is
        that of the whole batch.
        """
        if self.size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values.detach())
        parts[self.rank] = values
        return torch.cat(parts)

    def agree(self, decision: bool) -> bool:
        """What the first process decided; all come together here."""
        if self.size == 1:
            return decision
        said = torch.tensor(int(decision), device=self.device)
        dist.broadcast(said, src=0)
        return bool(said.item())

    def hand_out(self, value: T | None) -> T | None:
        """What the first process has: storage that several machines share may show them different files for a while."""
        if self.size == 1:
            return value
        handed = [value if self.leads else None]
        dist.broadcast_object_list(handed, src=0, device=self.device)
        return handed[0]


@contextmanager
def join() -> Iterator[Team]:
    """Be one of the processes that ``torchrun`` or Ray Train started, or a team of one.

    Raises:
        ValueError: There are more processes than GPUs.
    """
    if dist.is_initialized():
        # Ray Train has made the group and chosen the device, and ends the group itself.
        on_gpu = dist.get_backend() == "nccl"
        yield Team(
            dist.get_rank(),
            dist.get_world_size(),
            torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu"),
        )
        return
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if torch.cuda.is_available():
        place = int(os.environ.get("LOCAL_RANK", "0"))
        if place >= torch.cuda.device_count():
            raise ValueError(f"process {place} has no GPU: there are {torch.cuda.device_count()}")
        device = torch.device("cuda", place)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    if size == 1:
        yield Team(0, 1, device)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Team(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()
