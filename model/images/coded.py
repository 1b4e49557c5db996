"""What the coded data of HEIF pictures state themselves: decoders follow it, whatever the boxes around say.

HEVC by ITU-T H.265, 7.3; AV1 by its specification, 5.3 to 5.10.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from model.images.errors import UndecodableImage

_ZEROS = re.compile(rb"\0\0[\0-\2]")
"""Bytes that cannot stand in HEVC data, which escape them: a hole, as of a torn download, is full of them."""
_SPS = 33
_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6


class Coded(NamedTuple):
    """How many pixels a frame of some coded data has at most, and how many frames there are."""

    pixels: int
    frames: int


class _Bits:
    """Reads bit by bit, the highest first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise UndecodableImage("the picture's header cannot be read")
        return self._value >> self._left & (1 << count) - 1

    def exponential(self) -> int:
        """A number in the exponential Golomb code of HEVC, or in the similar one of AV1."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def hevc(configuration: bytes, data: bytes) -> Coded:
    """Walk and check the units of a HEVC picture, whose decoder draws damaged ones without a word.

    Args:
        configuration: Contents of ``hvcC``.
        data: The coded picture.

    Raises:
        UndecodableImage: The units have holes, or do not fit.
    """
    if len(configuration) < 23:
        raise UndecodableImage("the picture's header cannot be read")
    prefix = (configuration[21] & 3) + 1
    pixels = frames = at = 0
    for unit in _parameter_sets(configuration):
        pixels = max(pixels, _hevc_pixels(unit))
    while at < len(data):
        start = at + prefix
        length = int.from_bytes(data[at:start], "big")
        at = start + length
        # Zeros may follow the last unit of a picture, behind its stop bit.
        if at > len(data) or length < 2 or data[start] & 0x80 or _ZEROS.search(data, start, at):
            raise UndecodableImage("the picture's HEIC data are damaged")
        kind = data[start] >> 1
        if kind == _SPS:
            pixels = max(pixels, _hevc_pixels(data[start:at]))
        frames += kind < 32 and length > 2 and data[start + 2] >> 7
    return Coded(pixels, frames)


def _parameter_sets(configuration: bytes) -> Iterator[bytes]:
    """The units of kind SPS in ``hvcC`` (ISO/IEC 14496-15, 8.3.3)."""
    at = 23
    try:
        for _ in range(configuration[22]):
            kind, count = struct.unpack_from(">BH", configuration, at)
            at += 3
            for _ in range(count):
                (length,) = struct.unpack_from(">H", configuration, at)
                if kind & 63 == _SPS:
                    yield configuration[at + 2 : at + 2 + length]
                at += 2 + length
    except struct.error as error:
        raise UndecodableImage("the picture's header cannot be read") from error


def _hevc_pixels(unit: bytes) -> int:
    bits = _Bits(unit[2:200].replace(b"\0\0\3", b"\0\0"))
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + 96)
    if layers:
        present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
        bits.take(2 * (8 - layers))
        for profile, level in present:
            bits.take(88 * profile + 8 * level)
    bits.exponential()
    if bits.exponential() == 3:
        bits.take(1)
    return bits.exponential() * bits.exponential()


def av1(configuration: bytes, data: bytes) -> Coded:
    """Walk the units of an AV1 picture.

    Args:
        configuration: Contents of ``av1C``.
        data: The coded picture.

    Raises:
        UndecodableImage: They do not fit.
    """
    pixels = frames = 0
    for kind, unit in (*_units(configuration[4:]), *_units(data)):
        if kind == _SEQUENCE:
            pixels = max(pixels, _av1_pixels(unit))
        frames += kind in (_FRAME_HEADER, _FRAME)
    return Coded(pixels, frames)


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        head = data[at]
        at += 2 if head & 4 else 1
        length = len(data) - at
        if head & 2:
            length = 0
            for place in range(8):
                byte = data[at] if at < len(data) else 0
                at += 1
                length |= (byte & 127) << 7 * place
                if byte < 128:
                    break
        if head & 0x80 or at + length > len(data):
            raise UndecodableImage("the picture's AVIF data are damaged")
        yield head >> 3 & 15, data[at : at + min(length, 200)]
        at += length


def _av1_pixels(unit: bytes) -> int:
    bits = _Bits(unit)
    bits.take(4)
    if bits.take(1):
        bits.take(5)
    else:
        _skip_operating_points(bits)
    across, down = bits.take(4) + 1, bits.take(4) + 1
    return (bits.take(across) + 1) * (bits.take(down) + 1)


def _skip_operating_points(bits: _Bits) -> None:
    """Skip what only sequences have, from timing to the last operating point."""
    model = delay_bits = 0
    if bits.take(1):
        bits.take(64)
        if bits.take(1):
            bits.exponential()
        if model := bits.take(1):
            delay_bits = bits.take(5) + 1
            bits.take(32 + 5 + 5)
    delays = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if model and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if delays and bits.take(1):
            bits.take(4)
