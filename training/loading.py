"""Pictures made ready in other processes: whoever waits for them learns of it when they do not come."""

import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

from training.errors import TrainingError

T = TypeVar("T")

SECONDS = 600.0
"""Longest wait for a batch; one of large pictures takes a slow core a minute or two."""
HELP = "take fewer with --decoders, or 0 to decode without them"


class _ByPipe:
    """A batch that reaches the process that trains through a pipe, as bytes.

    Its tensors would come through /dev/shm, which has 64 MB in a container by default, and a batch that finds no room
    there is lost without an error.
    """

    def __init__(self, batch: object) -> None:
        self._batch = batch

    def __reduce__(self) -> tuple[Callable[[bytes], object], tuple[bytes]]:
        return pickle.loads, (pickle.dumps(self._batch, protocol=pickle.HIGHEST_PROTOCOL),)


def batches(
    dataset: Dataset[Any],
    collate: Callable[[list[Any]], T],
    *,
    decoders: int,
    batch_size: int = 1,
    batch_sampler: Sequence[Sequence[Any]] | None = None,
    pin_memory: bool = False,
) -> Iterator[T]:
    """Make batches in other processes, which start at once; to be read within ``watched``.

    Args:
        dataset: The pictures.
        collate: Makes a batch of what the data set gives.
        decoders: The number of processes; 0 makes the batches in this one.
        batch_size: Size of the batches, which take the pictures in order.
        batch_sampler: What each batch is made of, instead.
        pin_memory: Whether their tensors are put where a GPU can copy them from.

    Returns:
        The batches, in order.

    Raises:
        TrainingError: The processes cannot be started.
    """
    order: dict[str, Any] = {"batch_size": batch_size} if batch_sampler is None else {"batch_sampler": batch_sampler}
    loader: DataLoader[T] = DataLoader(
        dataset,
        num_workers=decoders,
        collate_fn=partial(_collate_by_pipe, collate) if decoders else collate,
        pin_memory=pin_memory,
        timeout=SECONDS if decoders else 0,
        worker_init_fn=_leave_interrupts,
        **order,
    )
    try:
        return iter(loader)
    except OSError as error:
        raise TrainingError(f"processes that decode pictures cannot be started ({error.strerror}); {HELP}") from error


def _leave_interrupts(_: int) -> None:
    # Ctrl-C reaches all processes of a terminal; the one that trains ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _collate_by_pipe(collate: Callable[[list[Any]], object], pictures: list[Any]) -> _ByPipe:
    return _ByPipe(collate(pictures))


@contextmanager
def watched() -> Iterator[None]:
    """Say in one sentence why batches do not come. The death of a process is noticed wherever this one is.

    Raises:
        TrainingError: A process died, a batch did not come within ``SECONDS``, or a picture cannot be made ready.
    """
    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:
        lines = str(error).strip().splitlines()
        if not lines or "DataLoader" not in lines[0]:
            raise
        if lines[0].startswith("Caught"):
            # The last line of a traceback from the process.
            raise TrainingError(f"a picture cannot be made ready: {lines[-1]}") from error
        if "timed out" in lines[0]:
            reason = f"no batch of pictures came within {SECONDS:g} s, since a picture, its disk or a process is stuck"
        else:
            reason = f"a process that decodes pictures died, perhaps for want of memory ({lines[0].rstrip('. ')})"
        raise TrainingError(f"{reason}; {HELP}. What was saved before is untouched") from error
