"""Rows of scores: their columns, and the Parquet files that hold them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cli.scoring import parquet, stream
from cli.scoring.stream import Record
from model.defects import DEFECTS

if TYPE_CHECKING:
    from model.policies import Policy
    from model.score import QualityScore

COLUMNS = (
    "path",
    "score",
    "low",
    "high",
    *DEFECTS,
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
    "decision",
    "reasons",
    "policy",
    "error",
)
PHOTO = "photo"
"""Column of what picking needs of each photo, as JSON: see ``model.picking.photo``."""


def fields(score: "QualityScore", policy: "Policy | None" = None) -> Record:
    """The fields of a score in a row: those of the service's response, and the weights of the stages."""
    weights = score.stage_weights
    return {**stream.response_fields(score, policy), "stage_weights": None if weights is None else list(weights)}


def table(records: Sequence[Record], *, photos: bool = False) -> Any:
    """Records as an Arrow table of ``COLUMNS``, and of ``PHOTO`` where there are photos to pick from."""
    return parquet.table(records, (*COLUMNS, PHOTO) if photos else COLUMNS)


def to_parquet(rows: Any) -> Any:
    """The content of the Parquet file of a table, as a pyarrow buffer: the same bytes for the same rows."""
    import pyarrow as pa

    buffer = pa.BufferOutputStream()
    with parquet.writer(buffer, rows.column_names, compression="zstd") as writer:
        # Pages of the file follow the chunks of the table, which depend on how it was put together.
        writer.write_table(rows.combine_chunks())
    return buffer.getvalue()


def count_rows(file: Any) -> tuple[int, int]:
    """Count the rows and errors of a Parquet file from its footer.

    Raises:
        pyarrow.ArrowInvalid: It is no complete Parquet file.
    """
    import pyarrow.parquet as pq

    about = pq.ParquetFile(file).metadata
    paths = [about.schema.column(leaf).path for leaf in range(about.num_columns)]
    error = paths.index("error")
    scored = sum(about.row_group(group).column(error).statistics.null_count for group in range(about.num_row_groups))
    return about.num_rows, about.num_rows - scored
