"""ISO base media files (HEIC, AVIF, and the containers of JPEG 2000 and JPEG XL): boxes, and the picture they describe.

ISO/IEC 14496-12 defines the boxes, ISO/IEC 23008-12 (HEIF) the items and their properties.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from model.images.errors import TooMuchWork, UndecodableImage

BOXES = 20_000
"""More boxes than any sound file has at one level."""
ENTRIES = 200_000
"""More references, associations of properties, or extents than any sound file has."""


class Box(NamedTuple):
    """A box: its type, where it starts, and where its contents start and end."""

    kind: bytes
    start: int
    inside: int
    stop: int


def walk(data: bytes, start: int = 0, stop: int | None = None) -> Iterator[Box]:
    """The boxes of one level; ends where the data do.

    Raises:
        TooMuchWork: There are too many boxes.
    """
    stop = len(data) if stop is None else stop
    for _ in range(BOXES):
        if start + 8 > stop:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        inside = start + 8
        if size == 1 and inside + 8 <= stop:
            (size,) = struct.unpack_from(">Q", data, inside)
            inside += 8
        end = stop if size == 0 else start + size
        if end < inside:
            return
        yield Box(kind, start, inside, min(end, stop))
        start = end
    raise TooMuchWork(f"the picture has more than {BOXES:,} boxes; save it again with common settings")


@dataclass
class Item:
    """A coded or derived picture of a HEIF file.

    Attributes:
        kind: ``hvc1``, ``av01``, ``grid``, ``iden``, ``iovl`` and others.
        properties: Types and contents of its properties, in their order.
        extents: Where its data are: offset and length.
        sources: Numbers of the pictures that it is derived from, with repetitions.
        auxiliary: Numbers of the pictures that belong to it, such as its transparency.
        offset_base: 0 if the extents are those of the file, 1 of the ``idat`` box.
    """

    kind: bytes = b""
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    extents: list[tuple[int, int]] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    auxiliary: list[int] = field(default_factory=list)
    offset_base: int = 0

    def get(self, kind: bytes) -> bytes | None:
        """The contents of its first property of a type."""
        return next((contents for name, contents in self.properties if name == kind), None)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height before cropping and turning; (0, 0) if it does not tell."""
        contents = self.get(b"ispe")
        if contents is None or len(contents) < 12:
            return 0, 0
        width, height = struct.unpack_from(">II", contents, 4)
        return width, height


@dataclass
class Meta:
    """The ``meta`` box of a HEIF file.

    Attributes:
        items: Pictures by their number.
        primary: Number of the primary one.
        associations: The ``ipma`` boxes.
        properties: The ``iprp`` box.
        inline: The ``idat`` box.
    """

    items: dict[int, Item] = field(default_factory=dict)
    primary: int = 0
    associations: list[Box] = field(default_factory=list)
    properties: Box | None = None
    inline: Box | None = None


def meta(data: bytes) -> Meta:
    """Read the ``meta`` box.

    Raises:
        UndecodableImage: There is none, or it is damaged.
        TooMuchWork: There are too many boxes.
    """
    outer = next((box for box in walk(data) if box.kind == b"meta"), None)
    if outer is None:
        raise UndecodableImage("the picture's header cannot be read")
    try:
        return _meta(data, outer)
    except (struct.error, IndexError) as error:
        raise UndecodableImage("the picture's header cannot be read") from error


def _meta(data: bytes, outer: Box) -> Meta:
    found = Meta()
    inner = {box.kind: box for box in walk(data, outer.inside + 4, outer.stop)}
    found.properties, found.inline = inner.get(b"iprp"), inner.get(b"idat")
    if box := inner.get(b"pitm"):
        found.primary = struct.unpack_from(">I" if data[box.inside] else ">H", data, box.inside + 4)[0]
    if box := inner.get(b"iinf"):
        for entry in walk(data, box.inside + (8 if data[box.inside] else 6), box.stop):
            version = data[entry.inside]
            if entry.kind == b"infe" and version >= 2:
                (number,) = struct.unpack_from(">I" if version > 2 else ">H", data, entry.inside + 4)
                at = entry.inside + (8 if version > 2 else 6) + 2
                found.items[number] = Item(kind=data[at : at + 4])
    if box := inner.get(b"iref"):
        _read_references(data, box, found)
    if box := inner.get(b"iprp"):
        _read_properties(data, box, found)
    if box := inner.get(b"iloc"):
        _read_locations(data, box, found)
    return found


