"""Putting units together from rows that arrive in any order."""

from collections.abc import Callable, Iterator
from typing import Any


class Collector:
    """Collects rows until their units are complete.

    A piece that is scored again because a node was lost may bring rows a second time; the first ones count.

    Args:
        units: Number of units of the job.
        advance: Called with the numbers of new rows, and of errors among them.
    """

    def __init__(self, units: int, advance: Callable[[int, int], None]) -> None:
        self._advance = advance
        self._done = bytearray(units)
        self._begun: dict[int, _Unit] = {}

    def add(self, block: Any) -> Iterator[tuple[int, Any]]:
        """Take a block of rows with their positions, and yield number and table of each unit that it completes."""
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
        """Assert that every unit that was begun is complete."""
        assert not self._begun, f"rows are missing of {len(self._begun)} units"


class _Unit:
    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._indices: set[int] = set()
        self._count: int | None = None

    def add(self, part: Any) -> tuple[int, int]:
        fresh = [index not in self._indices for index in part["index"].to_pylist()]
        part = part if all(fresh) else part.filter(fresh)
        self._indices.update(part["index"].to_pylist())
        self._parts.append(part)
        self._count = max((count for count in part["count"].to_pylist() if count is not None), default=self._count)
        return len(part), len(part) - part["error"].null_count

    @property
    def complete(self) -> bool:
        return self._count is not None and len(self._indices) == self._count

    def table(self) -> Any:
        import pyarrow as pa

        unit = pa.concat_tables(self._parts).sort_by("index")
        assert unit["index"].to_pylist() == list(range(len(unit)))
        return unit.drop_columns(["unit", "index", "count"])
