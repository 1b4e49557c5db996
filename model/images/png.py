"""PNG: every chunk is checked by its checksum before anything is decoded."""

import io
import struct
import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from model.images import color, exif
from model.images.color import Encoding
from model.images.errors import TRUNCATED, TooMuchWork, TruncatedImage, UndecodableImage, UnsupportedFormat, undecodable
from model.images.facts import Header, Loaded

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHUNKS = 50_000
"""More chunks than any sound file has: as many that hold 8 KiB are 400 MB."""
PIXEL_SECONDS, CHUNK_SECONDS = 6e-9, 8e-6
"""Work for a byte of a row, and for a chunk, on one processor core."""
_LENGTHS = {b"cHRM": 32, b"gAMA": 4, b"sRGB": 1, b"pHYs": 9, b"tIME": 7, b"cICP": 4, b"acTL": 8, b"fcTL": 26}
"""Lengths of chunks that have but one; another is damage."""
_PIXELS = (b"IDAT", b"fdAT")
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by colour type."""


@dataclass
class Structure:
    """What the chunks of a PNG tell.

    Attributes:
        chunks: Sound chunks, whole, in their order.
        told: Contents of the chunks that tell of colour and kind, by name.
        count: Number of chunks.
        damaged: Whether ancillary chunks are damaged, or the end is missing.
        hidden: Whether the default image is no part of the animation.
    """

    chunks: list[memoryview] = field(default_factory=list)
    told: dict[bytes, bytes] = field(default_factory=dict)
    count: int = 0
    damaged: bool = False
    hidden: bool = False


def structure(data: bytes) -> Structure:
    """Walk and check the chunks of a PNG.

    Raises:
        UnsupportedFormat: It is Apple's variant, which only Apple's software reads.
        UndecodableImage: A chunk that the pixels need is damaged.
        TruncatedImage: It ends inside the pixels, or before.
        TooMuchWork: There are too many chunks.
    """
    found, at, view = Structure(), len(SIGNATURE), memoryview(data)
    ended = False
    while at + 12 <= len(data) and not ended:
        length, kind = struct.unpack_from(">I4s", data, at)
        stop = at + 12 + length
        if stop > len(data):
            break
        chunk, at = view[at:stop], stop
        found.count += 1
        if found.count > CHUNKS:
            raise TooMuchWork(f"the picture has more than {CHUNKS:,} chunks; save it again with common settings")
        sound = zlib.crc32(chunk[4:-4]) == struct.unpack_from(">I", chunk, 8 + length)[0]
        ended = kind == b"IEND"
        if kind == b"CgBI":
            raise UnsupportedFormat("this is Apple's own variant of PNG (CgBI); save it as a common PNG")
        if not kind.isalpha() or (kind[:1].isupper() and kind not in _CRITICAL):
            raise UndecodableImage("the picture's PNG data are damaged")
        if kind in _PIXELS or (kind in _CRITICAL and not ended):
            if not sound:
                raise UndecodableImage("the picture's PNG data are damaged: a checksum does not fit")
        elif not sound or _LENGTHS.get(kind, length) != length:
            found.damaged = True
            continue
        if kind == b"acTL":
            found.hidden = True
        elif kind == b"fcTL" and b"IDAT" not in found.told:
            found.hidden = False
        found.chunks.append(chunk)
        if kind in _LENGTHS or kind in (b"IHDR", b"iCCP"):
            found.told.setdefault(kind, bytes(chunk[8:-4]))
        elif kind in (b"IDAT", b"tRNS"):
            found.told.setdefault(kind, b"")
    if len(found.told.get(b"IHDR", b"")) != 13:
        raise UndecodableImage("the picture's header cannot be read")
    if b"IDAT" not in found.told:
        raise TruncatedImage(TRUNCATED)
    if not ended:
        if data[at + 4 : at + 8] in _PIXELS:
            raise TruncatedImage(TRUNCATED)
        found.damaged = True
        found.chunks.append(memoryview(b"\0\0\0\0IEND\xaeB`\x82"))
    return found


def encoding(told: dict[bytes, bytes]) -> tuple[Encoding | None, bool]:
    """How the numbers encode colour by the chunks that tell it, and whether a profile is to be ignored for it.

    ``cICP`` outranks a profile, a profile ``sRGB``, and that ``gAMA`` and ``cHRM`` (PNG, third edition, 12.4).

    Raises:
        ValueError: The chunks make no colour space.
    """
    if b"cICP" in told:
        primaries, transfer, _, _ = told[b"cICP"]
        return color.from_cicp(primaries, transfer), True
    if b"iCCP" in told or b"sRGB" in told or b"gAMA" not in told:
        return None, False
    points = [point / 100_000 for point in struct.unpack(">8I", told[b"cHRM"])] if b"cHRM" in told else None
    gamma = struct.unpack(">I", told[b"gAMA"])[0] / 100_000
    return color.from_gamma(gamma, None if points is None else tuple(points)), False


def read(data: bytes) -> Header:
    """Read the header of a PNG.

    Raises:
        ImageError: It cannot be read.
    """
    found = structure(data)
    width, height, depth, kind = struct.unpack_from(">IIBB", found.told[b"IHDR"])
    row = width * _SAMPLES.get(kind, 4) * max(depth, 8) / 8
    clean = b"".join((SIGNATURE, *found.chunks)) if found.damaged else data

    def load(scale: int) -> Loaded:  # noqa: ARG001
        loaded = _load(clean, found, deep=depth == 16 and kind in (2, 6))
        loaded.animated, loaded.sixteen_bit = b"acTL" in found.told, depth == 16
        return loaded

    return Header(
        format="PNG",
        size=(width, height),
        seconds=PIXEL_SECONDS * row * height + CHUNK_SECONDS * found.count,
        load=load,
    )


def _load(data: bytes, found: Structure, *, deep: bool) -> Loaded:
    image = _open(data, found)
    image.load()
    # Afterwards: EXIF may stand behind the pixels, and reading it would load them, with their errors passed over.
    turn, broken = exif.orientation(image)
    broken = broken or found.damaged
    try:
        told, ignore_profile = encoding(found.told)
    except ValueError:
        told, ignore_profile, broken = None, False, True
    if ignore_profile:
        image.info.pop("icc_profile", None)

    def codes() -> NDArray[np.uint16]:
        again = _open(data, found)
        # Pillow keeps the first byte of two: read as if they stood the other way around, that is the low one.
        again.tile = [tile._replace(args=str(tile.args).replace(";16B", ";16L")) for tile in again.tile]
        high_HWC, low_HWC = np.asarray(image, np.uint16), np.asarray(again, np.uint16)
        return high_HWC << np.uint16(8) | low_HWC

    key = image.info.get("transparency")
    if deep and isinstance(key, tuple):
        shown = image.copy()
        shown.putalpha(Image.fromarray(np.where((codes() == key).all(axis=-1), 0, 255).astype(np.uint8)))
        del shown.info["transparency"]
        return Loaded(image=shown, orientation=turn, encoding=told, codes=codes, damaged=broken)
    return Loaded(image=image, orientation=turn, encoding=told, codes=codes if deep else None, damaged=broken)


def _open(data: bytes, found: Structure) -> ImageFile.ImageFile:
    with undecodable("the picture's header cannot be read"):
        image = Image.open(io.BytesIO(data), formats=("PNG",))
        if found.hidden:
            # The default image is for viewers without animation; the picture is the first frame.
            image.seek(1)
    return image
