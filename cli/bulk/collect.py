"""From rows that come in any order to the tables of whole units."""

from collections.abc import Callable, Iterator
from typing import Any

from cli.bulk import rows
from cli.bulk.ray_workers import MARKS


class Collector:
    """Puts units together.

    A piece that was begun again after a node was lost may bring rows a second time; the first ones count.

    Args:
        units: How many there are at most.
        advance: Called with the pictures and errors that are new.
    """

    def __init__(self, units: int, advance: Callable[[int, int], None]) -> None:
        self._advance = advance
        self._done = bytearray(units)
        self._begun: dict[int, _Unit] = {}

    def add(self, block: Any) -> Iterator[tuple[int, Any]]:
        """Take in a block of rows with their marks; gives units that are complete."""
        import pyarrow.compute as pc

        for number in pc.unique(block["unit"]).to_pylist():
            if self._done[number]:
                continue
            unit = self._begun.setdefault(number, _Unit())
            self._advance(*unit.add(block.filter(pc.equal(block["unit"], number))))
            if unit.complete:
                self._done[number] = 1
                yield number, self._begun.pop(number).table()

    def check(self) -> None:
        """Make sure that nothing is missing."""
        assert not self._begun, f"rows are missing of {len(self._begun)} units"


class _Unit:
    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._places: set[int] = set()
        self._count: int | None = None

    def add(self, part: Any) -> tuple[int, int]:
        fresh = [place not in self._places for place in part["place"].to_pylist()]
        part = part if all(fresh) else part.filter(fresh)
        self._places.update(part["place"].to_pylist())
        self._parts.append(part)
        self._count = max((count for count in part["of"].to_pylist() if count is not None), default=self._count)
        return len(part), len(part) - part["error"].null_count

    @property
    def complete(self) -> bool:
        return self._count is not None and len(self._places) == self._count

    def table(self) -> Any:
        import pyarrow as pa

        whole = pa.concat_tables(self._parts).sort_by("place")
        assert whole["place"].to_pylist() == list(range(len(whole)))
        return whole.drop_columns(list(MARKS)).select(rows.COLUMNS)
