"""Which photo of a group of nearly equal ones is the best, and why.

The model is one of pairs: the log odds that people prefer one photo over another are a weighted sum of the differences
between them: of their scores, of their defects, of how sharp the main subject is, and of how far their light and
colours are from what most photos of the group have. The weights were fitted on bursts that were made of photos which
were not trained on: ``python -m benchmarks.picking --fit``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.defects import DEFECTS
from model.picking.look import CELLS
from model.picking.photo import Photo

SCORE = 0.08
"""Weight of a point of the score."""
SEVERITIES: Mapping[str, float] = {
    "defocus": 2.6,
    "motion_blur": 2.1,
    "noise": 2.8,
    "compression": 3.1,
    "upscaled": 3.4,
    "underexposed": 1.5,
    "overexposed": 2.3,
    "low_contrast": 1.7,
    "colour_cast": 1.9,
    "saturation": 1.6,
}
"""Weight of each defect's severity, against the photo that has it."""
SHARPNESS = 1.6
"""Weight of the sharpness of the subject, for each doubling."""
TONES = (1.4, 2.6, 1.5, 1.2)
"""Weight of a stop by which brightness, balance of colours, saturation and contrast are off the group's median."""
CENTRE = 0.2
"""How far from the middle the main subject is looked for, as a share of the side."""
CLEAR = 0.2
"""Severity by which another photo has more of a defect, at least, for less of it to be a reason."""
SHARPER = 0.3
"""Doublings by which another photo's subject is less sharp, at least, for sharpness to be one."""
BETTER = 2.0
"""Points by which the score is higher than any other, at least, for that to be one."""
LARGER = 1.2
"""How many times more pixels it has than any other, at least, for that to be one."""
TELLING = 0.25
"""Share of these differences by which another one may be better in what is a reason: that much is chance."""
_DARK = 4.0


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The order of the photos of a group.

    Attributes:
        order: Their places, the best first.
        preferred: Probability that people prefer the best to each, in that order, rounded to three decimals; 0.5 for
            the best itself.
        reasons: Codes of what no other is better in than the best one, and some are clearly worse in;
            ``nearly_equal`` where that is nothing.
    """

    order: tuple[int, ...]
    preferred: tuple[float, ...]
    reasons: tuple[str, ...]


def rank(photos: Sequence[Photo]) -> Ranking:
    """Rank different photos of a group; equal ones keep their order."""
    appeal_N = features(photos) @ weights()
    order = sorted(range(len(photos)), key=lambda place: -appeal_N[place])
    best = order[0]
    preferred = tuple(round(1 / (1 + math.exp(-min(appeal_N[best] - appeal_N[place], 50))), 3) for place in order)
    return Ranking(order=tuple(order), preferred=preferred, reasons=_reasons(photos, best))


def weights() -> NDArray[np.float64]:
    """Weights of ``features``."""
    return np.array([SCORE, *(-SEVERITIES[name] for name in DEFECTS), SHARPNESS, *(-tone for tone in TONES)])


def features(photos: Sequence[Photo]) -> NDArray[np.float64]:
    """What each photo of a group is judged by, (N, F): score, severities, sharpness, tones away from the group's."""
    severities_ND = np.array([[photo.severities[name] for name in DEFECTS] for photo in photos])
    scores_N1 = np.array([[photo.score] for photo in photos])
    tones_NT = np.array([_tones(photo) for photo in photos])
    away_NT = np.abs(tones_NT - np.median(tones_NT, axis=0))
    # Both ratios of colours are one distance.
    away_NT = np.column_stack([away_NT[:, 0], np.hypot(away_NT[:, 1], away_NT[:, 2]), away_NT[:, 3:]])
    return np.hstack([scores_N1, severities_ND, sharpness(photos)[:, None], away_NT])


def sharpness(photos: Sequence[Photo]) -> NDArray[np.float64]:
    """How sharp the main subject is in each photo of a group, in doublings.

    The subject is what is sharp in any of them, in the middle rather than at the edges: a photo that is sharp elsewhere
    has missed it. Of two photos that are as sharp by the pixel, the larger one shows more.
    """
    acuity_NHW = np.stack([photo.look.acuity_HW for photo in photos]) / 255.0
    contrast_HW = np.mean([photo.look.contrast_HW for photo in photos], axis=0)
    away_C = (np.arange(CELLS) + 0.5) / CELLS - 0.5
    middle_HW = np.exp(-(away_C[:, None] ** 2 + away_C**2) / (2 * CENTRE**2))
    subject_HW = contrast_HW * middle_HW * acuity_NHW.max(axis=0) ** 2
    shown_N = (acuity_NHW * subject_HW).sum(axis=(1, 2)) / max(float(subject_HW.sum()), 1e-9)
    side_N = np.sqrt([photo.width * photo.height for photo in photos])
    doublings_N: NDArray[np.float64] = np.log2(shown_N + 0.02) + np.log2(side_N)
    return doublings_N


def _tones(photo: Photo) -> tuple[float, ...]:
    """Brightness, red and blue beside green, saturation and contrast of a photo, in stops."""
    colours_PC = photo.look.colours_HWC.reshape(-1, 3) + _DARK
    red, green, blue = colours_PC.mean(axis=0)
    grey_P = colours_PC.mean(axis=1)
    coloured = float(np.abs(colours_PC - grey_P[:, None]).mean() / colours_PC.mean())
    brightness = float(np.log2(grey_P).mean())
    contrast = math.log2(float(grey_P.std()) + _DARK)
    return brightness, math.log2(red / green), math.log2(blue / green), math.log2(coloured + 0.02), contrast


_LEAST: Mapping[str, tuple[str, ...]] = {
    "least_motion_blur": ("motion_blur",),
    "least_noise": ("noise",),
    "least_compression": ("compression",),
    "best_exposed": ("underexposed", "overexposed"),
    "best_contrast": ("low_contrast",),
    "truest_colours": ("colour_cast", "saturation"),
}
"""Reasons, and the defects that no photo has less of then."""


def _reasons(photos: Sequence[Photo], best: int) -> tuple[str, ...]:
    others = [place for place in range(len(photos)) if place != best]
    if not others:
        return ()
    sharpness_N = sharpness(photos)
    lead_N = sharpness_N[best] - sharpness_N[others]
    reasons = ["sharpest_in_group"] if lead_N.min() >= -TELLING * SHARPER and lead_N.max() >= SHARPER else []
    for code, defects in _LEAST.items():
        worst_N = np.array([max(photo.severities[name] for name in defects) for photo in photos])
        lead_N = worst_N[others] - worst_N[best]
        if lead_N.min() >= -TELLING * CLEAR and lead_N.max() >= CLEAR:
            reasons.append(code)
    scores, pixels = [photo.score for photo in photos], [photo.width * photo.height for photo in photos]
    if scores[best] >= max(scores[place] for place in others) + BETTER:
        reasons.append("highest_score")
    if pixels[best] >= LARGER * max(pixels[place] for place in others):
        reasons.append("most_pixels")
    return tuple(reasons) or ("nearly_equal",)
