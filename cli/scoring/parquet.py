"""Results as Parquet: one type for each column, one way from records to tables and from tables to files.

Each command chooses its columns, and how its files are compressed.
"""

from collections.abc import Sequence
from typing import Any

from cli.scoring.stream import Record, row
from model.defects import DEFECTS

_REALS = ("score", "low", "high", *DEFECTS, "raw_score", "std", "stderr", "percentile")
_INTEGERS = ("crops", "width", "height")


def schema(columns: Sequence[str]) -> Any:
    """The Arrow schema of some columns: float64, int32, lists, and else text."""
    import pyarrow as pa

    types = dict.fromkeys(_REALS, pa.float64()) | dict.fromkeys(_INTEGERS, pa.int32())
    types |= {
        "stage_weights": pa.list_(pa.float64()),
        "warnings": pa.list_(pa.string()),
        "reasons": pa.list_(pa.string()),
    }
    return pa.schema([(name, types.get(name, pa.string())) for name in columns])


def table(records: Sequence[Record], columns: Sequence[str]) -> Any:
    """Records as an Arrow table."""
    import pyarrow as pa

    rows = [row({**record, "path": utf8(record["path"])}, columns) for record in records]
    return pa.Table.from_pylist(rows, schema(columns))


def writer(sink: Any, columns: Sequence[str], *, compression: str) -> Any:
    """Open a Parquet file for tables of some columns; each one written becomes a row group.

    Args:
        sink: A path, or a stream of pyarrow.
        columns: Their names.
        compression: What the file is compressed with.

    Returns:
        A ``pyarrow.parquet.ParquetWriter``, to be closed by the caller.
    """
    import pyarrow.parquet as pq

    return pq.ParquetWriter(sink, schema(columns), compression=compression)


def utf8(path: str) -> str:
    """A path as UTF-8 text, which is all that Parquet holds: bytes of a name that are no text are replaced."""
    return path.encode(errors="surrogateescape").decode(errors="replace")
