"""How well a checkpoint agrees with human scores, measured through the serving path."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from rich.console import Console
from rich.progress import track

from model.checkpoint import Checkpoint
from model.crop_rounds import Crops
from model.files import replacing
from model.scale import Scale
from model.score import QualityScore
from model.scorer import Scorer
from training import splits
from training.correlation import Agreement, intervals, measure
from training.datasets import READERS, Dataset, DatasetError, Part, Sample, base_name
from training.run import SPLIT

PREDICTIONS = "predictions.csv"
EVALUATION = "evaluation.json"
WhichPart = Literal["auto", "all", "train", "validation", "test"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of labelled pictures, in order.

    Attributes:
        samples: The pictures.
        scores: The checkpoint's score of each picture.
        predictions: The raw scores, on the scale of the data set.
        agreement: Correlations and errors of the predictions against the labels.
    """

    samples: tuple[Sample, ...]
    scores: tuple[QualityScore, ...]
    predictions: tuple[float, ...]
    agreement: Agreement


def evaluate(
    scorer: Scorer, samples: Sequence[Sample], *, scale: Scale | None = None, crops: Crops | None = None
) -> Evaluation:
    """Score pictures with decode, contract and engine of the service, and compare with their labels.

    Args:
        scorer: The checkpoint to measure.
        samples: Labelled pictures.
        scale: The scale of the labels; the checkpoint's own if None. From one known data set to another, raw scores
            are mapped linearly, worst to worst and best to best; for a CSV file they are not mapped.
        crops: Crops per picture, as for ``Scorer.score``; the contract's count if None.

    Raises:
        DatasetError: A picture cannot be decoded, or there are fewer than two.
    """
    if len(samples) < 2:
        raise DatasetError(f"{len(samples)} pictures are too few to measure an agreement")
    scores = []
    results = scorer.score_many([sample.path for sample in samples], crops)
    for path, result in track(results, "evaluating", total=len(samples), console=Console(stderr=True)):
        if not isinstance(result, QualityScore):
            raise DatasetError(f"{path}: {result}") from result
        scores.append(result)
    own = scorer.checkpoint.contract.scale
    predictions = tuple(_to_scale(score.raw_score, own, scale or own) for score in scores)
    return Evaluation(
        samples=tuple(samples),
        scores=tuple(scores),
        predictions=predictions,
        agreement=measure(predictions, [sample.mos for sample in samples]),
    )


def choose(checkpoint: Checkpoint, dataset: Dataset, which: WhichPart, file: Path | None) -> tuple[str, list[Sample]]:
    """Choose the pictures to evaluate a checkpoint on.

    ``auto`` takes pictures that the checkpoint was not trained on: of its own data set the test part of its split, or
    without one the validation part, or without that the pictures that the split does not name; of another data set its
    official test part, or all of it.

    Args:
        checkpoint: The checkpoint.
        dataset: The data set.
        which: The part of the split; ``auto`` and ``all`` as above.
        file: A split file, instead of the checkpoint's own or the data set's official split.

    Returns:
        The name of the part, and its pictures.

    Raises:
        DatasetError: There is no such part, or nothing but training pictures.
    """
    split = None if which == "all" else _split(checkpoint, dataset, file)
    part: Part = ""
    if which == "auto":
        held_out: tuple[Part, ...] = ("test", "validation")
        part = next((name for name in held_out if split and split.names(name)), "")
    elif which != "all":
        part = which
    if not part and split is not None:
        known = set(split.train)
        unseen = [sample for sample in dataset.samples if sample.name not in known]
        if not unseen:
            raise DatasetError(f"{checkpoint.folder} was trained on all of these pictures; take --split all")
        return "unseen", unseen
    if not part:
        return "all", list(dataset.samples)
    if split is None or not split.names(part):
        raise DatasetError(f"{base_name(dataset)} has no {part} pictures; take --split all, or a --split-file")
    return part, splits.select(dataset, split.names(part))


def write(
    out: Path,
    evaluation: Evaluation,
    checkpoint: Checkpoint,
    *,
    dataset: Dataset,
    root: Path,
    part: str,
    crops: Crops | None,
) -> None:
    """Write an evaluation folder: a table with a line for each picture, and the figures.

    Args:
        out: The folder; made if need be.
        evaluation: The evaluation.
        checkpoint: The checkpoint that was measured.
        dataset: The data set.
        root: Its folder, or the CSV file.
        part: Name of the part.
        crops: Crops per picture; None for the contract's.
    """
    out.mkdir(parents=True, exist_ok=True)
    # It comes last: predictions of one evaluation are never beside figures of another.
    (out / EVALUATION).unlink(missing_ok=True)
    rows: list[dict[str, Any]] = []
    for sample, score, prediction in zip(evaluation.samples, evaluation.scores, evaluation.predictions, strict=True):
        rows.append(
            {
                "name": sample.name,
                "path": str(sample.path.absolute()),
                "source": sample.source,
                "mos": sample.mos,
                "prediction": round(prediction, 6),
                "error": round(prediction - sample.mos, 6),
                "score": score.score,
                "stderr": score.stderr,
                **({} if score.interval is None else {"low": score.interval.low, "high": score.interval.high}),
                **{f"stage{number}": weight for number, weight in enumerate(score.stage_weights or (), 1)},
                "warnings": " ".join(map(str, score.warnings)),
            }
        )
    pd.DataFrame(rows).to_csv(out / PREDICTIONS, index=False)
    labels = [sample.mos for sample in evaluation.samples]
    about = {
        "checkpoint": {
            "folder": str(checkpoint.folder.absolute()),
            "name": checkpoint.config.name,
            "digest": checkpoint.digest,
        },
        "dataset": dataset.scale.dataset,
        "root": str(root.absolute()),
        "part": part,
        "pictures": len(rows),
        "crops": crops or checkpoint.contract.crops,
        "figures": evaluation.agreement.to_dict(),
        "intervals": intervals(evaluation.predictions, labels),
    }
    with replacing(out / EVALUATION) as fresh:
        fresh.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def measured(folder: Path) -> str:
    """Digest of the checkpoint that an evaluation folder is of; "" if the evaluation is not complete."""
    try:
        about = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
        return str(about["checkpoint"]["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _split(checkpoint: Checkpoint, dataset: Dataset, file: Path | None) -> splits.Split | None:
    own = checkpoint.folder / SPLIT
    if file is None and own.is_file():
        split = splits.load(own)
        listed = {sample.name for sample in dataset.samples}
        # Another CSV file may have the same name: then it lacks some of the split's pictures.
        if split.dataset == base_name(dataset) and {*split.validation, *split.test} <= listed:
            return split
    if file is not None:
        return splits.load(file)
    # A checkpoint of another data set is measured on the official test part.
    try:
        return splits.make(dataset, kind="official", validation_share=0, seed=0)
    except DatasetError:
        return None


def _to_scale(raw: float, own: Scale, scale: Scale) -> float:
    if own == scale or not {own.dataset, scale.dataset} <= set(READERS):
        return raw
    return scale.min + (raw - own.min) / (own.max - own.min) * (scale.max - scale.min)
