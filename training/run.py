"""The run folder: everything that a training run writes.

It holds

    recipe.toml, split.json, origin.json      what the run is: recipe, pictures, digests of the first weights;
    network.json, pictures.json               network and contract with all their defaults, what pictures were
    state.pt                                  the state to resume from
    metrics.jsonl, curves.png, tensorboard/   loss, rates and validation figures of each epoch
    train.log                                 the same as text
    candidate/, best/                         checkpoints of the last epoch, unless it is the best, and of the best one
    checkpoint/                               the finished checkpoint
    evaluation-validation/, evaluation-test/  its scores of the pictures of those parts
"""

import contextlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.logging import RichHandler
from torch.utils.tensorboard.writer import SummaryWriter

from model.contract import Contract
from model.files import LOCK, locked
from model.networks import registry
from model.scale import Scale
from training import provenance, splits
from training import recipe as recipes
from training.datasets import Part, Sample
from training.errors import TrainingError
from training.figures import curves
from training.recipe import Recipe
from training.splits import Split

RECIPE = "recipe.toml"
ORIGIN = "origin.json"
NETWORK = "network.json"
PICTURES = "pictures.json"
SPLIT = "split.json"
METRICS = "metrics.jsonl"
STATE = "state.pt"
LOG = "train.log"
CURVES = "curves.png"
TENSORBOARD = "tensorboard"
CANDIDATE, BEST, CHECKPOINT = "candidate", "best", "checkpoint"


class RunFolder:
    """A run folder. Of several processes only the leading one writes.

    Args:
        path: The folder; made if need be.
        leads: Whether this process writes.
        locks: Whether it also keeps other runs out; no, where the one that has started it does.
    """

    def __init__(self, path: Path, *, leads: bool, locks: bool = True) -> None:
        self.path = path
        self.leads = leads
        self._locks = locks
        self._held = contextlib.ExitStack()
        self.console = Console(stderr=True, quiet=not leads)
        self.log = logging.getLogger(f"smart_iqa.training.{id(self)}")
        self.log.setLevel(logging.INFO)
        self.log.propagate = False
        self._tensorboard: SummaryWriter | None = None

    def __enter__(self) -> "RunFolder":
        if not self.leads:
            return self
        with contextlib.ExitStack() as stack:
            if self._locks:
                stack.enter_context(locked(self.path, self.path / LOCK))
            self.path.mkdir(parents=True, exist_ok=True)
            to_file = logging.FileHandler(self.path / LOG, encoding="utf-8")
            self._held = stack.pop_all()
        to_file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        to_screen = RichHandler(console=self.console, show_path=False, show_level=False, markup=False, highlighter=None)
        for handler in (to_file, to_screen):
            self.log.addHandler(handler)
        return self

    def __exit__(self, *_: object) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()
        for handler in list(self.log.handlers):
            self.log.removeHandler(handler)
            handler.close()
        self._held.close()

    def claim(
        self, recipe: Recipe, origins: Mapping[str, str], split: Split, contract: Contract, samples: Sequence[Sample]
    ) -> None:
        """Write what the run is; in the folder of a run that has begun, check that it is the same.

        Args:
            recipe: The recipe.
            origins: Digests of the first weights, and of the teacher if there is one.
            split: The pictures.
            contract: The contract of the checkpoint to be, with the scale of the labels.
            samples: The pictures of all parts of the split.

        Raises:
            ValueError: The folder holds another run.
            DatasetError: A picture cannot be read.
        """
        if not self.leads:
            return
        network = registry.described(recipe.network, **recipe.network_changes())
        made = {"network": network, "contract": contract.to_dict()}
        self._claim(RECIPE, recipes.dump(recipe), "of another recipe")
        self._claim(ORIGIN, json.dumps(dict(origins)) + "\n", "from other first weights")
        self._claim(SPLIT, splits.dump(split), "on other pictures")
        self._claim_pictures(samples, contract.scale)
        self._claim(NETWORK, json.dumps(made, indent=1) + "\n", "of a network or contract with other defaults")

    def load_state(self) -> dict[str, Any] | None:
        """Load the state of an interrupted run, with its tensors on the CPU; None for a new run."""
        file = self.path / STATE
        if not file.exists():
            return None
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        return state

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write the state atomically, if this process leads: a failure leaves the state that was saved before.

        Raises:
            TrainingError: It cannot be written.
        """
        if not self.leads:
            return
        partial = self.path / f"{STATE}.partial"
        try:
            torch.save(dict(state), partial)
            os.replace(partial, self.path / STATE)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise TrainingError(
                f"{self.path / STATE} cannot be written ({_reason(error)}); the state saved before is untouched"
            ) from error

    def write_metrics(self, lines: Sequence[Mapping[str, float]]) -> None:
        """Write the figures of all epochs so far, and draw their curves."""
        if self.leads:
            _write(self.path / METRICS, "".join(json.dumps(line) + "\n" for line in lines))
            curves.draw(lines).savefig(self.path / CURVES, dpi=150)

    def write_tensorboard(self, figures: Mapping[str, float], step: int) -> None:
        """Write figures for TensorBoard."""
        if self._tensorboard is None and self.leads:
            self._tensorboard = SummaryWriter(self.path / TENSORBOARD, purge_step=step)
        if self._tensorboard is not None:
            for name, value in figures.items():
                self._tensorboard.add_scalar(name, value, step)

    @property
    def _begun(self) -> bool:
        """Whether there is a run that another one could be confused with: there is none before its first state."""
        return (self.path / STATE).exists()

    def _claim(self, name: str, text: str, other: str) -> None:
        file = self.path / name
        same = file.exists() and file.read_text(encoding="utf-8") == text
        if not same and self._begun:
            raise ValueError(f"{self.path} holds a run {other}; choose another folder")
        if not same:
            _write(file, text)

    def _claim_pictures(self, samples: Sequence[Sample], scale: Scale) -> None:
        """Note labels and hashes of the pictures, or check that they are those of the run that has begun."""
        file = self.path / PICTURES
        known = provenance.load(file) if self._begun else None
        found = provenance.look(samples, scale, known)
        if known is not None and (difference := known.difference(found)):
            raise ValueError(f"{self.path} holds a run {difference}; choose another folder")
        if found != known:
            _write(file, provenance.dump(found))


def evaluation_folder(run: Path, part: Part) -> Path:
    """The folder in which a finished run keeps its checkpoint's evaluation on a part."""
    return run / f"evaluation-{part}"


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Read the figures of a run's epochs.

    Raises:
        ValueError: The folder holds none.
    """
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except OSError as error:
        raise ValueError(f"{folder / METRICS}: {error.strerror}") from error


def _write(file: Path, text: str) -> None:
    """Write a file atomically."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, file)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__
