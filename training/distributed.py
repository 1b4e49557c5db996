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

TIMEOUT = timedelta(hours=4)
"""Longest wait of the other processes while the first one validates."""


@dataclass(frozen=True)
class Team:
    """The processes of a run.

    Attributes:
        rank: Number of this process.
        size: Number of processes.
        device: The device of this process.
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
            ValueError: The size is not a multiple of the number of processes.
        """
        if size % self.size:
            raise ValueError(f"batches of {size} pictures cannot be shared evenly by {self.size} processes")

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part of a batch; of an uneven last batch up to ``size - 1`` items are left out."""
        return list(items[self.rank : len(items) - len(items) % self.size : self.size])

    def gather(self, values: Tensor) -> Tensor:
        """Put together the processes' parts of a batch; gradients flow to this process's part alone.

        A loss of the whole batch must be multiplied by ``size`` before its gradient is computed: the mean over the team
        is then the gradient of the whole batch.
        """
        if self.size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values.detach())
        parts[self.rank] = values
        return torch.cat(parts)

    def agree(self, decision: bool) -> bool:
        """The decision of the first process; all processes wait for it."""
        if self.size == 1:
            return decision
        decided = torch.tensor(int(decision), device=self.device)
        dist.broadcast(decided, src=0)
        return bool(decided.item())

    def broadcast(self, value: T | None) -> T | None:
        """The value of the first process. Shared storage may show other machines older files for a while."""
        if self.size == 1:
            return value
        values = [value if self.leads else None]
        dist.broadcast_object_list(values, src=0, device=self.device)
        return values[0]


@contextmanager
def join() -> Iterator[Team]:
    """Join the processes that ``torchrun`` or Ray Train started, or make a team of one.

    Raises:
        ValueError: There are more processes than GPUs.
    """
    if dist.is_initialized():
        # Ray Train made the group and chose the device; it also ends the group.
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
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield Team(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()
