"""Writes HEIF files, box by box, around coded pictures that exist: for what no encoder at hand writes.

``Item`` is a coded or derived picture; ``write`` puts items, references and properties together.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

from model.images import boxes
from tests.conftest import PICTURES

ESSENTIAL = (b"hvcC", b"av1C", b"irot", b"imir", b"clap")
Reference = tuple[bytes, int, list[int]]
"""Kind, number of the item that refers, and those it refers to."""


def box(kind: bytes, *contents: bytes) -> bytes:
    body = b"".join(contents)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, *contents: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *contents)


def ispe(width: int, height: int) -> bytes:
    return full(b"ispe", struct.pack(">II", width, height))


def clap(width: int, height: int, right: tuple[int, int] = (0, 1), down: tuple[int, int] = (0, 1)) -> bytes:
    """A clean aperture: its size, and how far its centre is from the picture's, as fractions."""
    return box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, *right, *down))


def nclx(primaries: int, transfer: int, matrix: int = 6) -> bytes:
    return box(b"colr", b"nclx", struct.pack(">HHHB", primaries, transfer, matrix, 0x80))


def icc(profile: bytes) -> bytes:
    return box(b"colr", b"prof", profile)


def irot(quarters: int) -> bytes:
    return box(b"irot", bytes((quarters,)))


def imir(axis: int) -> bytes:
    return box(b"imir", bytes((axis,)))


IROT = irot(1)
ALPHA = full(b"auxC", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
DEPTH = full(b"auxC", b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth\0")


@dataclass
class Item:
    """A picture: kind, properties as boxes, data, and where these are: one extent, some, or in ``idat``."""

    kind: bytes
    properties: list[bytes]
    data: bytes = b""
    hidden: bool = False
    inline: bool = False
    pieces: int = 1


@dataclass
class Coded:
    """The coded picture of a file: what its item needs."""

    kind: bytes
    properties: list[bytes] = field(default_factory=list)
    data: bytes = b""

    def item(
        self, properties: Sequence[bytes] = (), size: tuple[int, int] | None = None, *, hidden: bool = False
    ) -> Item:
        """An item of it, with further properties, or another size than it has."""
        own = [ispe(*size) if size and kind[4:8] == b"ispe" else kind for kind in self.properties]
        return Item(self.kind, [*own, *properties], self.data, hidden=hidden)


def coded(data: bytes) -> Coded:
    """Take the coded picture out of a HEIC or AVIF."""
    found = boxes.meta(data)
    item = found.items[found.primary]
    kept = [box(kind, contents) for kind, contents in item.properties if kind in (b"hvcC", b"av1C", b"ispe", b"pixi")]
    return Coded(item.kind, kept, b"".join(data[at : at + length] for at, length in item.extents))


@cache
def plain(name: str = "plain") -> Coded:
    return coded((PICTURES / f"{name}.heic").read_bytes())


def write(
    items: list[Item],
    references: Sequence[Reference] = (),
    *,
    brand: bytes = b"heic",
    primary: int = 1,
    split_associations: bool = False,
    extra: bytes = b"",
) -> bytes:
    """A file of items, which are numbered from 1."""
    numbers = range(1, len(items) + 1)
    properties = list(dict.fromkeys(one for item in items for one in item.properties))
    entries = []
    for number, item in zip(numbers, items, strict=True):
        places = bytes(properties.index(one) + 1 | 0x80 * (one[4:8] in ESSENTIAL) for one in item.properties)
        entries.append(struct.pack(">HB", number, len(places)) + places)
    groups = [entries[:1], entries[1:]] if split_associations else [entries]
    ipma = b"".join(full(b"ipma", struct.pack(">I", len(group)), *group) for group in groups)
    inline = b"".join(item.data for item in items if item.inline)
    infos = [
        full(b"infe", struct.pack(">HH4sB", number, 0, item.kind, 0), version=2, flags=int(item.hidden))
        for number, item in zip(numbers, items, strict=True)
    ]

    links = [box(kind, struct.pack(f">HH{len(to)}H", of, len(to), *to)) for kind, of, to in references]

    def head(start: int) -> bytes:
        locations, at, inside = [], start, 0
        for number, item in zip(numbers, items, strict=True):
            length, offset = len(item.data), inside if item.inline else at
            bounds = [length * piece // item.pieces for piece in range(item.pieces + 1)]
            extents = [struct.pack(">II", offset + a, b - a) for a, b in pairwise(bounds)]
            locations.append(struct.pack(">HHHH", number, int(item.inline), 0, item.pieces) + b"".join(extents))
            inside, at = (inside + length, at) if item.inline else (inside, at + length)
        return box(b"ftyp", brand, bytes(4), b"mif1", brand) + full(
            b"meta",
            full(b"hdlr", bytes(4), b"pict", bytes(13)),
            full(b"pitm", struct.pack(">H", primary)),
            full(b"iinf", struct.pack(">H", len(items)), *infos),
            *([full(b"iref", *links)] if links else []),
            box(b"iprp", box(b"ipco", *properties), ipma),
            full(b"iloc", b"\x44\0", struct.pack(">H", len(items)), *locations, version=1),
            *([box(b"idat", inline)] if inline else []),
            extra,
        )  # fmt: skip

    start = len(head(0)) + 8
    return head(start) + box(b"mdat", *(item.data for item in items if not item.inline))


def single(properties: Sequence[bytes] = (), size: tuple[int, int] | None = None, source: Coded | None = None) -> bytes:
    """One picture with further properties, or with another size than its data have."""
    source = source or plain()
    return write([source.item(properties, size)], brand=b"avif" if source.kind == b"av01" else b"heic")


def grid_data(rows: int, columns: int, width: int, height: int) -> bytes:
    return struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)


def grid(rows: int, columns: int, size: tuple[int, int] | None = None, properties: Sequence[bytes] = ()) -> bytes:
    """A grid of copies of one tile, each an item of its own."""
    width, height = size or (96 * columns, 64 * rows)
    tiles = [plain().item(hidden=True) for _ in range(rows * columns)]
    whole = Item(b"grid", [ispe(width, height), *properties], grid_data(rows, columns, width, height), inline=True)
    return write([whole, *tiles], [(b"dimg", 1, list(range(2, 2 + rows * columns)))])
