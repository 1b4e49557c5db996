"""The run folder: what a training run was, how far it is, and what came of it."""

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

from training import recipe as recipes
from training import splits
from training.datasets import Part
from training.errors import TrainingError
from training.figures import curves
from training.recipe import Recipe
from training.splits import Split

RECIPE = "recipe.toml"
ORIGIN = "origin.json"
SPLIT = "split.json"
METRICS = "metrics.jsonl"
STATE = "state.pt"
LOG = "train.log"
CURVES = "curves.png"
TENSORBOARD = "tensorboard"
CANDIDATE, BEST, CHECKPOINT = "candidate", "best", "checkpoint"


class RunFolder:
    """A run folder. Of several processes only the one that leads may write.

    Args:
        path: The folder; made if need be.
        leads: Whether this process writes.
    """

    def __init__(self, path: Path, *, leads: bool) -> None:
        self.path = path
        self.leads = leads
        self.console = Console(stderr=True, quiet=not leads)
        self.log = logging.getLogger(f"smart_iqa.training.{id(self)}")
        self.log.setLevel(logging.INFO)
        self.log.propagate = False
        self._board: SummaryWriter | None = None

    def __enter__(self) -> "RunFolder":
        if not self.leads:
            return self
        self.path.mkdir(parents=True, exist_ok=True)
        to_file = logging.FileHandler(self.path / LOG, encoding="utf-8")
        to_file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        to_screen = RichHandler(console=self.console, show_path=False, show_level=False, markup=False, highlighter=None)
        for handler in (to_file, to_screen):
            self.log.addHandler(handler)
        return self

    def __exit__(self, *_: object) -> None:
        if self._board is not None:
            self._board.close()
        for handler in list(self.log.handlers):
            self.log.removeHandler(handler)
            handler.close()

    def claim(self, recipe: Recipe, origins: Mapping[str, str], split: Split) -> None:
        """Say what the run is, or make sure that it is the one that the folder holds.

        Args:
            recipe: What it does.
            origins: Digests of its first weights, and of its teacher if it has one.
            split: Its pictures.

        Raises:
            ValueError: The folder holds another run.
        """
        if self.leads:
            self._claim(RECIPE, recipes.dump(recipe), "of another recipe")
            self._claim(ORIGIN, json.dumps(dict(origins)) + "\n", "from other first weights")
            self._claim(SPLIT, splits.dump(split), "on other pictures")

    def load_state(self) -> dict[str, Any] | None:
        """Where an interrupted run stopped, with its tensors on the CPU; None for a new one."""
        file = self.path / STATE
        if not file.exists():
            return None
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        return state

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write where the run stands, if this process leads, in a single step: a failure leaves what was there.

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
        """Write the figures of all epochs so far, and draw them."""
        if self.leads:
            _write(self.path / METRICS, "".join(json.dumps(line) + "\n" for line in lines))
            curves.draw(lines).savefig(self.path / CURVES, dpi=150)

    def board(self, figures: Mapping[str, float], step: int) -> None:
        """Show figures in TensorBoard."""
        if self._board is None and self.leads:
            self._board = SummaryWriter(self.path / TENSORBOARD, purge_step=step)
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)

    def _claim(self, name: str, text: str, other: str) -> None:
        file = self.path / name
        same = file.exists() and file.read_text(encoding="utf-8") == text
        # Before the first state is saved there is no run yet that could be mixed up.
        if not same and (self.path / STATE).exists():
            raise ValueError(f"{self.path} holds a run {other}; choose another folder")
        if not same:
            _write(file, text)


def evaluation_folder(run: Path, part: Part) -> Path:
    """Where a finished run keeps what its checkpoint says of the pictures of a part."""
    return run / f"evaluation-{part}"


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Figures of a run's epochs.

    Raises:
        ValueError: There are none.
    """
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except OSError as error:
        raise ValueError(f"{folder / METRICS}: {error.strerror}") from error


def _write(file: Path, text: str) -> None:
    """Write a file in a single step."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, file)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__
