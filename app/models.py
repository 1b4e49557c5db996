"""The models that the service holds: loaded, warmed and proven before they answer anything."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from app.settings import Settings
from app.work import Engine
from model import checkpoint, golden, registry
from model.checkpoint import Config
from model.engine import Engine as TorchEngine
from model.scorer import ModelId, Scorer

log = logging.getLogger("smart_iqa.models")


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model that is ready to answer.

    Attributes:
        config: What its checkpoint says of it.
        digest: The checkpoint's digest.
        engine: Its warmed engine.
        parameters: Number of parameters.
        stage_attention: Whether it weighs the stages.
        device: Device it is on.
        precision: Precision it computes in.
        batch_shapes: Crops per batch that it runs at.
        reproducible: Whether scores do not depend on batch company, to the last bit.
    """

    config: Config
    digest: str
    engine: Engine
    parameters: int
    stage_attention: bool
    device: str
    precision: str
    batch_shapes: tuple[int, ...]
    reproducible: bool

    @property
    def key(self) -> str:
        """What the batcher knows it by: during an exchange two models may have one name."""
        return f"{self.config.name}@{self.digest}"

    @property
    def id(self) -> ModelId:
        """How answers name it."""
        return ModelId(name=self.config.name, digest=self.digest)

    def describe(self) -> dict[str, Any]:
        """What ``GET /models`` shows."""
        return {
            "name": self.config.name,
            "digest": self.digest,
            "contract": {"id": self.config.contract.id, **self.config.contract.to_dict()},
            "network": dict(self.config.network),
            "parameters": self.parameters,
            "stage_attention": self.stage_attention,
            "trained_on": self.config.trained_on,
            "licence": self.config.licence,
            "figures": {split: dict(figures) for split, figures in self.config.figures.items()},
            "device": self.device,
            "precision": self.precision,
            "batch_shapes": list(self.batch_shapes),
            "reproducible": self.reproducible,
        }


def load_models(settings: Settings) -> Mapping[str, ServedModel]:
    """Load, warm and prove all checkpoints of the settings; the first one is the default model.

    Raises:
        CheckpointError: A folder is not a usable checkpoint.
        GoldenMismatch: A model does not give its golden scores on this machine.
        ValueError: The device is not there, or two checkpoints share a name.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    models: dict[str, ServedModel] = {}
    for folder in settings.checkpoints:
        loaded = checkpoint.load(folder)
        if loaded.config.name in models:
            raise ValueError(f"two checkpoints are called {loaded.config.name!r}")
        engine = TorchEngine.of(loaded, device=settings.device, precision=settings.precision)
        golden.verify(Scorer(loaded, engine))
        if not engine.reproducible:
            log.warning("%s: on this device scores may differ in the last digits by batch company", loaded.config.name)
        models[loaded.config.name] = ServedModel(
            config=loaded.config,
            digest=loaded.digest,
            engine=engine,
            parameters=registry.parameter_count(loaded.network),
            stage_attention=loaded.network.weighs_stages,
            device=engine.device,
            precision=engine.precision,
            batch_shapes=engine.shapes,
            reproducible=engine.reproducible,
        )
        log.info(
            "%s is ready on %s in %s, batches of %s", loaded.config.name, engine.device, engine.precision, engine.shapes
        )
    return models
