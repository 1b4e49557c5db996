"""Rows that come in any order, and twice, become whole units."""

import numpy as np
import pyarrow as pa

from cli.bulk import rows
from cli.bulk.collect import Collector
from cli.scoring import parquet


def block(unit: int, indices: list[int], count: int | None) -> pa.Table:
    errors = {3: {"error": "broken"}}
    records = [{"path": f"{unit}-{index}", **errors.get(index, {})} for index in indices]
    table = rows.table(records)
    positions = {"unit": [unit] * len(indices), "index": indices, "count": [count] * len(indices)}
    for name, values in positions.items():
        table = table.append_column(name, pa.array(values, pa.int64()))
    return table


def test_units_come_when_they_are_complete() -> None:
    counted = np.zeros(2, dtype=int)

    def advance(*new: int) -> None:
        counted[:] += new

    collector = Collector(3, advance)
    assert list(collector.add(block(1, [2, 3], 4))) == []
    assert list(collector.add(block(0, [1], None))) == []
    assert counted.tolist() == [3, 1]
    mixed = pa.concat_tables([block(1, [0, 1], 4), block(0, [0], None), block(2, [0], 1)])
    done = dict(collector.add(mixed))
    assert {number: table["path"].to_pylist() for number, table in done.items()} == {
        1: ["1-0", "1-1", "1-2", "1-3"],
        2: ["2-0"],
    }
    assert done[1].schema == parquet.schema(rows.COLUMNS)
    ((number, table),) = collector.add(block(0, [2], 3))
    assert (number, len(table)) == (0, 3)
    collector.check()


def test_rows_that_come_twice_count_once() -> None:
    counted: list[tuple[int, int]] = []
    collector = Collector(1, lambda *new: counted.append(new))
    list(collector.add(block(0, [0, 3], 4)))
    assert list(collector.add(block(0, [3, 1], 4))) == []
    ((_, table),) = collector.add(block(0, [0, 1, 2], 4))
    assert table["path"].to_pylist() == ["0-0", "0-1", "0-2", "0-3"]
    assert list(collector.add(block(0, [0, 1, 2, 3], 4))) == []
    assert counted == [(2, 1), (1, 0), (1, 0)]
