"""JPEG XL, decoded by libjxl through imagecodecs, which the extra ``jxl`` installs.

The codestream's header is read first (ISO/IEC 18181-1, annex D). imagecodecs does not tell the colour of its pixels,
so only pictures in sRGB are decoded, or grey with sRGB's curve.
"""

import numpy as np
from PIL import Image

from model.images import boxes
from model.images.errors import TRUNCATED, TruncatedImage, UndecodableImage, UnsupportedFormat, undecodable
from model.images.facts import Header, Loaded

SIGNATURES = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
PIXEL_SECONDS = 1e-7
"""Work for a pixel, on one processor core."""
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_ALPHA, _SRGB_CURVE = 0, 13
_COLOR, _GREY = 0, 1


class _Bits:
    """Reads a codestream bit by bit, the lowest first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data[:4096], "little"), 8 * min(len(data), 4096)

    def take(self, count: int) -> int:
        if count > self._left:
            raise TruncatedImage(TRUNCATED)
        value = self._value & (1 << count) - 1
        self._value >>= count
        self._left -= count
        return value

    def one_of(self, *choices: tuple[int, int]) -> int:
        """A number of one of four distributions: an offset and how many bits are added to it."""
        offset, count = choices[self.take(2)]
        return offset + self.take(count)

    def enum(self) -> int:
        return self.one_of((0, 0), (1, 0), (2, 4), (18, 6))

    def skip_float(self) -> None:
        self.take(16)


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)
    sides = ((1, 9), (1, 13), (1, 18), (1, 30))
    height = 8 * (bits.take(5) + 1) if small else bits.one_of(*sides)
    ratio = bits.take(3)
    if ratio:
        across, down = _RATIOS[ratio - 1]
        return height * across // down, height
    return (8 * (bits.take(5) + 1) if small else bits.one_of(*sides)), height


def _depth(bits: _Bits) -> int:
    if bits.take(1):
        raise UndecodableImage("its pixels are floating-point numbers, which have no agreed range; save it with 8 bits")
    return bits.one_of((8, 0), (10, 0), (12, 0), (1, 6))


def _metadata(bits: _Bits) -> tuple[int, bool, bool]:
    """Bits of a sample, whether the picture is turned, and whether frames follow.

    Raises:
        UndecodableImage: Its colours are not those of sRGB, or its channels are others than colour and alpha.
    """
    if bits.take(1):
        return 8, False, False
    turned = animated = False
    if bits.take(1):
        turned = bits.take(3) > 0
        if bits.take(1):
            _size(bits)
        if bits.take(1):
            raise UndecodableImage("this JPEG XL has a preview, which is not decoded here; save it again without")
        if animated := bool(bits.take(1)):
            bits.one_of((100, 0), (1000, 0), (1, 10), (1, 30))
            bits.one_of((1, 0), (1001, 0), (1, 8), (1, 10))
            bits.one_of((0, 0), (0, 3), (0, 16), (0, 32))
            bits.take(1)
    depth = _depth(bits)
    bits.take(1)
    for _ in range(bits.one_of((0, 0), (1, 0), (2, 4), (1, 12))):
        if not bits.take(1):
            kind = bits.enum()
            if kind != _ALPHA:
                raise UndecodableImage("this JPEG XL has other channels than colour and alpha; save it as a PNG")
            _depth(bits)
            bits.one_of((0, 0), (3, 0), (4, 0), (1, 3))
            bits.take(8 * bits.one_of((0, 0), (0, 4), (16, 5), (48, 10)))
            bits.take(1)
    bits.take(1)
    if not bits.take(1) and (bits.take(1) or not _is_srgb(bits)):
        raise UndecodableImage("this JPEG XL is not in sRGB, and is not decoded here; save it in sRGB, or as a PNG")
    return depth, turned, animated


def _is_srgb(bits: _Bits) -> bool:
    space = bits.enum()
    white = bits.enum()
    primaries = bits.enum() if space == _COLOR else 1
    # A gamma instead of a named curve is another colour.
    return space in (_COLOR, _GREY) and white == primaries == 1 and not bits.take(1) and bits.enum() == _SRGB_CURVE


def read(data: bytes) -> Header:
    """Read the header of a JPEG XL.

    Raises:
        ImageError: It cannot be read, or its colours cannot be told.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise UnsupportedFormat("this is a JPEG XL, which is decoded only where the extra jxl is installed") from error
    stream = data
    if not data.startswith(SIGNATURES[0]):
        # A codestream in parts has four bytes of numbering before each; its header is in the first.
        places = (box for box in boxes.walk(data) if box.kind in (b"jxlc", b"jxlp"))
        box = next(places, None)
        if box is None:
            raise TruncatedImage(TRUNCATED)
        stream = data[box.inside + (4 if box.kind == b"jxlp" else 0) : box.inside + 8192]
        if not stream.startswith(SIGNATURES[0]):
            raise UndecodableImage("the picture's header cannot be read")
    bits = _Bits(stream[2:8192])
    width, height = _size(bits)
    depth, turned, animated = _metadata(bits)

    def load(scale: int) -> Loaded:  # noqa: ARG001
        with undecodable("the picture's JPEG XL data cannot be decoded"):
            pixels = imagecodecs.jpegxl_decode(data, index=0 if animated else None, numthreads=1)
        if pixels.dtype != np.uint8:
            pixels = (pixels >> (16 - 8)).astype(np.uint8)
        image = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
        return Loaded(image=image, turned=turned, animated=animated, sixteen_bit=depth > 8)

    return Header(format="JXL", size=(width, height), seconds=PIXEL_SECONDS * width * height, load=load)
