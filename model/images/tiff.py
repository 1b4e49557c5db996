"""TIFF: its directories are read first, to find the full picture and to bound the work; libtiff's errors count.

A directory may hold a thumbnail, a mask, or the mosaic of a camera's raw file. The first that holds a full picture is
decoded: where that is not the first of all, the header is pointed at it.
"""

import ctypes
import io
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin, _imaging

from model.images import exif, jpeg
from model.images.errors import TooMuchWork, UndecodableImage, UnsupportedFormat, undecodable
from model.images.facts import Header, Loaded

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
DIRECTORIES = 100
"""Directories that are looked at. Those of a document with more pages are not all needed to find a picture."""
ENTRIES = 4_000
"""More entries than any sound directory has."""
VALUES, PARTS = 100, 500_000
"""Values of a tag that are read: SubIFDs of a file, strips or tiles of a picture."""
PIXEL_SECONDS, PART_SECONDS, BYTE_SECONDS = 6e-9, 4e-6, 1e-8
"""Work for a byte of a row, for a strip or tile, and for a byte of compressed data, on one processor core."""
RAW = "this is a camera's raw file, which is not decoded here; save it as a JPEG or a 16-bit TIFF and send that"
_NEW_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIP_OFFSETS, _SAMPLES, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES = 273, 277, 279, 324, 325
_SUB_IFDS, _SAMPLE_FORMAT, _JPEG_TABLES, _DNG_VERSION = 330, 339, 347, 50706
_WANTED = frozenset({
    _NEW_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIP_OFFSETS, _SAMPLES, _STRIP_BYTES,
    _TILE_OFFSETS, _TILE_BYTES, _SUB_IFDS, _SAMPLE_FORMAT, _JPEG_TABLES, _DNG_VERSION,
})  # fmt: skip
_TYPES = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}
_REDUCED, _MASK = 1, 4
"""Bits of NewSubfileType."""
_MOSAICS = (32803, 34892)
"""Photometric interpretations of raw data: a colour filter array, and linear raw."""
_DEFLATE = (8, 32946)
"""Compressions by deflate, each part of which ends with a checksum."""
_JPEG = 7
_RAW_COMPRESSIONS = (32767, 32769, 34713, 65000, 65535)
"""Compressions of raw data: Sony, packed, Nikon, Kodak, Pentax."""
_FLOAT = 3
_CHECKED_BYTES = 2**20
"""Bytes that are inflated at a time to check them."""
Tags = dict[int, tuple[int, ...]]

# Without this, data that are not compressed are read by Pillow itself, which mistakes planes of 16 bits for 8.
TiffImagePlugin.READ_LIBTIFF = True


class _Complaints(threading.local):
    """What libtiff complained of in this thread."""

    def __init__(self) -> None:
        self.serious = 0


_complaints = _Complaints()
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)


def _on_error(module: bytes | None, text: bytes | None, arguments: int | None) -> None:  # noqa: ARG001
    _complaints.serious += 1


def _on_warning(module: bytes | None, text: bytes | None, arguments: int | None) -> None:  # noqa: ARG001
    # Other warnings are of tags that it does not know or that are odd; these are libjpeg's, of damaged data.
    _complaints.serious += module == b"JPEGLib"


_handlers = _HANDLER(_on_error), _HANDLER(_on_warning)
"""Kept, because libtiff calls them as long as there is a process."""


# By default libtiff writes each fault of a file to stderr, up to thousands of lines for one upload, and Pillow takes no
# notice of those that leave pixels. A statically linked libtiff has no such symbols.
with suppress(AttributeError, OSError):
    _library = ctypes.CDLL(_imaging.__file__)
    _library.TIFFSetErrorHandler(_handlers[0])
    _library.TIFFSetWarningHandler(_handlers[1])


@dataclass(frozen=True)
class _Layout:
    """Byte order and field sizes of a TIFF, which in a BigTIFF are larger."""

    order: str
    big: bool

    @property
    def offset(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "I"))

    @property
    def first(self) -> int:
        """Where the offset of the first directory stands."""
        return 8 if self.big else 4

    @property
    def entry(self) -> struct.Struct:
        return struct.Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))

    @property
    def count(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "H"))


