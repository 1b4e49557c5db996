"""What runs on the nodes of a Ray cluster: decoding and scoring, in one process or in separate ones.

Input and output are Arrow tables. A row of scores has the columns of ``rows`` and its ``POSITION``:

    unit   number of the unit
    index  index of the picture in the unit
    count  number of pictures in the unit; null until the last picture of an unlisted archive
"""

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.bulk import rows
from cli.bulk.job import Job
from cli.bulk.units import UNKNOWN, contents
from cli.pictures.archives import ArchiveError
from cli.pictures.picture_ref import PictureRef
from cli.scoring import parquet, stream

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.contract import Contract
    from model.crop_rounds import CropRounds, Crops
    from model.images import Facts
    from model.options import DeviceName, Precision
    from model.policies import Policy
    from model.score import QualityScore
    from model.scorer import Scorer

BLOCK_PICTURES = 16
"""Most pictures whose crops make a block of the object store: 20 MB with the default checkpoint."""
BLOCK_BYTES = 16 * 2**20
"""A block is closed when it is this large."""
ROWS = 64
"""Rows that are handed on together."""
POSITION = ("unit", "index", "count")
Position = dict[str, int | None]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some consecutive pictures of a unit.

    Attributes:
        unit: Number of the unit.
        first: Index of the first picture.
        last: Index after the last picture; None for the unit's end.
    """

    unit: int
    first: int
    last: int | None


def pieces(batch: Any) -> list[Piece]:
    """The pieces in the rows of a table."""
    return [Piece(**row) for row in batch.to_pylist()]


def pictures(job: Job, batch: Any) -> Iterator[tuple[PictureRef, Position]]:
    """The pictures of a table of pieces, each with its position."""
    for piece in pieces(batch):
        yield from _pictures_of_piece(job, piece)


def _pictures_of_piece(job: Job, piece: Piece) -> Iterator[tuple[PictureRef, Position]]:
    unit = job.unit(piece.unit)
    count = None if unit.count == UNKNOWN else unit.count
    index = piece.first
    previous: PictureRef | None = None
    for picture in contents(unit, job.folder, piece.first, piece.last, job.exclusions):
        if previous is not None:
            yield previous, {"unit": piece.unit, "index": index, "count": count}
            index += 1
        # Read at once: whether it is the last picture shows when the next one is requested, and then it is too late.
        previous = _read(picture)
    assert previous is not None
    yield previous, {"unit": piece.unit, "index": index, "count": count or index + 1}


def _read(picture: PictureRef) -> PictureRef:
    name, content = picture
    if isinstance(content, (Path, Exception)):
        return picture
    try:
        data = content()
    except (ArchiveError, OSError) as error:
        return PictureRef(name, error)
    return PictureRef(name, lambda: data)


def load(checkpoint: Any, device: "DeviceName", precision: "Precision") -> "Scorer":
    """Make the scorer of a worker process.

    Args:
        checkpoint: Reference to the checkpoint in the object store.
        device: Where it computes.
        precision: What it computes in.
    """
    import ray
    import torch

    from model.inference.engine import Engine
    from model.scorer import Scorer

    if device == "cpu":
        # Not calibrated: each core has an engine, so one thread is right.
        torch.set_num_threads(1)
    loaded: Checkpoint = ray.get(checkpoint)
    return Scorer(loaded, Engine.of(loaded, device=device, precision=precision))


class DecodeAndScore:
    """Decodes and scores pictures in one process.

    Args:
        checkpoint: Reference to the checkpoint in the object store.
        job: The job.
        crops: As for ``Scorer.score``.
        device: Where it computes.
        precision: What it computes in.
        policy: What decides about the pictures, if anything does.
        photos: Whether to keep what picking needs.
    """

    def __init__(
        self,
        checkpoint: Any,
        job: Job,
        crops: "Crops",
        device: "DeviceName",
        precision: "Precision",
        policy: "Policy | None" = None,
        photos: bool = False,
    ) -> None:
        self._scorer = load(checkpoint, device, precision)
        self._photos = photos
        self._job = job
        self._crops = crops
        self._policy = policy

    def __call__(self, batch: Any) -> Iterator[Any]:
        """Turn a table of pieces into tables of rows."""
        positions: deque[Position] = deque()

        def refs() -> Iterator[PictureRef]:
            for picture, position in pictures(self._job, batch):
                positions.append(position)
                yield picture

        options = (self._scorer, self._crops, self._policy, rows.fields)
        records = stream.records(refs(), *options, photos=self._photos)
        while group := list(islice(records, ROWS)):
            table = rows.table(group, photos=self._photos)
            yield _with_positions(table, [positions.popleft() for _ in group])


def decode(batch: Any, job: Job, contract: "Contract", crops: "Crops", photos: bool = False) -> Iterator[Any]:
    """Turn a table of pieces into blocks of crops."""
    import pyarrow as pa

    block: list[dict[str, Any]] = []
    size = 0
    for picture, position in pictures(job, batch):
        row = {**position, **_decoded(picture, contract, crops, photos)}
        size += len(row.get("items", b""))
        block.append(row)
        if len(block) == BLOCK_PICTURES or size >= BLOCK_BYTES:
            yield pa.Table.from_pylist(block, _schema())
            block, size = [], 0
    if block:
        yield pa.Table.from_pylist(block, _schema())


class ScoreDecoded:
    """Scores pictures that ``decode`` has decoded in another process.

    Args:
        checkpoint: Reference to the checkpoint in the object store.
        crops: As for ``Scorer.score``.
        device: Where it computes.
        precision: What it computes in.
        policy: What decides about the pictures, if anything does.
        photos: Whether to keep what picking needs.
    """

    def __init__(
        self,
        checkpoint: Any,
        crops: "Crops",
        device: "DeviceName",
        precision: "Precision",
        policy: "Policy | None" = None,
        photos: bool = False,
    ) -> None:
        self._scorer = load(checkpoint, device, precision)
        self._photos = photos
        self._crops = crops
        self._policy = policy

    def __call__(self, batch: Any) -> Any:
        """Turn a block of crops into a table of rows."""
        positions = batch.select(POSITION).to_pylist()
        decoded = batch.drop_columns([*POSITION, "items", "details"]).to_pylist()
        good = [index for index, row in enumerate(decoded) if row["error"] is None]
        prepared = [
            _prepared(decoded[index], batch["items"][index], batch["details"][index], self._scorer, self._crops)
            for index in good
        ]
        scores = dict(zip(good, self._scorer.score_prepared(prepared), strict=True))
        records = [
            {"path": row["path"], **(self._fields(row, scores[index]) if index in scores else {"error": row["error"]})}
            for index, row in enumerate(decoded)
        ]
        return _with_positions(rows.table(records, photos=self._photos), positions)

    def _fields(self, row: dict[str, Any], score: "QualityScore") -> stream.Record:
        from model.images.capture import Capture
        from model.picking.look import Look

        fields = rows.fields(score, self._policy)
        if not self._photos:
            return fields
        look = Look.from_bytes(row["look"], Capture(**json.loads(row["capture"])))
        return {**fields, rows.PHOTO: stream.photo(row["path"], score, look, self._policy)}


def _with_positions(table: Any, positions: list[Position]) -> Any:
    import pyarrow as pa

    for name in POSITION:
        table = table.append_column(name, pa.array([position[name] for position in positions], pa.int64()))
    return table


def _schema() -> Any:
    """Columns of a decoded picture: position, facts, and crops, which are ``items`` of ``shape``, with their boxes."""
    import pyarrow as pa

    text, integer = pa.string(), pa.int32()
    types = {**dict.fromkeys(POSITION, pa.int64()), "path": text, "error": text, "width": integer, "height": integer}
    types |= {"format": text, "sha256": text, "warnings": pa.list_(text), "cut_warnings": pa.list_(text)}
    types |= {"boxes": pa.list_(pa.list_(integer)), "shape": pa.list_(integer), "items": pa.large_binary()}
    types |= {"details": pa.large_binary(), "look": pa.binary(), "capture": text}
    return pa.schema(list(types.items()))


def _decoded(picture: PictureRef, contract: "Contract", crops: "Crops", photos: bool) -> dict[str, Any]:
    from model import crop_rounds
    from model.images import ImageError, Limits
    from model.picking.look import Look
    from model.picture_source import open_picture

    name, content = picture
    row: dict[str, Any] = {"path": parquet.utf8(name)}
    try:
        if isinstance(content, Exception):
            raise content
        data = content.read_bytes() if isinstance(content, Path) else content()
        opened = open_picture(data, contract, Limits())
        look = Look.at(opened, data) if photos else None
        views = contract.views(opened, crop_rounds.max_crops(crops, contract))
    except (ArchiveError, ImageError, OSError) as error:
        return {**row, "error": stream.explain(error)}
    return {
        **row,
        **asdict(opened.facts),
        "cut_warnings": views.warnings,
        "boxes": views.boxes,
        "shape": views.items.shape,
        "items": views.items.tobytes(),
        "details": None if views.details is None else views.details.tobytes(),
        "look": None if look is None else look.to_bytes(),
        "capture": None if look is None else json.dumps(asdict(look.capture)),
    }


def _prepared(
    row: dict[str, Any], items: Any, details: Any, scorer: "Scorer", crops: "Crops"
) -> "tuple[Facts, CropRounds]":
    import numpy as np

    from model.crop_rounds import CropRounds
    from model.images import Facts, ImageWarning
    from model.views import Views

    contract = scorer.checkpoint.contract
    # A view of the object store's memory, not a copy.
    flat = np.frombuffer(items.as_buffer(), np.float32 if contract.view == "tokens" else np.uint8)
    side = contract.crop_size
    views = Views(
        items=flat.reshape(row["shape"]),
        boxes=tuple((left, top, right, bottom) for left, top, right, bottom in row["boxes"]),
        warnings=tuple(map(ImageWarning, row["cut_warnings"])),
        details=np.frombuffer(details.as_buffer(), np.uint8).reshape(-1, side, side, 3) if details.is_valid else None,
    )
    facts = Facts(
        **{name: row[name] for name in ("width", "height", "format", "sha256")},
        warnings=tuple(map(ImageWarning, row["warnings"])),
    )
    return facts, CropRounds(views, contract, crops)
