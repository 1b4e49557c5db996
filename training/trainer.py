"""The training loop: from a recipe and a data set to a checkpoint that the service loads.

    smart-iqa train smart-mobile-biq2021 --root BIQ2021 --out runs/mobile

``training/run.py`` lists the files of the run folder. An interrupted run resumes from its folder, and ends with the
weights and figures of an uninterrupted one.
"""

import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch.nn.parallel import DistributedDataParallel

from model.contract import Contract
from model.inference.allocator import keep_freed_memory
from model.inference.autotune import set_threads
from model.networks.registry import Network
from training import datasets, distributed, finalize, initial_weights, splits
from training.bn_folding import fold_batch_norms
from training.crops import Batch, RandomCrops, collate
from training.cross_validation import CrossValidation
from training.datasets import Dataset, DatasetError, Sample
from training.distillation import Distiller
from training.distributed import Team
from training.errors import TrainingError
from training.learner import Learner
from training.loading import batches, watched
from training.objective import Objective
from training.recipe import Recipe
from training.run import CHECKPOINT, RunFolder
from training.splits import Split

LOOK_EVERY = 50
"""Steps between looks at the loss: each look makes an accelerator wait."""


def train(
    recipe: Recipe,
    root: Path,
    out: Path,
    *,
    init: Path | None = None,
    teacher: Path | None = None,
    split: Path | None = None,
    decoders: int = 1,
    save_seconds: float = 300.0,
    cross_validation: Sequence[CrossValidation] = (),
    locks: bool = True,
    reuse: bool = False,
) -> Path:
    """Train, or resume an interrupted run of the same recipe.

    Under ``torchrun`` or Ray Train all their processes train together; the first one validates and writes.

    Args:
        recipe: What to train, and how.
        root: The data set.
        out: The run folder.
        init: First weights: a safetensors file with a timm backbone, or a checkpoint folder, or
            ``initial_weights.RANDOM``; timm's hub if None.
        teacher: A checkpoint folder to learn from, for recipes with a ``distil_weight``.
        split: A split file to take instead of the recipe's split.
        decoders: Processes that decode, for each process that trains.
        save_seconds: Time between two saves of the state within an epoch; it is also saved after each.
        cross_validation: Figures of the recipe's cross-validation, for the card; those that say most first.
        locks: Whether to keep other runs out of the run folder; no, where the caller does.
        reuse: Whether a checkpoint of this very run that is finished stays as it is, and is not measured again.

    Returns:
        The folder of the finished checkpoint.

    Raises:
        DatasetError: The data set or the split is not as it should be.
        ValueError: The run folder holds another run, or one is writing it, or the first weights do not fit.
        TrainingError: The loss is not a number, a file cannot be written, or the decoders gave up.
    """
    data = TrainingData.read(recipe, root, split)
    contract = initial_weights.contract(recipe, data.dataset.scale, init)
    initial_weights.check(recipe, contract, init)
    teacher_checkpoint = initial_weights.teacher(recipe, teacher)

    with distributed.join() as team, RunFolder(out, leads=team.leads, locks=locks) as run:
        team.check_batch(recipe.batch_pictures // recipe.accumulate)
        if team.leads:
            datasets.check(data.samples, decode=False)
        run.claim(recipe, initial_weights.digests(init, teacher), data.split, contract, data.samples)
        if team.agree(reuse and finalize.finished(out)):
            return out / CHECKPOINT
        state = team.broadcast(run.load_state() if team.leads else None)
        if team.leads and state is None:
            datasets.check(data.samples)
        _prepare_process(team.device, recipe.seed)
        network = initial_weights.network(recipe, init, fetch=state is None)
        network = network.to(team.device).to(memory_format=torch.channels_last)
        distiller = Distiller(teacher_checkpoint, network, contract, team.device) if teacher_checkpoint else None
        trainer = Trainer(recipe, contract, data, network, distiller, team=team, run=run)
        if state is not None:
            trainer.resume(state)
        if trainer.finished:
            # It may have been killed between the state of its last epoch and these figures.
            run.write_metrics(trainer.progress.lines)

        while not trainer.finished:
            with watched():
                for accumulate in trainer.epoch_steps(decoders):
                    trainer.train_step(accumulate)
                    trainer.look_at_loss(save_seconds)
            trainer.end_epoch()

        if team.leads:
            finalize.finish(
                out, recipe, data.dataset, data.split, init,
                root=root, split_origin=data.split_origin, cross_validation=cross_validation,
            )  # fmt: skip
            run.log.info("finished: %s", out / CHECKPOINT)
    return out / CHECKPOINT


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The pictures of a run.

    Attributes:
        dataset: The data set.
        split: Its parts.
        split_origin: Where the split is from, in words.
        train: Pictures to learn from.
        watched: Pictures that each epoch is judged on.
    """

    dataset: Dataset
    split: Split
    split_origin: str
    train: list[Sample]
    watched: list[Sample]

    @classmethod
    def read(cls, recipe: Recipe, root: Path, split_file: Path | None) -> "TrainingData":
        """Read the data set, and split it by a file or by the recipe.

        Raises:
            DatasetError: The data set or the split is not as it should be, or the recipe selects its epoch on pictures
                that the split does not have.
        """
        dataset = datasets.read(recipe.dataset, root, recipe.labels)
        split, origin = splits.of(recipe, dataset, split_file)
        train = datasets.without(dataset, splits.select(dataset, split.train), recipe.left_out)
        watched = splits.select(dataset, split.test if recipe.selection == "best_on_test" else split.validation)
        if not watched and recipe.selection != "last":
            raise DatasetError(f"selection = {recipe.selection!r} needs pictures that the split does not have")
        return cls(dataset=dataset, split=split, split_origin=origin, train=train, watched=watched)

    @property
    def samples(self) -> list[Sample]:
        """The pictures of all parts."""
        return splits.select(self.dataset, [*self.split.train, *self.split.validation, *self.split.test])


@dataclass(kw_only=True)
class Progress:
    """How far a run is, as ``state.pt`` keeps it.

    Attributes:
        epoch: The present epoch, from 1.
        step: Steps of it that are done.
        loss: Sum of their losses.
        best: Highest SRCC so far.
        stale: Epochs since then.
        lines: Figures of the epochs that are done.
    """

    epoch: int = 1
    step: int = 0
    loss: float = 0.0
    best: float = -math.inf
    stale: int = 0
    lines: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """A run in one process: its network, its place in the run, and the steps that move both on.

    Args:
        recipe: What to train, and how.
        contract: The contract of the checkpoint to be.
        data: The pictures.
        network: The network with its first weights, on its device.
        distiller: Compares it with a teacher; None without one.
        team: The processes that train together.
        run: The run folder.

    Attributes:
        progress: How far the run is.
    """

    def __init__(
        self,
        recipe: Recipe,
        contract: Contract,
        data: TrainingData,
        network: Network,
        distiller: Distiller | None,
        *,
        team: Team,
        run: RunFolder,
    ) -> None:
        self.progress = Progress()
        self._recipe, self._contract, self._data, self._team, self._run = recipe, contract, data, team, run
        self._crops = RandomCrops(data.train, contract, recipe)
        self._steps = len(self._crops.steps(epoch=1, processes=team.size))
        self._learner = Learner(network, recipe, self._steps, extra=distiller)
        self._objective = Objective(recipe, contract, team, distiller)
        self._model = DistributedDataParallel(network) if team.size > 1 else network
        self._batches: Iterator[Batch] = iter(())
        self._loss = torch.zeros((), dtype=torch.float64, device=team.device)
        self._crops_seen = 0
        self._epoch_started = self._saved = time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the SRCC has not risen for as many as the recipe's patience."""
        return self.progress.epoch > self._recipe.epochs or self._out_of_patience

    @property
    def _out_of_patience(self) -> bool:
        return 0 < self._recipe.patience <= self.progress.stale

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state that ``save`` wrote."""
        self._learner.load_state_dict(state["learner"])
        self.progress = Progress(**state["progress"])
        if self.progress.epoch <= self._recipe.epochs:
            self._run.log.info("going on in epoch %d after %d steps", self.progress.epoch, self.progress.step)

    def save(self) -> None:
        """Write the state of the run.

        Raises:
            TrainingError: The loss is not a number, or the file cannot be written; what was saved before stays.
        """
        progress = self.progress
        if not math.isfinite(progress.loss):
            raise TrainingError(
                f"the loss is not a number, epoch {progress.epoch}, step {progress.step}; a lower head_lr or "
                "a clip_norm may help. What was saved before is untouched"
            )
        self._run.save_state({"learner": self._learner.state_dict(), "progress": dataclasses.asdict(progress)})
        self._saved = time.monotonic()

    def epoch_steps(self, decoders: int) -> Iterator[int]:
        """Start the present epoch, or what is left of it, and show a progress bar of its steps.

        Args:
            decoders: Processes that decode.

        Yields:
            For each step, how many batches it accumulates.
        """
        progress, recipe = self.progress, self._recipe
        steps = self._crops.steps(progress.epoch, processes=self._team.size)[progress.step :]
        self._batches = batches(
            self._crops,
            collate,
            decoders=decoders,
            batch_sampler=[self._team.share(batch) for step in steps for batch in step],
            pin_memory=self._team.device.type == "cuda",
        )
        self._learner.train_mode(progress.epoch)
        if recipe.freeze_bn and self._team.size == 1:
            self._model = fold_batch_norms(self._learner.network)
        self._loss = torch.tensor(progress.loss, dtype=torch.float64, device=self._team.device)
        self._crops_seen, self._epoch_started = 0, time.monotonic()
        yield from track(
            map(len, steps),
            f"epoch {progress.epoch}/{recipe.epochs}",
            total=self._steps,
            completed=progress.step,
            console=self._run.console,
        )

    def train_step(self, accumulate: int) -> None:
        """Take one optimiser step.

        Args:
            accumulate: How many of the epoch's batches it is made of.
        """
        progress = self.progress
        # Each step has its own seed, so a resumed run draws what an uninterrupted one would have drawn.
        torch.manual_seed(_seed(self._recipe.seed, progress.epoch, progress.step, self._team.rank))
        self._learner.zero_grad()
        for batch in islice(self._batches, accumulate):
            loss = self._objective(self._model, batch) / accumulate
            (loss * self._team.size).backward()
            self._loss += loss.detach()
            self._crops_seen += batch.labels.numel()
        gradient_norm = self._learner.step()
        # The weights are spoilt then, although the loss is finite until the next step.
        self._loss.masked_fill_(~gradient_norm.isfinite(), math.nan)
        progress.step += 1

    def look_at_loss(self, save_seconds: float) -> None:
        """Report the loss and save the state, if it is time for either.

        Args:
            save_seconds: Time between two saves.

        Raises:
            TrainingError: The loss is not a number, or the state cannot be written.
        """
        progress = self.progress
        due = time.monotonic() - self._saved > save_seconds
        if due or progress.step % LOOK_EVERY == 0 or progress.step == self._steps:
            progress.loss = self._loss.item()
            done = (progress.epoch - 1) * self._steps + progress.step
            self._run.write_tensorboard({"loss": progress.loss / progress.step}, done)
            if due or not math.isfinite(progress.loss):
                self.save()

    def end_epoch(self) -> None:
        """Validate, keep the checkpoint if it is the best one, report the epoch's figures, and save the state.

        Raises:
            TrainingError: A file cannot be written.
        """
        progress, run, recipe = self.progress, self._run, self._recipe
        rate = self._team.size * self._crops_seen / (time.monotonic() - self._epoch_started)
        line = {"epoch": progress.epoch, "loss": progress.loss / self._steps, **self._learner.learning_rates()}
        better = True
        if self._team.leads:
            agreement = finalize.validate(run.path, self._learner.averaged, recipe, self._contract, self._data.watched)
            if agreement is not None:
                line |= agreement.to_dict()
                better = agreement.srcc > progress.best
                progress.best = max(progress.best, agreement.srcc)
            if better or recipe.selection == "last":
                finalize.promote(run.path)
        progress.stale = 0 if self._team.agree(better) else progress.stale + 1
        progress.lines.append(line)
        figures = ", ".join(f"{name} {value:.5g}" for name, value in line.items())
        run.log.info("%s; trained at %.1f crops/s", figures, rate)
        run.write_tensorboard(line, progress.epoch * self._steps)
        progress.epoch, progress.step, progress.loss = progress.epoch + 1, 0, 0.0
        self.save()
        run.write_metrics(progress.lines)
        if self._out_of_patience:
            run.log.info("no better SRCC for %d epochs: stopping early", progress.stale)


def _prepare_process(device: torch.device, seed: int) -> None:
    """Make this process fast and its results reproducible."""
    if device.type == "cpu":
        keep_freed_memory()
        set_threads()
    torch.backends.cudnn.deterministic = True
    torch.manual_seed(seed)


def _seed(*numbers: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
