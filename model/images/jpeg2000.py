"""JPEG 2000, a bare codestream or in its container: sizes and work are read from the main header first."""

import io
import math
import struct

from PIL import Image

from model.images import boxes, exif
from model.images.errors import TRUNCATED, TooMuchWork, TruncatedImage, UndecodableImage, undecodable
from model.images.facts import Header, Loaded

SIGNATURES = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")
SAMPLE_SECONDS, PACKET_SECONDS, TILE_SECONDS = 4e-8, 1e-6, 1e-4
"""Work for a sample, for a packet and for a tile, on one processor core."""
SEGMENTS = 20_000
"""More segments than any sound main header has."""
_COD, _SOT = 0xFF52, 0xFF90
_END = b"\xff\xd9"


def read(data: bytes) -> Header:
    """Read the header of a JPEG 2000.

    Raises:
        ImageError: It cannot be read.
    """
    start, stop = 0, len(data)
    if not data.startswith(SIGNATURES[0]):
        stream = next((box for box in boxes.walk(data) if box.kind == b"jp2c"), None)
        if stream is None:
            raise TruncatedImage(TRUNCATED)
        start, stop = stream.inside, stream.stop
    try:
        size, seconds, bits = _main_header(data, start)
    except (struct.error, IndexError) as error:
        raise TruncatedImage(TRUNCATED) from error
    complete = data[start:stop].rstrip(b"\0").endswith(_END)

    def load(scale: int) -> Loaded:  # noqa: ARG001
        if not complete:
            raise TruncatedImage(TRUNCATED)
        with undecodable("the picture's JPEG 2000 data cannot be decoded"):
            image = Image.open(io.BytesIO(data), formats=("JPEG2000",))
            if image.size != size:
                # The container tells another size than the codestream, and is what memory would be taken for.
                raise UndecodableImage("the picture's header cannot be read")
            image.load()
        turn, broken = exif.orientation(image)
        return Loaded(image=image, orientation=turn, sixteen_bit=bits > 8, damaged=broken)

    return Header(format="JPEG2000", size=size, seconds=seconds, load=load)


def _main_header(data: bytes, at: int) -> tuple[tuple[int, int], float, int]:
    """Size, estimated seconds, and bits of a sample (ISO/IEC 15444-1, annex A)."""
    if data[at : at + 4] != SIGNATURES[0]:
        raise UndecodableImage("the picture's header cannot be read")
    right, bottom, left, top, tile_width, tile_height = struct.unpack_from(">6I", data, at + 8)
    components, precision = struct.unpack_from(">HB", data, at + 40)
    if not (right > left and bottom > top and tile_width and tile_height and components):
        raise UndecodableImage("the picture's header cannot be read")
    bits = (precision & 127) + 1
    width, height = right - left, bottom - top
    tiles = math.ceil(right / tile_width) * math.ceil(bottom / tile_height)
    packets = 0
    at += 2
    for _ in range(SEGMENTS):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == _SOT or length < 2:
            break
        if marker == _COD:
            style, _, layers, _, levels = struct.unpack_from(">BBHBB", data, at + 4)
            sizes = data[at + 14 : at + 15 + levels] if style & 1 else b"\xff" * (levels + 1)
            packets = (
                layers
                * components
                * tiles
                * sum(
                    math.ceil(_part(min(tile_width, width), levels - level) / 2 ** (size & 15))
                    * math.ceil(_part(min(tile_height, height), levels - level) / 2 ** (size >> 4))
                    for level, size in enumerate(sizes)
                )
            )
        at += 2 + length
    else:
        raise TooMuchWork(f"the picture has more than {SEGMENTS:,} segments; save it again with common settings")
    seconds = SAMPLE_SECONDS * width * height * components + PACKET_SECONDS * packets + TILE_SECONDS * tiles
    return (width, height), seconds, bits


def _part(side: int, halvings: int) -> int:
    return max(-(-side >> halvings), 1)
