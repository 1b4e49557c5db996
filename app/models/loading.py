"""Loads the models: each is warmed up and checked against its golden scores before it answers anything."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from app.batching.submission import Engine
from app.settings import Settings
from model import checkpoint, golden
from model.checkpoint import Checkpoint, Config
from model.inference.autotune import autotune, set_threads
from model.inference.engine import Engine as TorchEngine
from model.inference.engine import resolve_device
from model.maps.activations import Shapes, StageEngine
from model.networks import registry
from model.options import Precision
from model.score import ModelId
from model.scorer import Scorer

log = logging.getLogger("smart_iqa.models")

PICKING = ("imagehash", "scipy", "skimage")
"""Packages of the extra ``pick``."""
LANES = {"cpu": 1, "cuda": 2}
"""Lanes (worker threads) of one device: on a GPU, copies of one overlap with computation of the other."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """Facts of a loaded model, in this process or in engine replicas.

    Attributes:
        config: Configuration from its checkpoint: name, contract, network, figures.
        digest: The checkpoint's digest.
        parameters: Number of parameters.
        stage_attention: Whether it weighs the stages.
        precision: Precision that it computes in.
        batch_shapes: Batch sizes that it runs at, in crops.
        reproducible: Whether scores are the same to the last bit in every batch and on every lane.
        devices: The devices that it is on.
        stage_shapes: Shapes of the maps of its stages; empty for networks without stages.
    """

    config: Config
    digest: str
    parameters: int
    stage_attention: bool
    precision: str
    batch_shapes: tuple[int, ...]
    reproducible: bool
    devices: tuple[str, ...]
    stage_shapes: Shapes = ()

    @cached_property
    def key(self) -> str:
        """Its key in the batcher. It includes the digest: during an exchange two models may share a name."""
        return f"{self.config.name}@{self.digest}"

    @cached_property
    def stages_key(self) -> str:
        """Key of its stage engines in the batcher."""
        return f"{self.key}#stages"

    @property
    def keys(self) -> tuple[str, ...]:
        """All its keys in the batcher."""
        return (self.key, self.stages_key) if self.stage_shapes else (self.key,)

    @cached_property
    def id(self) -> ModelId:
        """Its name and digest, as in answers."""
        return ModelId(name=self.config.name, digest=self.digest)

    @cached_property
    def cannot_pick(self) -> str:
        """Why ``/pick`` does not work with it; "" if it does."""
        if not (self.config.contract.description and self.config.contract.defects):
            return f"{self.config.name} does not describe pictures, so it cannot tell which are alike"
        if any(find_spec(name) is None for name in PICKING):
            return "the service runs without the packages for it: smart-iqa[pick]"
        return ""

    def describe(self) -> dict[str, Any]:
        """Its description in ``GET /models``."""
        return {
            "name": self.config.name,
            "digest": self.digest,
            "contract": {"id": self.config.contract.id, **self.config.contract.to_dict()},
            "network": dict(self.config.network),
            "parameters": self.parameters,
            "stage_attention": self.stage_attention,
            "picks": not self.cannot_pick,
            "trained_on": self.config.trained_on,
            "licence": self.config.licence,
            "figures": {split: dict(figures) for split, figures in self.config.figures.items()},
            "devices": list(self.devices),
            "precision": self.precision,
            "batch_shapes": list(self.batch_shapes),
            "reproducible": self.reproducible,
        }


@dataclass(frozen=True, kw_only=True)
class LoadedModel(ServedModel):
    """A model in this process, with its engines.

    Attributes:
        engines: Its warmed-up engines, one for each lane.
        stage_engines: Engines that compute the activity of its stages, one for each lane; empty without stages.
    """

    engines: Sequence[Engine]
    stage_engines: Sequence[Engine] = ()

    @property
    def replicas(self) -> Mapping[str, Sequence[Engine]]:
        """The engines behind each of its keys."""
        return dict(zip(self.keys, (self.engines, self.stage_engines), strict=False))

    def facts(self) -> ServedModel:
        """The model without its engines, to be sent to another process."""
        return ServedModel(**{field.name: getattr(self, field.name) for field in fields(ServedModel)})


def lane_devices(device: str) -> tuple[str, ...]:
    """The device name of each lane.

    Args:
        device: ``cpu``; ``cuda:1`` for one GPU; ``cuda`` for all that are visible; ``auto`` for those, or else the CPU.

    Raises:
        ValueError: This machine has no such device.
    """
    chosen = resolve_device(device)
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if chosen == "cuda" else [chosen]
    return tuple(name for name in devices for _ in range(LANES[torch.device(name).type]))


def load_models(settings: Settings, lanes: Sequence[str] = ()) -> Mapping[str, LoadedModel]:
    """Load all checkpoints of the settings, warm them up and check their golden scores. The first is the default model.

    Args:
        settings: How to run.
        lanes: The device of each lane; if empty, those of ``lane_devices``.

    Raises:
        CheckpointError: A folder is not a usable checkpoint.
        GoldenMismatch: A model does not give its golden scores on a device of this machine.
        ValueError: This machine has no such device, or two checkpoints share a name.
    """
    threads = settings.threads
    set_threads(threads)
    lanes = lanes or lane_devices(settings.device)
    models: dict[str, LoadedModel] = {}
    for folder in settings.checkpoints:
        loaded = checkpoint.load(folder)
        if loaded.config.name in models:
            raise ValueError(f"two checkpoints are called {loaded.config.name!r}")
        parameters, stage_attention = registry.parameter_count(loaded.network), loaded.network.weighs_stages
        engines = _engines(loaded, lanes, settings.precision)
        if engines[0].device == "cpu":
            setting = autotune(engines[0], loaded.digest, threads=threads)
            threads = setting.threads  # the process has one thread count: the default model's
            for engine in engines[1:]:
                engine.limit(setting.cap)
        stage_engines = [staged for engine in engines if (staged := StageEngine.of(engine)) is not None]
        model = models[loaded.config.name] = LoadedModel(
            config=loaded.config,
            digest=loaded.digest,
            engines=engines,
            parameters=parameters,
            stage_attention=stage_attention,
            precision=engines[0].precision,
            batch_shapes=engines[0].shapes,
            devices=tuple(dict.fromkeys(engine.device for engine in engines)),
            stage_engines=stage_engines,
            stage_shapes=stage_engines[0].shapes if stage_engines else (),
            reproducible=all(engine.reproducible and _agree(engine, engines[0], loaded) for engine in engines),
        )
        if not model.reproducible:
            log.warning("%s: scores may differ in the last digits by batch company or device", model.config.name)
        log.info(
            "%s is ready on %s in %s, %d threads, batches of %s",
            *(model.config.name, ", ".join(model.devices), model.precision, torch.get_num_threads()),
            model.batch_shapes,
        )
    return models


def _engines(loaded: Checkpoint, lanes: Sequence[str], precision: Precision) -> list[TorchEngine]:
    """Make an engine for each lane; those of a device share one network. Checks the golden scores on each device."""
    engines: list[TorchEngine] = []
    for device, count in Counter(lanes).items():
        engine = TorchEngine.of(loaded, device=device, precision=precision)
        golden.verify(Scorer(loaded, engine))
        engines += [engine, *(engine.twin() for _ in range(count - 1))]
    return engines


def _agree(engine: TorchEngine, other: TorchEngine, loaded: Checkpoint) -> bool:
    """Whether two engines give the same rows, to the last bit."""
    probes = [] if engine is other else [loaded.contract.probe(engine.cap, shape) for shape in engine.item_shapes]
    return all(np.array_equal(engine.predict(probe), other.predict(probe)) for probe in probes)
