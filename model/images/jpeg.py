"""JPEG: its segments are walked before anything is decoded, and its data are decoded strictly.

Pillow drops libjpeg's warnings, by which damaged data are told. So libjpeg-turbo is called through simplejpeg, which
raises the first warning as an error, and gives the pixels that Pillow would give, to the last bit.
"""

import io
import re
import struct
from dataclasses import dataclass, field

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from model.images import exif
from model.images.errors import TRUNCATED, TooMuchWork, TruncatedImage, UndecodableImage, undecodable
from model.images.facts import Header, Loaded

SCALES = (1, 2, 4, 8)
"""How many times smaller each side may be decoded."""
PIXEL_SECONDS, BLOCK_SECONDS, BYTE_SECONDS = 8e-9, 8e-8, 2e-8
"""Work for a pixel, for a block of 8x8 in one scan, and for a byte of compressed data, on one processor core."""
SEGMENTS = 20_000
"""More segments than any sound file has."""
_END = b"\xff\xd9"
_HOLE = bytes(32)
"""More zeros in a row than the compressed data of a sequential picture hold, but for even areas."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker inside compressed data, where 0xFF of data is followed by 0; restart markers and fill bytes are data."""
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)})
"""Markers of segments that may stand between scans: tables, comments, application data."""
_KEPT = _FRAMES | {0xC4, 0xCC, 0xDB, 0xDD, 0xE0, 0xEE}
"""Markers of segments that tell how pixels are decoded."""
_METADATA = (0xE1, 0xE2)
_SEQUENTIAL = (0xC0, 0xC1)
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_HARMLESS = (
    *("extraneous bytes before marker 0xd9", "Invalid SOS parameters", "Unknown Adobe color transform"),
    "unknown JFIF revision",
)
"""Warnings of libjpeg after which all rows are there: bytes before the end marker; values that decoders ignore."""


@dataclass
class Structure:
    """What the segments of a JPEG tell.

    Attributes:
        size: Width and height in pixels.
        frame: Marker of the frame header.
        factors: Horizontal and vertical sampling factor of each component, by its number.
        scans: The component numbers of each scan.
        begin: Where the data of the first scan begin.
        end: Where the picture ends: behind the end marker, or where its data end if there is none.
        complete: Whether there is an end marker.
        even: Whether zeros in the data may stand for an even area.
        header: The segments before the first scan that matter here, and those of the first scan's header.
    """

    size: tuple[int, int] = (0, 0)
    frame: int = 0
    factors: dict[int, tuple[int, int]] = field(default_factory=dict)
    scans: list[bytes] = field(default_factory=list)
    begin: int = 0
    end: int = 0
    complete: bool = False
    even: bool = True
    header: list[bytes] = field(default_factory=lambda: [b"\xff\xd8"])

    @property
    def progressive(self) -> bool:
        """Whether all scans must be held until the last has been read."""
        return self.frame in _PROGRESSIVE

    def holed(self, data: bytes) -> bool:
        """Whether compressed data have a hole, which decodes to some rubbish: often to as much as was there."""
        return self.frame in _SEQUENTIAL and not self.even and data.find(_HOLE, self.begin, self.end) >= 0

    def seconds(self) -> float:
        """Estimated time of decoding, on one processor core."""
        width, height = self.size
        most_across = max(across for across, _ in self.factors.values())
        most_down = max(down for _, down in self.factors.values())
        blocks = {
            number: width * across / most_across * height * down / most_down / 64
            for number, (across, down) in self.factors.items()
        }
        passes = sum(blocks.get(number, 0) for scan in self.scans for number in scan)
        return PIXEL_SECONDS * width * height + BLOCK_SECONDS * passes + BYTE_SECONDS * self.end


def structure(data: bytes) -> Structure:
    """Walk the segments of a JPEG.

    Raises:
        UndecodableImage: There is no frame header, or none that is decoded here.
        TooMuchWork: There are too many segments.
        TruncatedImage: The data end before the first scan.
    """
    found, at, exif_seen = Structure(), 2, False
    for _ in range(SEGMENTS):
        if at + 4 > len(data):
            break
        if data[at] != 0xFF:
            # Garbage between segments: decoders skip to the next marker.
            at = data.find(b"\xff", at)
            if at < 0:
                break
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xD9:
            break
        (length,) = struct.unpack_from(">H", data, at + 2)
        body = data[at + 4 : at + 2 + length]
        if marker in _FRAMES and not found.scans:
            _read_frame(found, marker, body)
        elif marker == 0xDA and found.frame and body:
            if not found.scans:
                found.header.append(data[at : at + 2 + length])
                found.begin = at + 2 + length
            found.scans.append(body[1 : 1 + 2 * body[0] : 2])
            match = _MARKER.search(data, at + 2 + length)
            found.end = len(data) if match is None else match.start()
            if match is None or not (data[found.end + 1] in (0xD9, 0xDA) or data[found.end + 1] in _TABLES):
                break
            at = found.end
            continue
        elif marker not in _TABLES:
            break
        if marker == 0xC4:
            found.even &= _zeros_end_blocks(body)
        # EXIF in parts has its orientation in the first; Pillow would put thousands together one by one.
        is_exif = marker == 0xE1 and body.startswith(b"Exif\0\0") and not exif_seen
        if not found.scans and (marker in _KEPT or is_exif or body.startswith(b"ICC_PROFILE\0")):
            exif_seen |= is_exif
            found.header.append(data[at : at + 2 + length])
        at += 2 + length
    else:
        raise TooMuchWork(f"the picture has more than {SEGMENTS:,} segments; save it again with common settings")
    if not found.frame:
        raise UndecodableImage("the picture's header cannot be read")
    if not found.scans:
        raise TruncatedImage(TRUNCATED)
    found.complete = data[at : at + 2] == _END
    if found.complete:
        found.end = at + 2
    return found


