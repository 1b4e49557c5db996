"""Photos that belong together and are kept whole: exposure brackets, focus stacks, panoramas.

The camera tells of brackets and of the distance that it focused on (EXIF). Where it does not, the pictures do: each
brighter than the one before by the same step; each sharp where the others are not; each beside the one before.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.picking.alignment import Structure, align
from model.picking.candidates import SECONDS
from model.picking.photo import Photo

Kind = Literal["bracket", "focus_stack", "panorama"]

LEAST = 3
"""Photos of a sequence, at least; two that a camera calls a bracket are one."""
STEP = 0.3
"""Stops by which two exposures differ at least."""
PLAIN_STEP = 0.7
"""Stops by which they do where the camera tells nothing: less may be chance."""
EVEN = 1.35
"""How many times larger the largest step of a bracket may be than its smallest, where the camera tells nothing."""
EDGE, STACKED_CONTRAST = 1.4, 20
"""How many times sharper a part is at best than at worst, and contrast from which a part tells that."""
PARTS, SHARE = 0.5, 0.08
"""Share of the parts that are sharper in one photo of a stack, and of those that each photo is the sharpest in."""
RISING, UNEVEN = 0.5, 0.9
"""Share of the parts that become sharper up to one photo and softer after it, and what still counts as sharper."""
BESIDE = 0.2
"""Shift of two neighbours in a panorama, at least, as a share of the side that they are shifted along."""
LEVEL = 0.2
"""Shift across that direction, at most."""
JOINED = 0.6
"""Least agreement of two neighbours where they overlap."""
STILL = 0.02
"""Shift between two photos of a focus stack, at most: a quarter of a part."""
_OVERLAP, _STILL = 0.15, 0.8
_USABLE = (16, 235)
"""Brightness, in 8-bit values, that is neither black nor blown out."""


def brackets(photos: Sequence[Photo]) -> list[list[int]]:
    """Find exposure brackets among different photos of one scene, in the order of taking.

    Returns:
        The places of the photos of each bracket.
    """
    told = [place for place, photo in enumerate(photos) if photo.capture.bracketed]
    if len(told) >= 2:
        return [told]
    return list(_by_bias(photos)) or ([list(range(len(photos)))] if _in_steps(photos) else [])


def _by_bias(photos: Sequence[Photo]) -> Iterator[list[int]]:
    """Find brackets by the compensation that the camera was told: three photos or more in a row, each another one."""
    run: list[int] = []
    for place, photo in enumerate(photos):
        bias = photo.capture.bias
        biases = [photos[other].capture.bias for other in run]
        if bias is not None and bias not in biases:
            run.append(place)
            continue
        if len(run) >= LEAST:
            yield run
            run, biases = [], []
        # What came before the same compensation is no part of a bracket with this photo.
        run = [] if bias is None else [*run[biases.index(bias) + 1 if bias in biases else 0 :], place]
    if len(run) >= LEAST:
        yield run


def _in_steps(photos: Sequence[Photo]) -> bool:
    """Whether all photos are the same picture, brighter from one to the next."""
    if len(photos) < LEAST:
        return False
    brightness_N = np.sort(_brightness(photos))
    exposures_N = np.array([np.nan if one.capture.exposure is None else one.capture.exposure for one in photos])
    if not np.isnan(exposures_N).any():
        # A camera that follows the light changes its exposure too, but not how bright the picture is.
        steps_N = np.diff(np.sort(exposures_N))
        return bool(steps_N.min() >= STEP and np.ptp(brightness_N) >= np.ptp(exposures_N) / 2)
    steps_N = np.diff(brightness_N)
    return bool(len(photos) % 2 and steps_N.min() >= PLAIN_STEP and steps_N.max() <= EVEN * steps_N.min())


def focus_stack(photos: Sequence[Photo]) -> bool:
    """Whether photos of one scene, in order, are focused farther and farther, or nearer and nearer."""
    distances = [photo.capture.distance for photo in photos]
    steps = [one - other for one, other in pairwise(distances) if one is not None and other is not None]
    told = len(steps) == len(photos) - 1 and (min(steps, default=0) > 0 or max(steps, default=0) < 0)
    if len(photos) < (LEAST if told else LEAST + 1):
        return False
    # Parts of pictures that do not lie over each other cannot be compared.
    structures = [Structure(photo.look.luma_HW) for photo in photos]
    shifts = [align(*pair, overlap=_STILL, scales=(1.0,)) for pair in pairwise(structures)]
    if any(max(abs(shift.across), abs(shift.down)) > STILL for shift in shifts):
        return False
    acuity_NHW = np.stack([photo.look.acuity_HW for photo in photos]).astype(np.float32)
    contrast_HW = np.mean([photo.look.contrast_HW for photo in photos], axis=0)
    telling_HW = (contrast_HW >= STACKED_CONTRAST) & (acuity_NHW.max(axis=0) >= EDGE * acuity_NHW.min(axis=0).clip(1))
    if telling_HW.sum() < PARTS * max((contrast_HW >= STACKED_CONTRAST).sum(), 1) or not telling_HW.any():
        return False
    best_P = acuity_NHW[:, telling_HW].argmax(axis=0)
    shares_N = np.bincount(best_P, minlength=len(photos)) / len(best_P)
    # The first or the last may have missed everything.
    if (shares_N >= SHARE).sum() < len(photos) - 1:
        return False
    sharp_NP = acuity_NHW[:, telling_HW]
    place_N1 = np.arange(len(photos))[:, None]
    before_NP = np.where(place_N1 < best_P, sharp_NP, 0)
    after_NP = np.where(place_N1 > best_P, sharp_NP, 0)[::-1]
    steady_P = [(side >= UNEVEN * np.maximum.accumulate(side, axis=0)) | (side == 0) for side in (before_NP, after_NP)]
    return bool(np.logical_and(*steady_P).all(axis=0).mean() >= RISING)


def panoramas(photos: Sequence[Photo], order: Sequence[int]) -> Iterator[list[int]]:
    """Find rows of photos of which each continues the one before.

    Args:
        photos: The photos.
        order: Their places, in the order in which they were taken.

    Yields:
        The places of the photos of a panorama, in that order.
    """
    row: list[int] = []
    # The last photo of a row does not begin another one.
    yielded: list[int] = []
    before: tuple[float, float] | None = None
    for place, following in pairwise(order):
        shift = _beside(photos[place], photos[following])
        straight = shift is not None and (before is None or _same_way(before, shift))
        if row and not straight:
            if len(row) >= LEAST:
                yielded = row
                yield row
            row, before = [], None
        if shift is not None and not (yielded and place == yielded[-1]):
            row = row or [place]
            row.append(following)
            before = shift
    if len(row) >= LEAST:
        yield row


def _beside(one: Photo, other: Photo) -> tuple[float, float] | None:
    """How far a photo lies to the right of another one and below it, as shares; None unless they only overlap."""
    first, second = one.capture, other.capture
    if first.camera != second.camera:
        return None
    if first.taken is not None and second.taken is not None and abs(first.taken - second.taken) > SECONDS:
        return None
    found = align(Structure(one.look.luma_HW), Structure(other.look.luma_HW), overlap=_OVERLAP, scales=(1.0,))
    along, level = sorted((abs(found.across), abs(found.down)), reverse=True)
    return (found.across, found.down) if found.agreement >= JOINED and along >= BESIDE and level <= LEVEL else None


def _same_way(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return float(np.dot(one, other)) > 0.8 * float(np.linalg.norm(one) * np.linalg.norm(other))


def _brightness(photos: Sequence[Photo]) -> NDArray[np.float64]:
    """How bright each photo is beside the first one, in stops, by the parts that both show."""
    first_HW = photos[0].look.luma_HW.astype(np.float64)
    stops = []
    for photo in photos:
        own_HW = photo.look.luma_HW.astype(np.float64)
        both_HW = (np.minimum(first_HW, own_HW) >= _USABLE[0]) & (np.maximum(first_HW, own_HW) <= _USABLE[1])
        if not both_HW.any():
            both_HW = np.ones_like(both_HW)
        # Of 8-bit values, a stop of light is about 1 / 2.2 in their logarithm.
        stops.append(2.2 * float(np.median(np.log2((own_HW[both_HW] + 1) / (first_HW[both_HW] + 1)))))
    return np.array(stops)
