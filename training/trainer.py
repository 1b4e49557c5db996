"""The training loop: from a recipe and a data set to a checkpoint that the service loads.

    smart-iqa train smart-mobile-biq2021 --root BIQ2021 --out runs/mobile

``training/run.py`` says what the run folder holds. An interrupted run goes on in its folder, to the same numbers.
"""

import dataclasses
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from model.inference.allocator import keep_freed_memory
from model.inference.engine import mean_std, network_inputs
from training import datasets, distributed, finalize, initial_weights, losses, splits
from training.bn_folding import folded
from training.crops import RandomCrops, collate
from training.distillation import Distiller
from training.errors import TrainingError
from training.learner import Learner
from training.recipe import Recipe
from training.run import CHECKPOINT, RunFolder

if TYPE_CHECKING:
    from training.cross_validation import CrossValidation

LOOK_EVERY = 50
"""Steps between looks at the loss: each look makes an accelerator wait."""


@dataclass(kw_only=True)
class Progress:
    """Where a run stands.

    Attributes:
        epoch: The epoch to go on with, from 1.
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
    folds: "CrossValidation | None" = None,
) -> Path:
    """Train, or go on where an interrupted run of the same recipe stopped.

    Under ``torchrun`` or Ray Train all their processes train together; the first one validates and writes.

    Args:
        recipe: What to do.
        root: The data set.
        out: The run folder.
        init: First weights: a safetensors file with a timm backbone, or a checkpoint folder, or
            ``initial_weights.RANDOM``; timm's hub if None.
        teacher: A checkpoint folder to learn from, for recipes with a ``distil_weight``.
        split: A split file to take instead of the recipe's split.
        decoders: Processes that decode, for each process that trains.
        save_seconds: How often to save where the run stands, besides after every epoch.
        folds: What cross-validation of the recipe gave, for the checkpoint's card.

    Returns:
        The folder of the finished checkpoint.

    Raises:
        DatasetError: The data are not as they should be.
        ValueError: The run folder holds another run, or the first weights do not fit.
        TrainingError: The loss is not a number, or nothing can be written.
    """
    dataset = datasets.read(recipe.dataset, root, recipe.labels)
    parts, drawn = splits.of(recipe, dataset, split)
    trained = splits.select(dataset, parts.train)
    watched = splits.select(dataset, parts.test if recipe.selection == "best_on_test" else parts.validation)
    if not watched and recipe.selection != "last":
        raise datasets.DatasetError(f"selection = {recipe.selection!r} needs pictures that the split does not have")
    contract = initial_weights.contract(recipe, dataset.scale, init)
    initial_weights.rehearse(recipe, contract, init)
    taught_by = initial_weights.teacher(recipe, teacher)
    criterion = losses.make(recipe.loss, ranking_weight=recipe.ranking_weight, ranking_margin=recipe.ranking_margin)

    with distributed.join() as team, RunFolder(out, leads=team.leads) as run:
        team.check_batch(recipe.batch_pictures // recipe.accumulate)
        run.claim(recipe, initial_weights.digests(init, teacher), parts)
        device = team.device
        state = team.hand_out(run.load_state() if team.leads else None)
        if team.leads:
            everything = splits.select(dataset, [*parts.train, *parts.validation, *parts.test])
            datasets.check(everything, decode=state is None)
        if device.type == "cpu":
            keep_freed_memory()
        torch.backends.cudnn.deterministic = True
        torch.manual_seed(recipe.seed)
        network = (
            initial_weights.network(recipe, init, fetch=state is None).to(device).to(memory_format=torch.channels_last)
        )
        crops = RandomCrops(trained, contract, recipe)
        steps = len(crops.steps(epoch=1, processes=team.size))
        distiller = None if taught_by is None else Distiller(taught_by, network, contract, device)
        learner = Learner(network, recipe, steps, beside=distiller)
        progress = Progress()
        if state is not None:
            learner.load_state_dict(state["learner"])
            progress = Progress(**state["progress"])
            if progress.epoch <= recipe.epochs:
                run.log.info("going on in epoch %d after %d steps", progress.epoch, progress.step)

        def save() -> None:
            if not math.isfinite(progress.loss):
                raise TrainingError(
                    f"the loss is not a number, epoch {progress.epoch}, step {progress.step}; a lower head_lr or "
                    "a clip_norm may help. What was saved before is untouched"
                )
            run.save_state({"learner": learner.state_dict(), "progress": dataclasses.asdict(progress)})

        model, answering = network, DistributedDataParallel(network) if team.size > 1 else network
        statistics = mean_std(contract, str(device))
        lowest = (contract.scale.min - contract.intercept) / contract.slope
        label_range = (contract.scale.max - contract.scale.min) / contract.slope
        saved = time.monotonic()
        while progress.epoch <= recipe.epochs and not _out_of_patience(progress, recipe):
            plan = crops.steps(progress.epoch, processes=team.size)[progress.step :]
            shares = [team.share(batch) for step in plan for batch in step]
            loader = DataLoader(
                crops,
                batch_sampler=shares,
                num_workers=decoders,
                collate_fn=collate,
                pin_memory=device.type == "cuda",
            )
            batches = iter(loader)
            learner.train_mode(progress.epoch)
            if team.size == 1:
                model = answering = folded(network) if recipe.freeze_bn else network
            total = torch.tensor(progress.loss, dtype=torch.float64, device=device)
            started, first = time.monotonic(), progress.step
            title = f"epoch {progress.epoch}/{recipe.epochs}"
            for step in track(plan, title, total=steps, completed=first, console=run.console):
                # Each step has its own seed, so a resumed run draws what an uninterrupted one would have drawn.
                torch.manual_seed(_seed(recipe.seed, progress.epoch, progress.step, team.rank))
                learner.zero_grad()
                for _ in step:
                    batch = next(batches)
                    shown = [batch.items.flatten(0, 1), batch.degraded.flatten(0, 1), batch.blanks]
                    items_N = torch.cat(shown).to(device, non_blocking=True)
                    # The labels as outputs of the network: what the contract will undo.
                    labels = (batch.labels.to(device, non_blocking=True) - contract.intercept) / contract.slope
                    watched_maps: AbstractContextManager[list[list[Tensor]]] = (
                        nullcontext([]) if distiller is None else distiller.watching()
                    )
                    autocast = torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
                    with watched_maps as maps, autocast:
                        prediction = answering(network_inputs(items_N, statistics))
                    scores, degraded, blanks = prediction.score.split([len(part) for part in shown])
                    loss = criterion(team.gather(scores), team.gather(labels.flatten()))
                    # Each process adds its own part of these, so they count once for the team.
                    first = scores.view_as(labels)[batch.origins, :1]
                    margins = (recipe.degraded_margin * label_range * batch.steps).to(device)
                    ladders = torch.cat([first, degraded.unflatten(0, (-1, 2))], dim=1)
                    added = losses.made_up(ladders, blanks, margins, lowest=lowest, weight=recipe.degraded_weight)
                    if distiller is not None:
                        added = added + recipe.distil_weight * distiller(items_N, prediction.score, maps[0])
                    loss = (loss + (added + sum(model.auxiliary.values())) / team.size) / len(step)
                    (loss * team.size).backward()
                    total += loss.detach()
                # A gradient that is not a number shows in the sum too, before its weights could be saved.
                total += 0 * learner.step()
                progress.step += 1
                due = time.monotonic() - saved > save_seconds
                if due or progress.step % LOOK_EVERY == 0 or progress.step == steps:
                    progress.loss = total.item()
                    run.board({"loss": progress.loss / progress.step}, (progress.epoch - 1) * steps + progress.step)
                    if due or not math.isfinite(progress.loss):
                        save()
                        saved = time.monotonic()

            pictures = team.size * sum(len(share) for share in shares)
            rate = recipe.crops_per_picture * pictures / (time.monotonic() - started)
            line = {"epoch": progress.epoch, "loss": progress.loss / steps, **learner.learning_rates()}
            better = True
            if team.leads:
                agreement = finalize.validate(out, learner.kept, recipe, contract, watched)
                if agreement is not None:
                    line |= agreement.to_dict()
                    better = agreement.srcc > progress.best
                    progress.best = max(progress.best, agreement.srcc)
                if better or recipe.selection == "last":
                    finalize.promote(out)
            progress.stale = 0 if team.agree(better) else progress.stale + 1
            progress.lines.append(line)
            told = ", ".join(f"{name} {value:.5g}" for name, value in line.items())
            run.log.info("%s; trained at %.1f crops/s", told, rate)
            run.board(line, progress.epoch * steps)
            progress.epoch, progress.step, progress.loss = progress.epoch + 1, 0, 0.0
            save()
            saved = time.monotonic()
            run.write_metrics(progress.lines)
            if _out_of_patience(progress, recipe):
                run.log.info("no better SRCC for %d epochs: stopping early", progress.stale)
        run.write_metrics(progress.lines)
        if team.leads:
            finalize.finish(out, recipe, dataset, parts, init, root=root, split_origin=drawn, folds=folds)
            run.log.info("finished: %s", out / CHECKPOINT)
    return out / CHECKPOINT


def _out_of_patience(progress: Progress, recipe: Recipe) -> bool:
    return 0 < recipe.patience <= progress.stale


def _seed(*numbers: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