def _directory(data: bytes, layout: _Layout, at: int, most: int = VALUES) -> tuple[Tags, int]:
    """The wanted tags of a directory, at most so many values of each, and the offset of the next; 0 for none.

    Raises:
        struct.error, UndecodableImage: The directory is damaged.
    """
    (count,) = layout.count.unpack_from(data, at)
    at += layout.count.size
    if count > ENTRIES:
        raise UndecodableImage("the picture's header cannot be read")
    tags: Tags = {}
    for index in range(count):
        tag, type_, number, inline = layout.entry.unpack_from(data, at + index * layout.entry.size)
        if tag not in _WANTED or type_ not in _TYPES or not number:
            continue
        place = inline
        kind, size = _TYPES[type_], struct.calcsize(layout.order + _TYPES[type_])
        start = 0 if number * size <= len(inline) else layout.offset.unpack_from(inline)[0]
        if start:
            place = data
            if start + number * size > len(data):
                raise struct.error("beyond the end")
        tags[tag] = struct.unpack_from(f"{layout.order}{min(number, most)}{kind}", place, start)
    at += count * layout.entry.size
    return tags, layout.offset.unpack_from(data, at)[0] if at + layout.offset.size <= len(data) else 0


def _full_picture(data: bytes, layout: _Layout) -> tuple[Tags, int, int, bool]:
    """Tags and offset of the directory with the full picture, how many such pages there are, and whether one is broken.

    Raises:
        UnsupportedFormat: It is a camera's raw file.
        struct.error: A directory is damaged.
    """
    if data[8:10] == b"CR":
        raise UnsupportedFormat(RAW)
    first = at = layout.offset.unpack_from(data, layout.first)[0]
    pages: list[tuple[Tags, int]] = []
    subs: list[tuple[Tags, int]] = []
    seen: set[int] = set()
    broken = False
    while at and at not in seen and len(seen) < DIRECTORIES:
        seen.add(at)
        try:
            tags, following = _directory(data, layout, at)
        except (struct.error, UndecodableImage):
            # A broken page behind the picture is not looked at.
            if at == first:
                raise
            broken = True
            break
        pages.append((tags, at))
        for sub in tags.get(_SUB_IFDS, ())[: DIRECTORIES - len(subs)]:
            with suppress(struct.error, UndecodableImage):
                subs.append((_directory(data, layout, sub)[0], sub))
        at = following
    for tags, _ in pages + subs:
        if (
            _DNG_VERSION in tags
            or tags.get(_PHOTOMETRIC, (0,))[0] in _MOSAICS
            or tags.get(_COMPRESSION, (0,))[0] in _RAW_COMPRESSIONS
        ):
            raise UnsupportedFormat(RAW)
    full = [page for page in pages if _is_full(page[0])]
    tags, at = next(iter(full or [page for page in subs if _is_full(page[0])]), pages[0])
    return tags, at, len(full), broken


def _is_full(tags: Tags) -> bool:
    return not tags.get(_NEW_SUBFILE_TYPE, (0,))[0] & (_REDUCED | _MASK) and _WIDTH in tags


def read(data: bytes) -> Header:
    """Read the header of a TIFF.

    Raises:
        ImageError: It cannot be read, or is a camera's raw file.
    """
    layout = _Layout("<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+"))
    with undecodable("the picture's header cannot be read"):
        tags, at, pages, broken = _full_picture(data, layout)
        tags, _ = _directory(data, layout, at, PARTS)
        width, height = tags[_WIDTH][0], tags[_HEIGHT][0]
    bits = max(tags.get(_BITS, (1,)))
    if _FLOAT in tags.get(_SAMPLE_FORMAT, ()):
        raise UndecodableImage(
            "its pixels are floating-point numbers, which have no agreed range; save it with 8 or 16 bits"
        )
    compression = tags.get(_COMPRESSION, (0,))[0]
    parts = tags.get(_STRIP_BYTES, tags.get(_TILE_BYTES, ()))
    if len(parts) == PARTS:
        raise TooMuchWork(f"the picture is in more than {PARTS:,} parts; save it again with common settings")
    samples = tags.get(_SAMPLES, (1,))[0]
    if layout.offset.unpack_from(data, layout.first)[0] != at:
        data = b"".join((data[: layout.first], layout.offset.pack(at), data[layout.first + layout.offset.size :]))
    with undecodable("the picture's header cannot be read"):
        image = Image.open(io.BytesIO(data), formats=("TIFF",))

    def load(scale: int) -> Loaded:  # noqa: ARG001
        damaged = broken
        if compression in _DEFLATE:
            _check_deflate(data, tags)
        elif compression == _JPEG:
            for stream in _jpegs(data, tags):
                damaged |= jpeg.check(stream)
        loaded = _load(image, data)
        loaded.animated, loaded.sixteen_bit = pages > 1, bits > 8
        loaded.damaged = loaded.damaged or damaged
        return loaded

    seconds = (
        PIXEL_SECONDS * width * height * samples * max(bits, 8) / 8
        + PART_SECONDS * len(parts)
        + BYTE_SECONDS * sum(parts)
    )
    if compression == _JPEG:
        # Each is decoded twice.
        seconds += 2 * sum(jpeg.structure(stream).seconds() for stream in _jpegs(data, tags))
    return Header(format="TIFF", size=(width, height), seconds=seconds, load=load)


