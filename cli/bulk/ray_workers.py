"""What runs on the nodes of a cluster: decoding, engines, or both together.

Everything comes in and goes out as tables of Arrow. A row of scores has the columns of ``rows`` and three more:

    unit   the unit
    place  the picture's place in it
    of     how many pictures the unit has, null until somebody knows
"""

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
from cli.scoring import stream

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.contract import Contract
    from model.crop_rounds import CropRounds, Crops
    from model.images import Facts
    from model.options import DeviceName, Precision
    from model.scorer import Scorer

BLOCK_PICTURES = 16
"""Pictures whose crops make a block of the object store at most: 20 MB with the default checkpoint."""
BLOCK_BYTES = 16 * 2**20
"""A block is closed when it has got so large."""
ROWS = 64
"""Rows that are handed on together."""
MARKS = ("unit", "place", "of")
Marks = dict[str, int | None]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some of the pictures of a unit.

    Attributes:
        unit: Its number.
        first: The place of the first one.
        last: The place after the last one; None is the end.
    """

    unit: int
    first: int
    last: int | None


def pieces(batch: Any) -> list[Piece]:
    """The pieces that a table holds."""
    return [Piece(**row) for row in batch.to_pylist()]


def marked(job: Job, piece: Piece) -> Iterator[tuple[PictureRef, Marks]]:
    """The pictures of a piece, each with its unit and place."""
    unit = job.unit(piece.unit)
    count = None if unit.count == UNKNOWN else unit.count
    before: PictureRef | None = None
    place = piece.first
    for found in contents(unit, job.folder, piece.first, piece.last):
        if before is not None:
            yield before, {"unit": piece.unit, "place": place, "of": count}
            place += 1
        # Whether it is the last one is known after the next one was asked for, when it could no longer be read.
        before = _read(found)
    assert before is not None
    yield before, {"unit": piece.unit, "place": place, "of": count or place + 1}


def _read(found: PictureRef) -> PictureRef:
    name, content = found
    if isinstance(content, (Path, Exception)):
        return found
    try:
        data = content()
    except (ArchiveError, OSError) as error:
        return PictureRef(name, error)
    return PictureRef(name, lambda: data)


def load(checkpoint: Any, device: "DeviceName", precision: "Precision") -> "Scorer":
    """A scorer in a process of a cluster.

    Args:
        checkpoint: Reference to the checkpoint in the object store.
        device: Where it computes.
        precision: And how.
    """
    import ray
    import torch

    from model.inference.engine import Engine
    from model.scorer import Scorer

    if device == "cpu":
        # There is an engine for each core.
        torch.set_num_threads(1)
    loaded: Checkpoint = ray.get(checkpoint)
    return Scorer(loaded, Engine.of(loaded, device=device, precision=precision))


class DecodeAndScore:
    """Decodes and scores in one process."""

    def __init__(self, checkpoint: Any, job: Job, crops: "Crops", device: "DeviceName", precision: "Precision") -> None:
        self._scorer = load(checkpoint, device, precision)
        self._job = job
        self._crops = crops

    def __call__(self, batch: Any) -> Iterator[Any]:
        """From pieces to rows."""
        marks: deque[Marks] = deque()
        scored = stream.records(self._found(batch, marks), self._scorer, self._crops, rows.told)
        while some := list(islice(scored, ROWS)):
            yield _with_marks(rows.table(some), [marks.popleft() for _ in some])

    def _found(self, batch: Any, marks: "deque[Marks]") -> Iterator[PictureRef]:
        for piece in pieces(batch):
            for one, mark in marked(self._job, piece):
                marks.append(mark)
                yield one


def decode(batch: Any, job: Job, contract: "Contract", crops: "Crops") -> Iterator[Any]:
    """From pieces to blocks of crops."""
    import pyarrow as pa

    block: list[dict[str, Any]] = []
    size = 0
    for piece in pieces(batch):
        for one, mark in marked(job, piece):
            row = {**mark, **_decoded(one, contract, crops)}
            size += len(row.get("items", b""))
            block.append(row)
            if len(block) == BLOCK_PICTURES or size >= BLOCK_BYTES:
                yield pa.Table.from_pylist(block, _schema())
                block, size = [], 0
    if block:
        yield pa.Table.from_pylist(block, _schema())


class ScoreDecoded:
    """Scores what was decoded elsewhere."""

    def __init__(self, checkpoint: Any, crops: "Crops", device: "DeviceName", precision: "Precision") -> None:
        self._scorer = load(checkpoint, device, precision)
        self._crops = crops

    def __call__(self, batch: Any) -> Any:
        """From blocks of crops to rows."""
        marks = batch.select(MARKS).to_pylist()
        about = batch.drop_columns([*MARKS, "items"]).to_pylist()
        good = [place for place, one in enumerate(about) if one["error"] is None]
        prepared = [_prepared(about[place], batch["items"][place], self._scorer, self._crops) for place in good]
        scores = dict(zip(good, self._scorer.score_prepared(prepared), strict=True))
        records = [
            {"path": one["path"], **(rows.told(scores[place]) if place in scores else {"error": one["error"]})}
            for place, one in enumerate(about)
        ]
        return _with_marks(rows.table(records), marks)


def _with_marks(table: Any, marks: list[Marks]) -> Any:
    import pyarrow as pa

    for name in MARKS:
        table = table.append_column(name, pa.array([one[name] for one in marks], pa.int64()))
    return table


def _schema() -> Any:
    """A picture that was decoded: its facts, its crops, and where they lie in it."""
    import pyarrow as pa

    text, whole = pa.string(), pa.int32()
    types = {**dict.fromkeys(MARKS, pa.int64()), "path": text, "error": text, "width": whole, "height": whole}
    types |= {"format": text, "sha256": text, "warnings": pa.list_(text), "cut_warnings": pa.list_(text)}
    types |= {"boxes": pa.list_(whole), "shape": pa.list_(whole), "items": pa.large_binary()}
    return pa.schema(list(types.items()))


def _decoded(found: PictureRef, contract: "Contract", crops: "Crops") -> dict[str, Any]:
    from model import crop_rounds
    from model.images import ImageError, Limits
    from model.picture_source import open_picture

    name, content = found
    row: dict[str, Any] = {"path": rows.text(name)}
    try:
        if isinstance(content, Exception):
            raise content
        picture = open_picture(content if isinstance(content, Path) else content(), contract, Limits())
        views = contract.views(picture, crop_rounds.max_crops(crops, contract))
    except (ArchiveError, ImageError, OSError) as error:
        return {**row, "error": stream.explain(error)}
    return {
        **row,
        **asdict(picture.facts),
        "cut_warnings": views.warnings,
        "boxes": [edge for box in views.boxes for edge in box],
        "shape": views.items.shape,
        "items": views.items.tobytes(),
    }


def _prepared(about: dict[str, Any], items: Any, scorer: "Scorer", crops: "Crops") -> "tuple[Facts, CropRounds]":
    import numpy as np

    from model.contract import Views
    from model.crop_rounds import CropRounds
    from model.images import Facts, ImageWarning

    contract = scorer.checkpoint.contract
    # Where they lie in the object store, without a copy.
    flat = np.frombuffer(items.as_buffer(), np.uint8 if contract.view == "crops" else np.float32)
    views = Views(
        items=flat.reshape(about["shape"]),
        boxes=tuple(zip(*[iter(about["boxes"])] * 4, strict=True)),
        warnings=tuple(map(ImageWarning, about["cut_warnings"])),
    )
    facts = Facts(
        **{name: about[name] for name in ("width", "height", "format", "sha256")},
        warnings=tuple(map(ImageWarning, about["warnings"])),
    )
    return facts, CropRounds(views, contract, crops)
