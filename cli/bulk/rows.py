"""Rows of scores: what a job writes, and hands from one process to another."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cli.score import outputs
from cli.scoring.stream import Record

if TYPE_CHECKING:
    from model.score import QualityScore

COLUMNS = (
    "path",
    "score",
    "raw_score",
    "std",
    "stderr",
    "grade",
    "percentile",
    "stage_weights",
    "crops",
    "width",
    "height",
    "format",
    "sha256",
    "warnings",
    "error",
)


def schema() -> Any:
    """Columns and their types in Arrow."""
    import pyarrow as pa

    word, real, whole = pa.string(), pa.float64(), pa.int32()
    types = dict.fromkeys(("score", "raw_score", "std", "stderr", "percentile"), real)
    types |= dict.fromkeys(("crops", "width", "height"), whole)
    types |= {"stage_weights": pa.list_(real), "warnings": pa.list_(word)}
    return pa.schema([(name, types.get(name, word)) for name in COLUMNS])


def told(score: "QualityScore") -> Record:
    """What a row tells of a score: the service's answer, and the weights of the stages."""
    weights = score.stage_weights
    return {**score.to_dict(), "stage_weights": None if weights is None else list(weights)}


def table(records: Iterable[Record]) -> Any:
    """Records as a table of Arrow."""
    import pyarrow as pa

    return pa.Table.from_pylist([outputs.row({**one, "path": text(one["path"])}, COLUMNS) for one in records], schema())


def packed(rows: Any) -> Any:
    """A table as the content of a Parquet file, the same bytes for the same rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = pa.BufferOutputStream()
    # As one chunk: pages of a file follow the chunks of its table.
    pq.write_table(rows.combine_chunks(), buffer, compression="zstd")
    return buffer.getvalue()


def counted(file: Any) -> tuple[int, int]:
    """How many rows and errors a file has, from its end alone.

    Raises:
        pyarrow.ArrowInvalid: It is no whole Parquet file.
    """
    import pyarrow.parquet as pq

    about = pq.ParquetFile(file).metadata
    leaves = [about.schema.column(leaf).path for leaf in range(about.num_columns)]
    leaf = leaves.index("error")
    empty = sum(about.row_group(group).column(leaf).statistics.null_count for group in range(about.num_row_groups))
    return about.num_rows, about.num_rows - empty


def text(path: str) -> str:
    """A path as Parquet holds it, which knows only UTF-8; a path need not be."""
    return path.encode(errors="surrogateescape").decode(errors="replace")
