"""Loads checkpoints while the current models serve."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from app.batching.errors import DeviceLost
from app.batching.workers import WorkerThreads
from app.models.loading import LoadedModel
from app.settings import Settings
from model import checkpoint

Load = Callable[[Settings], Mapping[str, LoadedModel]]
T = TypeVar("T")

POLL_SECONDS = 1.0


class FolderNotAllowed(Exception):
    """A requested folder may not be loaded.

    Attributes:
        place: Its index in the request, from 0.
    """

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place


def check_allowed(folders: Sequence[Path], configured: Sequence[Path]) -> None:
    """Check that these folders may be loaded: configured ones, and those below the parents of configured ones.

    Raises:
        FolderNotAllowed: One of them may not.
    """
    known = {folder.resolve() for folder in configured}
    # Without the file system's root: a checkpoint directly below it must not allow every folder.
    parents = {folder.parent for folder in known if folder.parent != folder.parent.parent}
    for place, folder in enumerate(folders):
        try:
            real = folder.resolve()
        except (OSError, RuntimeError, ValueError):
            # A loop of symbolic links, or an impossible file name.
            real = Path("/")
        if real not in known and parents.isdisjoint(real.parents):
            raise FolderNotAllowed(place)


async def load_again(
    load: Load,
    settings: Settings,
    folders: Sequence[Path],
    current: Mapping[str, LoadedModel],
    workers: WorkerThreads,
) -> Mapping[str, LoadedModel]:
    """Load, warm up and check checkpoints on a worker thread, one at a time; batches run in between.

    Before that, another thread reads and hashes the files: damaged ones take no device time, and a model that is
    loaded already is kept as it is.

    Args:
        load: Loads the checkpoints of the settings that it is given.
        settings: How the service runs.
        folders: The checkpoints; the first one is the default model.
        current: The loaded models.
        workers: The worker threads; the one that is free first loads.

    Raises:
        CheckpointError: A folder is not a usable checkpoint.
        GoldenMismatch: A model does not give its golden scores on this machine.
        ValueError: Two checkpoints share a name.
        DeviceLost: A worker thread has ended.
    """
    loaded = {model.digest: model for model in current.values()}
    models: dict[str, LoadedModel] = {}
    for folder in folders:
        _, digest = await asyncio.to_thread(checkpoint.inspect, folder)
        model = loaded.get(digest)
        if model is None:
            alone = settings.model_copy(update={"checkpoints": (folder,)})
            (model,) = (await _run_on(workers, partial(load, alone))).values()
        if model.config.name in models:
            raise ValueError(f"two checkpoints are called {model.config.name!r}")
        models[model.config.name] = model
    return models


async def _run_on(workers: WorkerThreads, work: Callable[[], T]) -> T:
    future = asyncio.wrap_future(workers.run(lambda _: work()))
    while not future.done():
        if not workers.alive:
            raise DeviceLost
        await asyncio.wait({future}, timeout=POLL_SECONDS)
    return future.result()