def _zeros_end_blocks(tables: bytes) -> bool:
    """Whether in all Huffman tables for AC coefficients the code of zeros alone, the first, ends a block."""
    at = 0
    while at + 17 < len(tables):
        if tables[at] >> 4 and tables[at + 17]:
            return False
        at += 17 + sum(tables[at + 1 : at + 17])
    return True


def _read_frame(found: Structure, marker: int, body: bytes) -> None:
    if marker in _LOSSLESS:
        raise UndecodableImage("this is a lossless JPEG, which is not decoded here; save it as a common JPEG or a PNG")
    if len(body) < 6 or len(body) < 6 + 3 * body[5] or not body[5]:
        raise UndecodableImage("the picture's header cannot be read")
    precision, height, width, count = struct.unpack_from(">BHHB", body)
    if precision != 8:
        raise UndecodableImage(f"this is a JPEG of {precision} bits, which is not decoded here; save it with 8 bits")
    found.frame, found.size = marker, (width, height)
    for place in range(6, 6 + 3 * count, 3):
        across, down = body[place + 1] >> 4, body[place + 1] & 15
        if not across or not down:
            raise UndecodableImage("the picture's header cannot be read")
        found.factors[body[place]] = (across, down)


def read(data: bytes) -> Header:
    """Read the header of a JPEG.

    Raises:
        ImageError: It cannot be read.
    """
    found = structure(data)
    with undecodable("the picture's header cannot be read"):
        # Pillow's part is the metadata.
        image = Image.open(io.BytesIO(b"".join(found.header)), formats=("JPEG",))
        turn, broken = exif.orientation(image)
    # Bytes behind the picture are nobody's, and metadata not the decoder's; it needs an end marker.
    needed = [segment for segment in found.header if segment[1] not in _METADATA]
    whole = b"".join((*needed, data[found.begin : found.end], b"" if found.complete else _END))

    def load(scale: int) -> Loaded:
        width, height = found.size
        pixels, damaged = _decode(whole, image.mode, (-(-width // scale), -(-height // scale)), scaled=scale > 1)
        pixels.info = image.info
        return Loaded(
            image=pixels, orientation=turn, damaged=damaged or broken or not found.complete or found.holed(data)
        )

    return Header(
        format="JPEG",
        size=found.size,
        seconds=found.seconds(),
        load=load,
        scales=SCALES,
        weight=1.0 if found.progressive else 0.0,
        orientation=turn,
    )


def check(data: bytes) -> bool:
    """Decode a JPEG only to find out whether it is damaged; returns whether all rows are there all the same.

    Raises:
        UndecodableImage: Rows are damaged or missing.
    """
    found = structure(data)
    mode = {1: "L", 4: "CMYK"}.get(len(found.factors), "RGB")
    _, damaged = _decode(data[: found.end] + (b"" if found.complete else _END), mode, found.size, scaled=False)
    return damaged or found.holed(data)


def _decode(data: bytes, mode: str, size: tuple[int, int], *, scaled: bool) -> tuple[Image.Image, bool]:
    """Decode at a size that is one of the scales; returns the pixels and whether damage was passed over."""
    width, height = size
    # Pillow keeps four bytes a pixel, and takes over pixels that have four already.
    colorspace = {"L": "GRAY", "CMYK": "CMYK"}.get(mode, "RGBX")

    def decode(strict: bool) -> NDArray[np.uint8]:
        # The smallest scale that is no smaller than this, which is this.
        factor = 2.0 if scaled else 1.0
        pixels_HWC: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, colorspace, min_width=width, min_height=height, min_factor=factor, strict=strict
        )
        return pixels_HWC

    try:
        pixels_HWC, damaged = decode(True), False
    except ValueError as error:
        warning = str(error)
        if "remature end" in warning:
            raise TruncatedImage(TRUNCATED) from error
        if "subsampling" in warning:
            raise UndecodableImage(
                "this JPEG stores its colours at an uncommon resolution, which is not decoded here; save it again with "
                "common settings"
            ) from error
        if not any(harmless in warning for harmless in _HARMLESS):
            raise UndecodableImage("the picture's JPEG data are damaged") from error
        pixels_HWC, damaged = decode(False), True
    if colorspace == "CMYK":
        # By Adobe's convention, which everyone follows, inks are stored inverted.
        return Image.fromarray(255 - pixels_HWC, "CMYK"), damaged
    if colorspace == "GRAY":
        return Image.fromarray(pixels_HWC[..., 0]), damaged
    return Image.frombuffer("RGBX", pixels_HWC.shape[1::-1], pixels_HWC, "raw", "RGBX", 0, 1), damaged
