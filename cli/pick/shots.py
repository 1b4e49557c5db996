"""The photos of a run, read back from its journal one by one: memory holds few of them."""

import json
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, overload

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


def scored_photos(scores: str) -> Iterator[dict[str, Any]]:
    """Read what ``smart-iqa score-bulk --photos`` wrote: records as of a journal, in the order of its files.

    Args:
        scores: Its folder or URI.

    Raises:
        ValueError: There are no such files, they are not all there, or they were written without ``--photos``.
        OSError: They cannot be read.
    """
    import pyarrow.parquet as pq

    from cli.bulk import rows
    from cli.bulk.job import ABOUT, SCORES, SUCCESS
    from cli.bulk.stores import Store, is_uri

    store = Store(scores)
    there = {*store.files()}
    files = sorted(name for name in there if SCORES.fullmatch(name))
    if not files:
        raise ValueError(f"{scores} holds no files of smart-iqa score-bulk")
    if SUCCESS not in there:
        raise ValueError(f"{scores} is not complete: run the same score-bulk command again first")
    with store.open(ABOUT) as about:
        folder = json.loads(about.read())["folder"]
    for name in files:
        with store.open(name) as opened:
            file = pq.ParquetFile(opened)
            if rows.PHOTO not in file.schema_arrow.names:
                raise ValueError(f"{scores} was written without --photos, so there is nothing to pick from")
            for batch in file.iter_batches(columns=["path", "score", "error", rows.PHOTO]):
                for row in batch.to_pylist():
                    # Relative paths are relative to where the command was run.
                    path = row["path"] if is_uri(row["path"]) else os.path.join(folder, row["path"])
                    if row["error"] is None:
                        photo = {**json.loads(row[rows.PHOTO]), "name": path}
                        yield {"path": path, "score": row["score"], "photo": photo}
                    else:
                        yield {"path": path, "error": row["error"]}
