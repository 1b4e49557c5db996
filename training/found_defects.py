"""How well a checkpoint finds defects: photos with defects added, against the same photos without them.

The photos are the best of those that are given, by the checkpoint's own scores: they hardly have defects of their own.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from model.score import QualityScore
from model.scorer import Scorer
from training import defects
from training.crops import large_view

GOOD = 0.2
"""Share of the photos that defects are added to: the best ones."""
SEVERITIES = (0.25, 0.5, 0.75, 1.0)
MIDDLE = SEVERITIES.index(0.5)
MIXTURES = 10
"""Mixtures of two or three defects of middle severity, for each photo."""
FLAGGED = 0.5
"""Severity from which a defect counts as found."""

Progress = Callable[[Iterable[Path]], Iterable[Path]]


@dataclass(frozen=True, kw_only=True)
class Found:
    """How well one defect is found. Its severity is ``SEVERITIES[MIDDLE]`` where nothing else is said.

    Attributes:
        name: The defect.
        against_untouched: Area under the ROC curve of its probability: photos with it against untouched ones.
        against_others: The same against photos with one other defect.
        in_mixtures: Photos with it and one or two others, against photos with two or three others.
        named: Share of the photos with it alone in which no other defect is found more severe.
        follows: Rank correlation of the severity that is found with the one that was added, from none to all.
        false_alarms: Share of the untouched photos in which it is found.
    """

    name: str
    against_untouched: float
    against_others: float
    in_mixtures: float
    named: float
    follows: float
    false_alarms: float


@dataclass(frozen=True, kw_only=True)
class FoundDefects:
    """How well one checkpoint finds defects.

    Attributes:
        photos: Number of photos that defects were added to.
        rows: A row for each defect.
        false_alarms: Share of the untouched photos in which any defect is found.
    """

    photos: int
    rows: tuple[Found, ...]
    false_alarms: float

    @property
    def named(self) -> float:
        """Share of the photos with one defect whose most severe one is that."""
        return float(np.mean([row.named for row in self.rows]))


def measure(scorer: Scorer, files: Sequence[Path], *, seed: int = 0, progress: Progress = iter) -> FoundDefects:
    """Add defects to the best of some photos, and look for them.

    Args:
        scorer: A checkpoint that finds defects.
        files: The photos, preferably ones that it was not trained on.
        seed: Seed of noise, directions and mixtures.
        progress: Wraps the iteration over the photos, to show progress.

    Raises:
        ImageError: A photo cannot be scored.
        OSError: A photo cannot be read.
        ValueError: The checkpoint finds no defects.
    """
    names = scorer.checkpoint.contract.defects
    if not names:
        raise ValueError(f"{scorer.model.name} finds no defects")
    scores = dict(zip(files, _scored(scorer, files), strict=True))
    best = sorted(files, key=lambda file: -scores[file].score)[: max(round(GOOD * len(files)), 2)]
    untouched, single, mixed, parts = [], [], [], []
    for place, file in enumerate(progress(sorted(best))):
        contract = scorer.checkpoint.contract
        image, pixel = large_view(contract, contract.decode(file.read_bytes(), scorer.limits))
        pixels_HWC = np.asarray(image)
        rng = np.random.default_rng((seed, place))
        mixtures = [_mixture(names, rng) for _ in range(MIXTURES)]
        pictures = (
            defects.add(pixels_HWC, added, np.random.default_rng((seed, place, number)), pixel=pixel)
            for number, added in enumerate(
                [*({name: severity} for name in names for severity in SEVERITIES), *mixtures]
            )
        )
        rows = [_row(score, names) for score in _scored(scorer, pictures)]
        untouched.append(_row(scores[file], names))
        single.append(np.reshape(rows[:-MIXTURES], (len(names), len(SEVERITIES), 2, len(names))))
        mixed.append(rows[-MIXTURES:])
        parts.append([[name in mixture for name in names] for mixture in mixtures])
    return figures(names, np.array(untouched), np.array(single), np.concatenate(mixed), np.concatenate(parts))


def figures(
    names: Sequence[str],
    untouched_PVD: NDArray[np.float64],
    single_PASVD: NDArray[np.float64],
    mixed_MVD: NDArray[np.float64],
    parts_MD: NDArray[np.bool_],
) -> FoundDefects:
    """Compute the figures from what was found: probabilities and severities (V) of the defects (D).

    Args:
        names: The defects.
        untouched_PVD: What was found in P untouched photos.
        single_PASVD: What was found in them with each defect (A) at each of ``SEVERITIES`` (S).
        mixed_MVD: What was found in M mixtures.
        parts_MD: Which defects these are made of.
    """
    photos = len(untouched_PVD)
    found = []
    for place, name in enumerate(names):
        own_PSV = single_PASVD[:, place, :, :, place]
        others_PV = np.delete(single_PASVD[:, :, MIDDLE, :, place], place, axis=1).reshape(-1, 2)
        with_MV, without_MV = mixed_MVD[parts_MD[:, place]][..., place], mixed_MVD[~parts_MD[:, place]][..., place]
        severities_PL = np.column_stack([untouched_PVD[:, 1, place], own_PSV[:, :, 1]])
        middle_PD = single_PASVD[:, place, MIDDLE, 1]
        found.append(
            Found(
                name=name,
                against_untouched=_area(own_PSV[:, MIDDLE, 0], untouched_PVD[:, 0, place]),
                against_others=_area(own_PSV[:, MIDDLE, 0], others_PV[:, 0]),
                in_mixtures=_area(with_MV[:, 0], without_MV[:, 0]),
                named=float((middle_PD.argmax(axis=1) == place).mean()),
                follows=_follows(severities_PL.ravel(), np.tile((0, *SEVERITIES), photos)),
                false_alarms=float((untouched_PVD[:, 1, place] >= FLAGGED).mean()),
            )
        )
    alarms = float((untouched_PVD[:, 1].max(axis=1) >= FLAGGED).mean())
    return FoundDefects(photos=photos, rows=tuple(found), false_alarms=alarms)


def _mixture(names: Sequence[str], rng: np.random.Generator) -> dict[str, float]:
    """Two or three defects of middle severity that can be in one picture."""
    while True:
        chosen = [str(name) for name in rng.choice(names, rng.integers(2, 4), replace=False)]
        if not {"underexposed", "overexposed"} <= {*chosen}:
            return dict.fromkeys(chosen, SEVERITIES[MIDDLE])


def _scored(scorer: Scorer, pictures: Iterable[NDArray[np.uint8] | Path]) -> list[QualityScore]:
    scores = []
    for _, result in scorer.score_many(pictures):
        if not isinstance(result, QualityScore):
            raise result
        scores.append(result)
    return scores


def _row(score: QualityScore, names: Sequence[str]) -> list[list[float]]:
    """Probabilities and severities of one picture's defects."""
    found = [score.defects[name] for name in names]
    return [[defect.probability for defect in found], [defect.severity for defect in found]]


def _follows(found_N: NDArray[np.float64], added_N: NDArray[np.float64]) -> float:
    """Rank correlation; 0 where the same is found everywhere."""
    return float(stats.spearmanr(found_N, added_N).statistic) if np.ptp(found_N) else 0.0


def _area(with_N: NDArray[np.float64], without_M: NDArray[np.float64]) -> float:
    """Area under the ROC curve: how often one is more likely with the defect than without; ties count half."""
    statistic = stats.mannwhitneyu(with_N, without_M).statistic
    return float(statistic) / (len(with_N) * len(without_M))