def _read_references(data: bytes, box: Box, found: Meta) -> None:
    wide, entries = data[box.inside], 0
    for reference in walk(data, box.inside + 4, box.stop):
        number, count = struct.unpack_from(">IH" if wide else ">HH", data, reference.inside)
        at = reference.inside + (6 if wide else 4)
        others = struct.unpack_from(f">{count}{'I' if wide else 'H'}", data, at)
        entries = _counted(entries + count)
        if reference.kind == b"dimg":
            found.items.setdefault(number, Item()).sources.extend(others)
        elif reference.kind == b"auxl":
            for other in others:
                found.items.setdefault(other, Item()).auxiliary.append(number)


def _counted(entries: int) -> int:
    """The number of entries so far.

    Raises:
        TooMuchWork: There are too many.
    """
    if entries > ENTRIES:
        raise TooMuchWork(f"the picture's header has more than {ENTRIES:,} entries; save it again with common settings")
    return entries


def _read_properties(data: bytes, outer: Box, found: Meta) -> None:
    properties: list[tuple[bytes, bytes]] = []
    for box in walk(data, outer.inside, outer.stop):
        if box.kind == b"ipco":
            properties = [(one.kind, data[one.inside : one.stop]) for one in walk(data, box.inside, box.stop)]
        elif box.kind == b"ipma":
            found.associations.append(box)
            for number, places in associations(data, box):
                item = found.items.setdefault(number, Item())
                item.properties += [properties[place - 1] for place, _ in places if 0 < place <= len(properties)]


def associations(data: bytes, box: Box) -> Iterator[tuple[int, list[tuple[int, bool]]]]:
    """The entries of an ``ipma`` box: item number, places of its properties (from 1) and whether each is essential."""
    version, wide = data[box.inside], data[box.inside + 3] & 1
    (count,) = struct.unpack_from(">I", data, box.inside + 4)
    at, entries = box.inside + 8, 0
    for _ in range(count):
        (number,) = struct.unpack_from(">I" if version else ">H", data, at)
        at += 4 if version else 2
        places = []
        of = data[at]
        entries = _counted(entries + 1 + of)
        at += 1
        for _ in range(of):
            (value,) = struct.unpack_from(">H" if wide else ">B", data, at)
            at += 2 if wide else 1
            top = 0x8000 if wide else 0x80
            places.append((value & (top - 1), bool(value & top)))
        if at > box.stop:
            raise struct.error("beyond the box")
        yield number, places


def _read_locations(data: bytes, box: Box, found: Meta) -> None:
    version = data[box.inside]
    sizes, base_sizes = data[box.inside + 4], data[box.inside + 5]
    offset_size, length_size, base_size, index_size = sizes >> 4, sizes & 15, base_sizes >> 4, base_sizes & 15
    at = box.inside + 6

    def number(size: int) -> int:
        nonlocal at
        if at + size > box.stop:
            raise struct.error("beyond the box")
        value = int.from_bytes(data[at : at + size], "big")
        at += size
        return value

    entries = 0
    for _ in range(number(4 if version == 2 else 2)):
        item = found.items.setdefault(number(4 if version == 2 else 2), Item())
        item.offset_base = number(2) & 15 if version else 0
        number(2)
        base = number(base_size)
        count = number(2)
        entries = _counted(entries + 1 + count)
        for _ in range(count):
            if version and index_size:
                number(index_size)
            offset = base + number(offset_size)
            item.extents.append((offset, number(length_size)))
