"""Scoring units on a Ray cluster. Ray Data assigns the work to nodes, and repeats that of a node that is lost."""

import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.bulk import ray_workers
from cli.bulk.collect import Collector
from cli.bulk.job import Job
from cli.bulk.ray_workers import Piece
from cli.options import check_photos, check_policy
from cli.scoring.scorer import score_settings
from model.inference import processors

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.crop_rounds import Crops
    from model.options import DeviceName, Precision
    from model.policies import Policy

MIN_PIECE_PICTURES = 16
"""Fewest pictures in a piece, but for the last one of a unit."""
MAX_PIECES = 2_000
"""Most pieces of a job, about: more would not spread the work better, and the driver makes each one a block."""
ROW_BLOCK_BYTES = 2**16
"""Size at which a block of rows is closed; small, so that rows are soon written."""


class ClusterScorer:
    """Scores units on the Ray cluster that this process is connected to; a ``UnitScorer``.

    Args:
        checkpoint: What scores their pictures.
        crops: As for ``Scorer.score``.
        policy: What decides about them, if anything does.
        precision: Precision of the engines.
        engines: Number of engines; None for as many as the cluster has cores or GPUs for.
        gpus: GPUs of each engine, or a fraction of one; 0 for a core.
        separate_decoding: Whether decoding has processes of its own; None: if engines have GPUs.
        photos: Whether to keep what picking needs.

    Raises:
        ValueError: The cluster has no room for an engine.
    """

    def __init__(
        self,
        checkpoint: "Checkpoint",
        crops: "Crops | None",
        policy: "Policy | None" = None,
        *,
        precision: "Precision" = "auto",
        engines: int | None = None,
        gpus: float = 0,
        separate_decoding: bool | None = None,
        photos: bool = False,
    ) -> None:
        import ray

        from model.score import ModelId

        self._checkpoint = checkpoint
        # The reference is kept: engines that are started again after a loss need the checkpoint again.
        self._checkpoint_ref = ray.put(checkpoint)
        self._crops = crops or checkpoint.contract.crops
        self._device: DeviceName = "cuda" if gpus else "cpu"
        self._separate_decoding = bool(gpus) if separate_decoding is None else separate_decoding
        # Where decoding is separate, an engine takes no core: decoders get them all.
        self._resources = {"num_cpus": 0 if self._separate_decoding else 1, "num_gpus": gpus}
        resources = ray.cluster_resources()
        room = resources.get("GPU", 0) / gpus if gpus else resources.get("CPU", 0)
        if engines is None and room < 1:
            kind = f"{gpus:g} GPUs" if gpus else "a core"
            raise ValueError(f"no node has {kind} for an engine; --engines says how many to wait for")
        self._engines = engines or int(room)
        # What auto means depends on the machine. One of the nodes that will compute decides it for all.
        resolve = ray.remote(_precision).options(**self._resources)
        self._precision: Precision = ray.get(resolve.remote(precision, self._device, checkpoint.network))
        model = ModelId(name=checkpoint.config.name, digest=checkpoint.digest)
        self._policy, self._photos = policy, photos
        self.settings = score_settings(
            model, checkpoint.contract, self._crops, self._device, self._precision, policy, photos=photos
        )

    def tables(
        self, job: Job, missing: Iterable[int], advance: Callable[[int, int], None]
    ) -> Generator[tuple[int, Any], None, None]:
        """See ``UnitScorer.tables``. Pictures do not pass through this process, only rows of scores."""
        collector = Collector(job.units, advance)
        for batch in self._dataset(job, missing).iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from collector.add(batch)
        collector.check()

    def _dataset(self, job: Job, missing: Iterable[int]) -> Any:
        import ray
        from ray.data import ActorPoolStrategy

        pieces = [vars(piece) for piece in divided(job, missing)]
        dataset = ray.data.from_items(pieces, override_num_blocks=min(len(pieces), 4 * MAX_PIECES))
        context = dataset.context
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.target_max_block_size = ray_workers.BLOCK_BYTES if self._separate_decoding else ROW_BLOCK_BYTES
        engines = {
            "compute": ActorPoolStrategy(size=min(self._engines, len(pieces))),
            "batch_size": None,
            "batch_format": "pyarrow",
            **self._resources,
        }
        settings = (self._crops, self._device, self._precision, self._policy, self._photos)
        if not self._separate_decoding:
            return dataset.map_batches(
                ray_workers.DecodeAndScore, fn_constructor_args=(self._checkpoint_ref, job, *settings), **engines
            )
        decoded = dataset.map_batches(
            ray_workers.decode,
            fn_args=(job, self._checkpoint.contract, self._crops, self._photos),
            batch_size=None,
            batch_format="pyarrow",
        )
        return decoded.map_batches(
            ray_workers.ScoreDecoded, fn_constructor_args=(self._checkpoint_ref, *settings), **engines
        )


