"""Units scored by a Ray cluster: which node does what, and what is done when one is lost, is Ray Data's affair."""

import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.bulk import ray_workers
from cli.bulk.collect import Collector
from cli.bulk.job import Job
from cli.bulk.local import settings
from cli.bulk.ray_workers import Piece

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.crop_rounds import Crops
    from model.options import DeviceName, Precision

LEAST_PICTURES = 16
"""Pictures of a piece at least ..."""
MOST_PIECES = 2_000
"""... and pieces of a job about: more would not be spread better, and the driver makes each one a block."""
ROW_BYTES = 2**16
"""Blocks of rows are closed from here on, so that what was scored is soon written."""


class Cluster:
    """Scores units on the cluster that this process is connected to.

    Args:
        checkpoint: What scores their pictures.
        crops: As for ``Scorer.score``.
        precision: Of the engines.
        engines: How many there are; None for as many as there is room for.
        gpus: Of each.
        apart: Whether decoding has processes of its own; None if engines have GPUs.
    """

    def __init__(
        self,
        checkpoint: "Checkpoint",
        crops: "Crops | None",
        *,
        precision: "Precision" = "auto",
        engines: int | None = None,
        gpus: float = 0,
        apart: bool | None = None,
    ) -> None:
        import ray

        self._checkpoint = checkpoint
        # Kept for as long as this: engines that are made anew ask for it again.
        self._made = ray.put(checkpoint)
        self._crops = crops or checkpoint.contract.crops
        self._device: DeviceName = "cuda" if gpus else "cpu"
        self._apart = bool(gpus) if apart is None else apart
        # Beside a GPU, and where decoding is apart, an engine takes no core: decoders get them all.
        self._resources = {"num_cpus": 0 if self._apart else 1, "num_gpus": gpus}
        there = ray.cluster_resources()
        room = there.get("GPU", 0) / gpus if gpus else there.get("CPU", 0)
        if engines is None and room < 1:
            kind = f"{gpus:g} GPUs" if gpus else "a core"
            raise ValueError(f"no node has {kind} for an engine; --engines says how many to wait for")
        self._engines = engines or int(room)
        # auto depends on the machine, and shall be the same for all: one of those that will compute decides.
        asked = ray.remote(_precision).options(**self._resources).remote(precision, self._device, checkpoint.network)
        self._precision: Precision = ray.get(asked)
        from model.score import ModelId

        model = ModelId(name=checkpoint.config.name, digest=checkpoint.digest)
        self.settings = settings(model, checkpoint.contract, self._crops, self._device, self._precision)

    def tables(
        self, job: Job, missing: Iterable[int], advance: Callable[[int, int], None]
    ) -> Generator[tuple[int, Any], None, None]:
        """As ``Scoring``. Only names, if that, and rows of scores pass this process."""
        collector = Collector(job.units, advance)
        for batch in self._dataset(job, missing).iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from collector.add(batch)
        collector.check()

    def _dataset(self, job: Job, missing: Iterable[int]) -> Any:
        import ray
        from ray.data import ActorPoolStrategy

        found = [vars(piece) for piece in divided(job, missing)]
        dataset = ray.data.from_items(found, override_num_blocks=min(len(found), 4 * MOST_PIECES))
        context = dataset.context
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.target_max_block_size = ray_workers.BLOCK_BYTES if self._apart else ROW_BYTES
        made = (self._made,)
        how = (self._crops, self._device, self._precision)
        engines = {
            "compute": ActorPoolStrategy(size=min(self._engines, len(found))),
            "batch_size": None,
            "batch_format": "pyarrow",
            **self._resources,
        }
        if not self._apart:
            return dataset.map_batches(ray_workers.DecodeAndScore, fn_constructor_args=(*made, job, *how), **engines)
        decoded = dataset.map_batches(
            ray_workers.decode,
            fn_args=(job, self._checkpoint.contract, self._crops),
            batch_size=None,
            batch_format="pyarrow",
        )
        return decoded.map_batches(ray_workers.ScoreDecoded, fn_constructor_args=(*made, *how), **engines)


def divided(job: Job, missing: Iterable[int]) -> Iterator[Piece]:
    """Divide units, so that all engines have something to do to the end."""
    wanted = iter(missing)
    size = max(LEAST_PICTURES, -(-job.pictures // MOST_PIECES))
    number = next(wanted, None)
    for unit, count in job.counts():
        if unit != number:
            continue
        number = next(wanted, None)
        if count is None:
            yield Piece(unit=unit, first=0, last=None)
            continue
        for first in range(0, count, size):
            yield Piece(unit=unit, first=first, last=min(first + size, count))


@contextmanager
def pool(
    folder: Path,
    crops: "Crops | None",
    *,
    device: "DeviceName",
    precision: "Precision",
    address: str | None,
    engines: int | None,
    gpus: float | None,
) -> Iterator[Cluster]:
    """Load a checkpoint, and connect to a cluster or start one.

    Raises:
        ModuleNotFoundError: The extra ``ray`` is not installed.
        ValueError: The cluster is not there, or has not what was asked for.
    """
    import ray
    import ray.data

    from model import checkpoint as checkpoints

    if gpus is not None and (device, bool(gpus)) in (("cpu", True), ("cuda", False)):
        raise ValueError(f"--device {device} and --gpus {gpus:g} contradict each other")
    loaded = checkpoints.load(folder)
    _connect(address)
    try:
        if gpus is None:
            gpus = 0 if device == "cpu" else float(device == "cuda" or ray.cluster_resources().get("GPU", 0) >= 1)
        yield Cluster(loaded, crops, precision=precision, engines=engines, gpus=gpus)
    finally:
        ray.shutdown()


def _connect(address: str | None) -> None:
    import ray

    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise ValueError(f"{address}: ask from a node of the cluster, or send this command as a job of Ray")
    # What Ray has to tell of itself would bury the progress; errors reach the user as exceptions.
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    options: dict[str, Any] = {}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options = {"num_cpus": len(os.sched_getaffinity(0)), "include_dashboard": False}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except ConnectionError as error:
        raise ValueError(f"{address}: no cluster answers there") from error


def _precision(precision: "Precision", device: str, network: Any) -> str:
    from model.inference.engine import resolve_precision

    return resolve_precision(precision, device, network)
