"""Selecting pictures by score, sorting them, and copying or moving them."""

import errno
import filecmp
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from cli.pictures import archives
from model.files import replacing


class SortOrder(StrEnum):
    """Orders of results; pictures that could not be scored come last."""

    WORST = "worst"
    BEST = "best"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Bounds of scores, both exclusive.

    Raises:
        ValueError: No score can be within them.
    """

    below: float | None = None
    above: float | None = None

    def __post_init__(self) -> None:
        if self.below is not None and self.above is not None and self.below <= self.above:
            raise ValueError(f"no score is above {self.above:g} and below {self.below:g}")

    def __bool__(self) -> bool:
        """Whether there is a bound."""
        return self.below is not None or self.above is not None

    def __str__(self) -> str:
        bounds = {"above": self.above, "below": self.below}
        return " and ".join(f"{name} {bound:g}" for name, bound in bounds.items() if bound is not None)

    def takes(self, score: float) -> bool:
        """Whether a score is within the bounds."""
        return (self.below is None or score < self.below) and (self.above is None or score > self.above)

    def scored(self, scores_N: NDArray[np.float64], order: SortOrder | None) -> NDArray[np.int64]:
        """Indices of the pictures whose scores are within the bounds; equal scores keep their order."""
        bounds = (-np.inf if self.above is None else self.above, np.inf if self.below is None else self.below)
        indices = np.flatnonzero((scores_N > bounds[0]) & (scores_N < bounds[1]))
        if order is None:
            return indices
        sign = 1 if order is SortOrder.WORST else -1
        return indices[np.argsort(sign * scores_N[indices], kind="stable")]

    def listed(self, scores_N: NDArray[np.float64], order: SortOrder | None) -> NDArray[np.int64]:
        """Indices of the pictures that outputs name: ``scored``, and those that could not be scored."""
        indices = np.concatenate([self.scored(scores_N, order), np.flatnonzero(np.isnan(scores_N))])
        return np.sort(indices) if order is None else indices


def transfer(names: Iterable[str], folder: Path, *, move: bool) -> Iterator[tuple[str, Exception | None]]:
    """Copy or move pictures into a folder, by their whole paths; no file is overwritten.

    Args:
        names: Paths of the pictures. One that an earlier, interrupted run has moved counts as moved.
        folder: ``photos/a.jpg`` becomes ``folder/photos/a.jpg``; roots and ``..`` are left out.
        move: Whether to move, not copy.

    Yields:
        Each name with None, or with the reason why it was not copied or moved.
    """
    for name in names:
        target = folder.joinpath(*(part for part in PurePath(name).parts if part not in ("..", PurePath(name).anchor)))
        try:
            if os.path.lexists(name):
                _transfer_file(name, target, move=move)
            elif archives.containing_archive(name):
                raise archives.ArchiveError("members of archives are not moved or copied")
            elif not (move and target.is_file()):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        except (archives.ArchiveError, OSError) as error:
            yield name, error
        else:
            yield name, None


def _transfer_file(name: str, target: Path, *, move: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if move and not os.path.islink(name):
            _link(name, target)
        else:
            _copy(name, target)
    except FileExistsError:
        # The same picture: an earlier run was killed between linking and unlinking.
        if not filecmp.cmp(name, target, shallow=False):
            raise
    if move:
        os.unlink(name)


def _link(name: str, target: Path) -> None:
    # Renaming would overwrite an existing file; linking fails instead.
    try:
        os.link(name, target)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without links
        _copy(name, target)


def _copy(name: str, target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    with replacing(target) as fresh:
        shutil.copy2(name, fresh)
