"""How well a checkpoint agrees with human scores, measured through the serving path."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import track

from model.scorer import QualityScore, Scorer
from training.correlation import Agreement, measure
from training.datasets import DatasetError, Sample


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of all pictures, in order, and their agreement with the labels on the raw scale."""

    scores: tuple[QualityScore, ...]
    agreement: Agreement


def evaluate(
    scorer: Scorer, samples: Sequence[Sample], *, crops: int | None = None, description: str = "evaluating"
) -> Evaluation:
    """Score pictures with decode, contract and engine of the service, and compare with their labels.

    Args:
        scorer: The checkpoint to judge.
        samples: Labelled pictures.
        crops: Crops per picture; the contract's count if None.
        description: Text of the progress bar.

    Raises:
        DatasetError: A picture cannot be decoded.
    """
    scores = []
    results = scorer.score_many([sample.path for sample in samples], crops)
    for path, result in track(results, description, total=len(samples), console=Console(stderr=True)):
        if not isinstance(result, QualityScore):
            raise DatasetError(f"{path}: {result}") from result
        scores.append(result)
    agreement = measure([score.raw_score for score in scores], [sample.mos for sample in samples])
    return Evaluation(scores=tuple(scores), agreement=agreement)
