"""A checkpoint's scores of pictures whose quality is known without asking people: degraded ones and blank ones.

The pictures are degraded at the size that the network sees them in, so that the levels of ``training.distortions`` mean
the same for a photo from a phone and for a thumbnail.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from model.score import QualityScore
from model.scorer import Scorer
from training.distortions import Blank, Kind, blank, degrade

LEVELS = range(1, 6)
PAIRS = tuple(combinations(range(len(LEVELS)), 2))
DRAWS = 5
"""Blank pictures of each kind."""

Progress = Callable[[Iterable[Path]], Iterable[Path]]


@dataclass(frozen=True, kw_only=True)
class Degraded:
    """Scores along one kind of degradation.

    Attributes:
        kind: The kind of degradation.
        untouched: Mean score of the pictures as they are.
        levels: Mean score at each of the five levels.
        violated: Share of the pairs of levels, over all pictures, in which the stronger one does not score lower.
        raised: Share of the pictures that score higher at the first level than untouched.
    """

    kind: Kind
    untouched: float
    levels: tuple[float, ...]
    violated: float
    raised: float


@dataclass(frozen=True, kw_only=True)
class Blanks:
    """Scores of one kind of blank pictures.

    Attributes:
        kind: The kind of blank.
        highest: The highest of their scores.
        worse: Share of the photos that score no higher than that.
    """

    kind: Blank
    highest: float
    worse: float


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """Scores of one checkpoint on degraded and on blank pictures.

    Attributes:
        pictures: Number of photos.
        degraded: A row for each kind of degradation.
        blanks: A row for each kind of blank picture.
    """

    pictures: int
    degraded: tuple[Degraded, ...]
    blanks: tuple[Blanks, ...]

    @property
    def violated(self) -> float:
        """Share of violated pairs over all kinds."""
        return float(np.mean([row.violated for row in self.degraded]))


def measure(scorer: Scorer, files: Sequence[Path], *, seed: int = 0, progress: Progress = iter) -> Behaviour:
    """Score photos, the same photos degraded, and blank pictures.

    Args:
        scorer: The checkpoint.
        files: The photos, preferably ones that it was not trained on.
        seed: Seed of noise and directions.
        progress: Wraps the iteration over the photos, to show progress.

    Raises:
        ImageError: A photo cannot be scored.
        OSError: A photo cannot be read.
    """
    kinds: tuple[Kind, ...] = get_args(Kind)
    scores_PKL = np.stack([_ladders(scorer, file, kinds, (seed, place)) for place, file in enumerate(progress(files))])
    photos_P = scores_PKL[:, 0, 0]
    rows = []
    for place, kind in enumerate(kinds):
        untouched_P, levels_PL = scores_PKL[:, place, 0], scores_PKL[:, place, 1:]
        rows.append(
            Degraded(
                kind=kind,
                untouched=float(untouched_P.mean()),
                levels=tuple(map(float, levels_PL.mean(axis=0))),
                violated=float(np.mean([levels_PL[:, weak] <= levels_PL[:, strong] for weak, strong in PAIRS])),
                raised=float((levels_PL[:, 0] > untouched_P).mean()),
            )
        )
    contract = scorer.checkpoint.contract
    rng = np.random.default_rng(seed)
    blanks = []
    for kind_ in get_args(Blank):
        drawn = (blank(contract.height, contract.width, kind_, rng) for _ in range(DRAWS))
        highest = max(_scores(scorer, drawn))
        blanks.append(Blanks(kind=kind_, highest=highest, worse=float((photos_P <= highest).mean())))
    return Behaviour(pictures=len(files), degraded=tuple(rows), blanks=tuple(blanks))


def _ladders(scorer: Scorer, file: Path, kinds: Sequence[Kind], seed: tuple[int, int]) -> NDArray[np.float64]:
    """Scores of one photo, untouched and at all levels, by kind (K, 6)."""
    contract = scorer.checkpoint.contract
    pixels_HWC = np.asarray(contract.resized(contract.decode(file.read_bytes(), scorer.limits)))
    degraded = (
        # Each level draws the same noise, stronger.
        degrade(pixels_HWC, kind, level, np.random.default_rng((*seed, number)))
        for number, kind in enumerate(kinds)
        for level in LEVELS
    )
    (untouched,) = _scores(scorer, [pixels_HWC])
    levels_KL = np.array(list(_scores(scorer, degraded))).reshape(len(kinds), len(LEVELS))
    return np.column_stack([np.full(len(kinds), untouched), levels_KL])


def _scores(scorer: Scorer, pictures: Iterable[NDArray[np.uint8]]) -> Iterator[float]:
    for _, result in scorer.score_many(pictures):
        if not isinstance(result, QualityScore):
            raise result
        yield result.score