def _parts(data: bytes, tags: Tags) -> Iterator[bytes]:
    """The coded strips or tiles."""
    offsets = tags.get(_STRIP_OFFSETS, tags.get(_TILE_OFFSETS, ()))
    for offset, length in zip(offsets, tags.get(_STRIP_BYTES, tags.get(_TILE_BYTES, ())), strict=False):
        yield data[offset : offset + length]


def _jpegs(data: bytes, tags: Tags) -> Iterator[bytes]:
    """The strips or tiles as JPEG files: with the tables that they share, if they do."""
    tables = bytes(tags.get(_JPEG_TABLES, ()))
    for part in _parts(data, tags):
        yield tables[:-2] + part[2:] if len(tables) > 4 else part


def _load(image: ImageFile.ImageFile, data: bytes) -> Loaded:
    turn, broken = exif.orientation(image)
    # Pillow turns a TIFF itself while it loads it, unless the orientation is stored as another type than TIFF's own.
    turned = image.getexif().get(exif.TAG) == turn if not broken else False
    deep = any(_raw_mode(tile).endswith((";16B", ";16L", ";16N")) for tile in image.tile)
    _read_strictly(image)

    def codes() -> NDArray[np.uint16]:
        # Pillow keeps the high byte of two: read as if they stood the other way around, that is the low one.
        again = Image.open(io.BytesIO(data), formats=("TIFF",))
        again.info.pop("xmp", None)
        again.tile = [tile._replace(args=(_swapped(_raw_mode(tile)), *(tile.args or ())[1:])) for tile in again.tile]
        high_HWC, low_HWC = np.asarray(image, np.uint16), np.asarray(again, np.uint16)
        return high_HWC << np.uint16(8) | low_HWC

    return Loaded(
        image=image,
        orientation=1 if turned else turn,
        turned=turned and turn != 1,
        codes=codes if deep and image.mode in ("RGB", "RGBA") else None,
        damaged=broken,
    )


def _check_deflate(data: bytes, tags: Tags) -> None:
    """Check the checksums of deflated strips or tiles, which libtiff does not reach.

    Raises:
        UndecodableImage: One does not fit.
    """
    for rest in _parts(data, tags):
        stream = zlib.decompressobj()
        try:
            while rest and not stream.eof:
                stream.decompress(rest, _CHECKED_BYTES)
                rest = stream.unconsumed_tail
        except zlib.error as error:
            raise UndecodableImage("the picture's TIFF data are damaged: a checksum does not fit") from error


def _read_strictly(image: Image.Image) -> None:
    _complaints.serious = 0
    image.load()
    if _complaints.serious:
        raise UndecodableImage("the picture's TIFF data are damaged")


def _raw_mode(tile: ImageFile._Tile) -> str:
    """The pixel layout that the decoder of a tile reads, such as RGB;16N."""
    arguments = tile.args
    return str(arguments if isinstance(arguments, str) else next(iter(arguments or ()), ""))


def _swapped(raw_mode: str) -> str:
    """A 16-bit pixel layout read as if the bytes stood the other way around; N is the order of this machine."""
    little = raw_mode.endswith("L") or (raw_mode.endswith("N") and np.little_endian)
    return raw_mode[:-1] + ("B" if little else "L")
