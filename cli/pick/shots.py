"""The photos of a run, read back from its journal one by one: memory holds few of them."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, overload

from cli.score.journal import Journal

if TYPE_CHECKING:
    from model.picking.photo import Photo

KEPT = 2048
"""Photos that are kept at a time; about seven kilobytes each."""


class Shots(Sequence["Photo"]):
    """Photos that were scored.

    Args:
        journal: The journal of the run.
        indices: Where they stand in it.
    """

    def __init__(self, journal: Journal, indices: Sequence[int]) -> None:
        self._journal, self._indices = journal, indices
        self._read = lru_cache(maxsize=KEPT)(self._from_journal)

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, place: int) -> "Photo": ...

    @overload
    def __getitem__(self, place: slice) -> "Sequence[Photo]": ...

    def __getitem__(self, place: int | slice) -> "Photo | Sequence[Photo]":
        """A photo."""
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        return self._read(place)

    def _from_journal(self, place: int) -> "Photo":
        from model.picking.photo import Photo

        (record,) = self._journal.records([self._indices[place]])
        return Photo.from_dict(record["photo"])
