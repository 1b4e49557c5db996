"""Checkpoints of a run: a candidate after each epoch, and the finished one at the end."""

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from model import checkpoint, golden
from model.contract import Contract
from model.networks import registry
from model.scorer import Scorer
from training import card, datasets, initial_weights, losses, provenance, score_statistics, splits
from training.correlation import Agreement
from training.cross_validation import CrossValidation
from training.datasets import Dataset, Part, Sample
from training.errors import TrainingError
from training.evaluator import evaluate, measured, write
from training.recipe import Recipe
from training.run import BEST, CANDIDATE, CHECKPOINT, PICTURES, SPLIT, evaluation_folder, read_metrics

CALIBRATION_PICTURES = 500
"""Training pictures that outputs are calibrated on, where there are no validation pictures."""
STAGING = "finishing"


def validate(
    out: Path, network: registry.Network, recipe: Recipe, contract: Contract, watched: list[Sample]
) -> Agreement | None:
    """Write a candidate checkpoint, and measure it on the watched pictures; None where there are none.

    Raises:
        TrainingError: It cannot be written.
    """
    _save(out / CANDIDATE, network, recipe, contract)
    if not watched:
        return None
    return evaluate(Scorer.load(out / CANDIDATE), watched, crops=recipe.validation_crops).agreement


def promote(out: Path) -> None:
    """Make the candidate the best checkpoint so far."""
    shutil.rmtree(out / BEST, ignore_errors=True)
    os.replace(out / CANDIDATE, out / BEST)


def finished(out: Path) -> bool:
    """Whether a run folder holds a finished checkpoint and its evaluations, not those of an earlier one."""
    if not (out / CHECKPOINT / checkpoint.CONFIG).is_file():
        return False
    digest = checkpoint.inspect(out / CHECKPOINT)[1]
    split = splits.load(out / CHECKPOINT / SPLIT)
    parts: tuple[Part, ...] = ("validation", "test")
    return all(measured(evaluation_folder(out, part)) == digest for part in parts if split.names(part))


def finish(
    out: Path,
    recipe: Recipe,
    dataset: Dataset,
    split: splits.Split,
    init: Path | None,
    *,
    root: Path,
    split_origin: str,
    cross_validation: Sequence[CrossValidation],
) -> None:
    """Measure the best epoch with the contract's crops, and write it with its card, split and golden scores.

    After a loss that leaves the scale of outputs open, a straight line from outputs to labels is fitted on the
    validation pictures (without any, on training pictures).

    Args:
        out: The run folder.
        recipe: The recipe of the run.
        dataset: The data set.
        split: Its parts.
        init: First weights, as for ``trainer.train``.
        root: Where the data set is.
        split_origin: Where the split is from, in words.
        cross_validation: Figures of the recipe's cross-validation, for card and config; those that say most first.

    Raises:
        TrainingError: It cannot be written.
    """
    best = Scorer.load(out / BEST, precision="fp32")
    contract = best.checkpoint.contract
    calibrated_on = ""
    if recipe.loss not in losses.SCALED:
        calibrated_on = "validation" if split.validation else "training"
        samples = splits.select(dataset, split.validation or split.train[:CALIBRATION_PICTURES])
        contract = _calibrated(evaluate(best, samples).predictions, samples, contract)
    learned = datasets.without(dataset, splits.select(dataset, split.train), recipe.left_out)
    network = best.checkpoint.network.cpu()
    # The checkpoint is written beside its place, and moved there when it is complete.
    staging = out / STAGING
    _save(staging, network, recipe, contract)
    scorer = Scorer.load(staging, precision="fp32")
    contract = score_statistics.describe(scorer, splits.select(dataset, split.train), contract)
    parts: tuple[Part, ...] = ("validation", "test")
    evaluations = {
        part: evaluate(scorer, splits.select(dataset, names)) for part in parts if (names := split.names(part))
    }
    agreements = {part: evaluation.agreement for part, evaluation in evaluations.items()}
    text = card.write(
        recipe,
        contract,
        agreements,
        split,
        split_origin=split_origin,
        epochs=len(read_metrics(out)),
        calibrated_on=calibrated_on,
        note=dataset.note,
        init=_init_in_words(init),
        cross_validation=cross_validation,
    )
    _save(
        staging,
        network,
        recipe,
        contract,
        card=text,
        trained_on=f"{recipe.dataset}, {len(learned)} pictures",
        licence="of the training data; see card.md",
        figures={
            f"{recipe.dataset}-{part}": {"pictures": float(len(split.names(part))), **agreement.to_dict()}
            for part, agreement in agreements.items()
        }
        | {"-".join([recipe.dataset, "folds", *_without(found)]): found.figures() for found in cross_validation},
    )
    try:
        pictures = provenance.load(out / PICTURES).digest
        (staging / SPLIT).write_text(splits.dump(split, pictures=pictures), encoding="utf-8")
        golden.write(Scorer.load(staging, device="cpu", precision="fp32"))
        checkpoint.replace(staging, out / CHECKPOINT)
        finished = checkpoint.load(out / CHECKPOINT)
        for part, evaluation in evaluations.items():
            write(evaluation_folder(out, part), evaluation, finished, dataset=dataset, root=root, part=part, crops=None)
    except OSError as error:
        raise TrainingError(f"{out / CHECKPOINT} cannot be written: {error.strerror}") from error


def _calibrated(predictions: Sequence[float], samples: list[Sample], contract: Contract) -> Contract:
    line = stats.linregress(predictions, [sample.mos for sample in samples])
    slope, intercept = float(line.slope) or 1.0, float(line.intercept)
    return dataclasses.replace(contract, slope=slope * contract.slope, intercept=slope * contract.intercept + intercept)


def _without(found: CrossValidation) -> list[str]:
    return ["without", *found.left_out] if found.left_out else []


def _init_in_words(init: Path | None) -> str:
    if init == initial_weights.RANDOM:
        return "random"
    if init is None:
        return "timm's weights of that name"
    return f"the checkpoint `{init.name}`" if init.is_dir() else f"`{init.name}`"


def _save(folder: Path, network: registry.Network, recipe: Recipe, contract: Contract, **about: Any) -> None:
    name = f"{recipe.network}-{recipe.dataset}"
    try:
        checkpoint.save(folder, network, name=name, contract=contract, half=recipe.half, **{"card": "", **about})
    except OSError as error:
        raise TrainingError(f"{folder} cannot be written: {error.strerror}; what was there is untouched") from error
