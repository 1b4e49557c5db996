"""Training in the worker processes of a Ray cluster: the same loop and recipes, needs the extra ``ray``.

    smart-iqa train smart-base-koniq --root /data/KonIQ --out /runs/base --ray --workers 4

Ray Train starts a process for each worker, makes them one process group, and starts all of them again when it loses
one. They resume from the run folder, so it and the data must be on storage that all nodes see under the same path.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray import train as ray_train
from ray.exceptions import RayError
from ray.train.torch import TorchConfig, TorchTrainer
from rich.console import Console

from model import files
from training import initial_weights, trainer
from training.distributed import TIMEOUT
from training.errors import TrainingError
from training.recipe import Recipe

MAX_RESTARTS = 10
"""How often Ray starts the workers again after losing one. Nodes that leave with notice do not count."""
RAY_FOLDER = "ray"
"""Folder in the run folder for the files of Ray Train."""
FATAL = (ValueError, OSError, ModuleNotFoundError, TrainingError)
"""Errors that a restart would repeat: wrong usage, data, disks, a loss that is not a number."""
MAX_DECODERS = 8
UNITS = {"GPU": "GPUs", "CPU": "cores"}
STORE_BYTES = 80 * 2**20
"""Size of Ray's object store, nearly its minimum: gradients go through ``torch.distributed``."""


def train(
    recipe: Recipe, root: Path, out: Path, *, workers: int = 1, decoders: int | None = None, **options: Any
) -> Path:
    """Train in several processes of a cluster, or go on where an interrupted run of the same recipe stopped.

    Takes part in the cluster that ``RAY_ADDRESS`` names, or starts one on this machine. Each worker has a core, one
    more for each of its decoders, and a GPU where there are any.

    Args:
        recipe: What to train, and how.
        root: The data set, where every node sees it.
        out: The run folder, where every node sees it.
        workers: Processes that train together.
        decoders: Processes that decode, for each worker; on GPUs by default as many as there are cores to spare.
        **options: As for ``trainer.train``.

    Returns:
        The folder of the finished checkpoint.

    Raises:
        DatasetError, ValueError: As for ``trainer.train``, or this machine has too few cores or GPUs.
        TrainingError: As for ``trainer.train``, or too many workers were lost.
    """
    # Workers have other working directories.
    paths = {name: _absolute(value) for name, value in options.items()}
    with _cluster() as own:
        resources = _resources(decoders)
        if own:
            _check_room(resources, workers)
        each = " and ".join(f"{count:g} {words}" for name, words in UNITS.items() if (count := resources.get(name)))
        _console().print(f"training on {workers} workers with {each} each", markup=False)
        out, decoders = out.absolute(), int(resources["CPU"]) - 1
        loop = partial(trainer.train, recipe, root.absolute(), out, decoders=decoders, locks=False, **paths)
        # Here, not in the workers: those that take the place of lost ones may come before their locks are free.
        with files.locked(out, out / files.LOCK):
            return _fit(loop, out, resources, workers)


def _fit(loop: Callable[[], Path], out: Path, resources: Mapping[str, float], workers: int) -> Path:
    on_gpus = "GPU" in resources
    fitting = TorchTrainer(
        partial(_work, loop, threads=None if on_gpus else 1),
        torch_config=TorchConfig(timeout_s=int(TIMEOUT.total_seconds())),
        scaling_config=ray_train.ScalingConfig(
            num_workers=workers, use_gpu=on_gpus, resources_per_worker=dict(resources)
        ),
        run_config=ray_train.RunConfig(
            name=RAY_FOLDER,
            storage_path=str(out),
            failure_config=ray_train.FailureConfig(max_failures=MAX_RESTARTS),
            callbacks=[_StopOnFatalError()],
            # On the screen, where one error would show several tracebacks; Ray's files have everything.
            logging_config=ray_train.LoggingConfig(log_level="CRITICAL"),
        ),
    )
    try:
        return Path(fitting.fit().return_value)
    except ray_train.ControllerError as error:
        if isinstance(error.controller_failure, FATAL):
            raise error.controller_failure from None
        raise
    except (ray_train.WorkerGroupError, RayError) as error:
        lost = (
            f"workers were lost more than {MAX_RESTARTS} times"
            if isinstance(error, ray_train.WorkerGroupError)
            else (f"Ray lost what keeps the workers together ({_first_line(error)})")
        )
        raise TrainingError(
            f"{lost}; the state that was saved last is untouched, and the same command goes on from it"
        ) from error


def _work(loop: Callable[[], Path], threads: int | None) -> str:
    """Train in a worker."""
    if threads is not None:
        torch.set_num_threads(threads)
    return str(loop())


class _StopOnFatalError(ray_train.UserCallback):  # type: ignore[misc]
    """Ends the run where a restart would fail the same way: Ray does not retry what a callback raises."""

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:  # noqa: ARG002
        errors = {rank: getattr(wrapped, "_base_exc", wrapped) for rank, wrapped in worker_exceptions.items()}
        for error in errors.values():
            if isinstance(error, FATAL):
                raise error
        for rank, error in errors.items():
            _console().print(f"worker {rank} was lost: {_first_line(error)}", markup=False, soft_wrap=True)


@contextmanager
def _cluster() -> Iterator[bool]:
    """Connect to a cluster; yields whether it was started here, on this machine alone."""
    if ray.is_initialized():
        yield False
        return
    address = os.environ.get("RAY_ADDRESS")
    if address:
        # Ray's helpers read it from their environment; without it they ask any cluster that they find on their machine.
        ray.init(address, runtime_env={"env_vars": {"RAY_ADDRESS": address}})
    else:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init("local", object_store_memory=STORE_BYTES, include_dashboard=False)
    try:
        yield not address
    finally:
        ray.shutdown()


def _resources(decoders: int | None) -> dict[str, float]:
    """The resources of each worker."""
    with_gpus = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= 1]
    if not with_gpus:
        return {"CPU": 1 + (decoders or 0)}
    if decoders is None:
        spare = min(int(node.get("CPU", 1) // node["GPU"]) for node in with_gpus) - 1
        decoders = min(max(spare, 0), MAX_DECODERS)
    return {"CPU": 1 + decoders, "GPU": 1}


def _check_room(resources: Mapping[str, float], workers: int) -> None:
    """Refuse more workers than this machine has room for: Ray would wait for other nodes for ever.

    Raises:
        ValueError: There are too few cores or GPUs.
    """
    there = ray.cluster_resources()
    for name, words in UNITS.items():
        needed = workers * resources.get(name, 0)
        if needed > there.get(name, 0):
            raise ValueError(f"{workers} workers need {needed:g} {words}; this machine has {there.get(name, 0):g}")


def _console() -> Console:
    return Console(stderr=True)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _absolute(value: Any) -> Any:
    return value.absolute() if isinstance(value, Path) and value != initial_weights.RANDOM else value
