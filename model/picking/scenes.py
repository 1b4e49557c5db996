"""Groups of photos that show the same scene from nearly the same place."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images.capture import Capture
from model.picking import candidates
from model.picking.alignment import Structure, align
from model.picking.candidates import layout
from model.picking.photo import Photo

FARTHEST = 27
"""Bits, of 64, in which perceptual hashes of pictures of the same scene differ at most."""
OVERLAP = 0.65
"""Least share of the area that two pictures of the same scene have in common."""
AGREEMENT, AGREEMENT_SOON = 0.52, 0.4
"""Least agreement of their structures, and of pictures that one camera took within ``SOON`` seconds."""
SOON = 3.0
ASKED = 3
"""Photos of each of two groups that are compared before the groups become one."""
KEPT = 512
"""Photos whose structures are kept at a time, 140 kB each."""


def group(photos: Sequence[Photo]) -> list[list[int]]:
    """Group photos by what they show.

    Args:
        photos: The photos; each is read several times, neighbours close to each other.

    Returns:
        The places of the photos of each group, rising; the groups by their first photo. Most may be of one photo.
    """
    count = len(photos)
    if count < 2:
        return [[place] for place in range(count)]
    sketches = [_sketch(photo) for photo in photos]
    alike = _Alike(photos, sketches)
    layouts, descriptions, captures = (
        np.stack([one.layout for one in sketches]),
        np.stack([one.description for one in sketches]),
        [one.capture for one in sketches],
    )
    found = [
        (agreement, one, other)
        for one, other in candidates.pairs(layouts, descriptions, captures)
        if (agreement := alike.agreement(one, other)) is not None
    ]
    members = {place: [place] for place in range(count)}
    owner = list(range(count))
    # The surest first, so that doubtful ones meet groups that are complete.
    for _, one, other in sorted(found, key=lambda pair: (-pair[0], *pair[1:])):
        first, second = owner[one], owner[other]
        if first == second or not alike.groups(members[first], members[second]):
            continue
        first, second = min(first, second), max(first, second)
        members[first] += members.pop(second)
        for place in members[first]:
            owner[place] = first
    return [sorted(own) for _, own in sorted(members.items())]


class _Sketch(NamedTuple):
    """What is kept of each photo: half a kilobyte."""

    layout: NDArray[np.float32]
    description: NDArray[np.float32]
    capture: Capture
    hash_64: NDArray[np.bool_]
    sha256: str


def _sketch(photo: Photo) -> _Sketch:
    luma = Image.fromarray(photo.look.luma_HW)
    hash_64 = imagehash.phash(luma).hash.ravel()
    return _Sketch(layout(photo.look), np.array(photo.description, np.float32), photo.capture, hash_64, photo.sha256)


class _Alike:
    """Tells whether photos show the same scene.

    Args:
        photos: The photos.
        sketches: What is kept of each.
    """

    def __init__(self, photos: Sequence[Photo], sketches: Sequence[_Sketch]) -> None:
        self._sketches = sketches
        self._structure = lru_cache(maxsize=KEPT)(lambda place: Structure(photos[place].look.luma_HW))

    def agreement(self, one: int, other: int) -> float | None:
        """How well the structures of two photos agree; None if they do not show the same scene."""
        first, second = self._sketches[one], self._sketches[other]
        if first.sha256 == second.sha256:
            return 1.0
        if np.count_nonzero(first.hash_64 != second.hash_64) > FARTHEST:
            return None
        agreement = align(self._structure(one), self._structure(other), overlap=OVERLAP).agreement
        return agreement if agreement >= (AGREEMENT_SOON if self._soon(one, other) else AGREEMENT) else None

    def groups(self, first: Sequence[int], second: Sequence[int]) -> bool:
        """Whether two groups are one: whether at least half of the pairs between some of their photos are alike."""
        answers = [self.agreement(one, other) is not None for one in _some(first) for other in _some(second)]
        return 2 * sum(answers) >= len(answers)

    def _soon(self, one: int, other: int) -> bool:
        first, second = self._sketches[one].capture, self._sketches[other].capture
        if first.taken is None or second.taken is None or first.camera != second.camera:
            return False
        return abs(first.taken - second.taken) <= SOON


def _some(group: Sequence[int]) -> list[int]:
    """A few photos of a group, spread over it."""
    return [group[round(place)] for place in np.linspace(0, len(group) - 1, min(ASKED, len(group)))]