def divided(job: Job, missing: Iterable[int]) -> Iterator[Piece]:
    """Divide units into pieces, small enough that all engines have work until the end."""
    wanted = iter(missing)
    size = max(MIN_PIECE_PICTURES, -(-job.pictures // MAX_PIECES))
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
def open_scorer(
    folder: Path | None,
    crops: "Crops | None",
    policy: "Policy | None",
    *,
    device: "DeviceName",
    precision: "Precision",
    address: str | None,
    engines: int | None,
    gpus: float | None,
    photos: bool,
) -> Iterator[ClusterScorer]:
    """Load a checkpoint, and connect to a Ray cluster or start one.

    Args:
        folder: The checkpoint; the default model if None.
        crops: As for ``Scorer.score``.
        policy: What decides about pictures, if anything does.
        device: Where engines compute.
        precision: What they compute in.
        address: Address of the cluster's head; None for that of ``RAY_ADDRESS``, or else a cluster on this machine.
        engines: As for ``ClusterScorer``.
        gpus: As for ``ClusterScorer``; None for 1 if ``device`` allows it and the cluster has any.
        photos: Whether to keep what picking needs.

    Raises:
        CheckpointError: The folder is not a usable checkpoint.
        ModuleNotFoundError: The extra ``ray`` is not installed.
        ValueError: No cluster answers, it lacks what is needed, or options contradict each other.
    """
    import ray
    import ray.data

    from model import checkpoint as checkpoints
    from model.options import DEFAULT_CHECKPOINT

    if gpus is not None and (device, bool(gpus)) in (("cpu", True), ("cuda", False)):
        raise ValueError(f"--device {device} and --gpus {gpus:g} contradict each other")
    loaded = checkpoints.load(folder or DEFAULT_CHECKPOINT)
    check_policy(policy, loaded)
    check_photos(photos, loaded)
    own = _connect(address)
    try:
        there = ray.cluster_resources().get("GPU", 0)
        if gpus is None:
            gpus = 0 if device == "cpu" else float(device == "cuda" or there >= 1)
        # A cluster of others may grow; this machine's would wait for ever.
        if own and gpus > there:
            raise ValueError(f"{gpus:g} GPUs for each engine were asked for, but this machine has {there:g}")
        yield ClusterScorer(loaded, crops, policy, precision=precision, engines=engines, gpus=gpus, photos=photos)
    finally:
        ray.shutdown()


def _connect(address: str | None) -> bool:
    """Connect to a cluster; returns whether it was started here, on this machine alone."""
    import ray

    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise ValueError(f"{address}: ask from a node of the cluster, or send this command as a job of Ray")
    # Ray's own log lines would hide the progress; errors reach the user as exceptions.
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    options: dict[str, Any] = {}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options = {"num_cpus": processors.usable(), "include_dashboard": False}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except ConnectionError as error:
        raise ValueError(f"{address}: no cluster answers there") from error
    return address == "local"


def _precision(precision: "Precision", device: str, network: Any) -> str:
    from model.inference.engine import resolve_precision

    return resolve_precision(precision, device, network)
