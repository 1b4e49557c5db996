"""Colour that is told by numbers instead of a profile: CICP (ITU-T H.273), PNG's gAMA and cHRM; and HDR to SDR.

Each channel's curve gives linear light, a matrix leads to the primaries of sRGB, and sRGB's curve gives 8 bits. It is
computed from all bits that the file has.

HDR (PQ and HLG) is tone-mapped by ITU-R BT.2408: its reference white of 203 cd/m² becomes white, 1.0. Light above
it is rolled off by the EETF of BT.2390, from the brightest value of the picture itself, so that a picture without
any highlight keeps its tones.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From channel values of 0 to 1 to linear light; 1 is white."""
Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""CIE x and y of white, red, green and blue."""

REFERENCE_WHITE = 203.0
"""Luminance of white in HDR, in cd/m² (ITU-R BT.2408)."""
HLG_PEAK = 1000.0
"""Luminance of the display for which HLG is rendered, in cd/m² (ITU-R BT.2100)."""
_D65 = (0.3127, 0.3290)
PRIMARIES: dict[int, Chromaticities] = {
    1: (*_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
"""Colour primaries by their code in ITU-T H.273."""
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50_XYZ = np.array([0.9642, 1.0, 0.8249])
_LUMINANCE_2020 = np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)
_ROWS = 128
"""Rows that are converted at a time, to bound the memory."""
_UNCHANGED = 2
"""Pixels that move by no more than this, of 255, are left alone."""


def _srgb(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _linear(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values


def _gamma(exponent: float) -> Curve:
    return lambda values: values**exponent


def pq(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The EOTF of SMPTE ST 2084, in units of the reference white."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    powered = values ** (1 / m2)
    light = (np.maximum(powered - c1, 0) / (c2 - c3 * powered)) ** (1 / m1)
    return 10_000 / REFERENCE_WHITE * light


def pq_inverse(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Channel values of SMPTE ST 2084 for light in units of the reference white."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    powered = (np.clip(light * REFERENCE_WHITE / 10_000, 0, 1)) ** m1
    return ((c1 + c2 * powered) / (1 + c3 * powered)) ** m2


def hlg(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse OETF of HLG (ITU-R BT.2100): scene light of 0 to 1; the display's part is in ``Encoding.light``."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)


TRANSFERS: dict[int, Curve] = {
    # BT.709 and its relatives, and sRGB: pictures with these codes are shown, and were graded, as sRGB.
    **dict.fromkeys((1, 6, 7, 13, 14, 15), _srgb),
    4: _gamma(2.2),
    5: _gamma(2.8),
    8: _linear,
    16: pq,
    17: _gamma(2.6),
    18: hlg,
}
"""Transfer characteristics by their code in ITU-T H.273."""


@dataclass(frozen=True)
class Encoding:
    """How the numbers of a picture encode colour.

    Attributes:
        curves: Curves of red, green and blue.
        matrix: Linear light of the picture to that of sRGB, (3, 3), by rows.
    """

    curves: tuple[Curve, Curve, Curve]
    matrix: tuple[tuple[float, ...], ...]

    @property
    def hdr(self) -> bool:
        """Whether white is not the brightest value."""
        return self.curves[0] in (pq, hlg)

    def to_srgb(self, codes_HWC: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Convert pixels of three channels, of 8 or 16 bits, to 8-bit sRGB."""
        tables = self._tables(256 if codes_HWC.dtype == np.uint8 else 65536)
        out_HWC = np.empty(codes_HWC.shape, np.uint8)
        strips = [slice(top, top + _ROWS) for top in range(0, len(codes_HWC), _ROWS)]

        def light(rows: slice) -> NDArray[np.float32]:
            codes = codes_HWC[rows]
            return self._light(np.stack([tables[channel][codes[..., channel]] for channel in range(3)], axis=-1))

        roll_off = _roll_off(max(float(light(rows).max()) for rows in strips)) if self.hdr else None
        for rows in strips:
            linear = light(rows)
            if roll_off is not None:
                brightest = np.maximum(linear.max(axis=-1, keepdims=True), 1e-6)
                linear *= roll_off(brightest) / brightest
            out_HWC[rows] = _srgb_codes()[(np.clip(linear, 0, 1) * 65535 + 0.5).astype(np.uint16)]
        return out_HWC

    def _tables(self, levels: int) -> NDArray[np.float32]:
        values = np.arange(levels) / (levels - 1)
        return np.stack([curve(values) for curve in self.curves]).astype(np.float32)

    def _light(self, linear: NDArray[np.float32]) -> NDArray[np.float32]:
        """Display light in the primaries of sRGB, 1 for white."""
        if self.curves[0] is hlg:
            # The OOTF of BT.2100 for a display of 1,000 cd/m²: gamma 1.2 on the luminance.
            linear = linear * (HLG_PEAK / REFERENCE_WHITE) * (linear @ _LUMINANCE_2020)[..., None] ** np.float32(0.2)
        return linear @ np.array(self.matrix, dtype=np.float32).T


def changes_nothing(encoding: Encoding) -> bool:
    """Whether an encoding is sRGB but for rounding, judged by a coarse cube of colours."""
    if encoding.hdr:
        return False
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(64, 64, 3)
    return bool(np.abs(encoding.to_srgb(cube).astype(np.int16) - cube).max() <= _UNCHANGED)


@lru_cache(maxsize=64)
def from_cicp(primaries: int, transfer: int) -> Encoding | None:
    """The encoding of two codes of ITU-T H.273; None for sRGB and for what is unspecified or unknown.

    An unspecified one of the two is taken for that of sRGB.
    """
    curve = TRANSFERS.get(transfer, _srgb)
    encoding = Encoding((curve,) * 3, _to_srgb_primaries(PRIMARIES.get(primaries, PRIMARIES[1])))
    return None if changes_nothing(encoding) else encoding


def from_gamma(gamma: float | None, chromaticities: Chromaticities | None) -> Encoding | None:
    """The encoding of PNG's gAMA and cHRM; None for sRGB.

    Args:
        gamma: The exponent of encoding, 1/2.2 for most pictures; None for sRGB's curve.
        chromaticities: Of white and the primaries; None for those of sRGB.

    Raises:
        ValueError: The numbers make no colour space.
    """
    if gamma is not None and not 0.01 <= gamma <= 100:
        raise ValueError("no gamma")
    # 1/2.2 is what encoders write for sRGB.
    curve = _srgb if gamma is None or abs(gamma * 2.2 - 1) < 0.05 else _gamma(1 / gamma)
    encoding = Encoding((curve,) * 3, _to_srgb_primaries(chromaticities or PRIMARIES[1]))
    return None if changes_nothing(encoding) else encoding


def from_profile(icc: bytes) -> Encoding | None:
    """The encoding of an ICC profile of a matrix and curves, or of curves for grey; None for other kinds.

    Raises:
        struct.error, ValueError: The profile is broken.
    """
    (count,) = struct.unpack_from(">I", icc, 128)
    tags: dict[bytes, bytes] = {}
    for index in range(min(count, 100)):
        name, offset, size = struct.unpack_from(">4sII", icc, 132 + 12 * index)
        tags[name] = icc[offset : offset + size]
    if b"A2B0" in tags:
        return None
    if b"kTRC" in tags:
        return Encoding((_profile_curve(tags[b"kTRC"]),) * 3, tuple(map(tuple, np.eye(3).tolist())))
    if not {b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"} <= tags.keys():
        return None
    red, green, blue = (_profile_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC"))
    columns = [struct.unpack_from(">3i", tags[name], 8) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    to_xyz = np.array(columns).T / 65536
    srgb_xyz = _adapted(_to_xyz(PRIMARIES[1]), _D50_XYZ)
    return Encoding((red, green, blue), tuple(map(tuple, (np.linalg.inv(srgb_xyz) @ to_xyz).tolist())))


def _profile_curve(tag: bytes) -> Curve:
    """A curve of an ICC profile, of type ``curv`` or ``para`` (ICC.1:2022, 10.6 and 10.18)."""
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count == 0:
            return _linear
        values = np.array(struct.unpack_from(f">{count}H", tag, 12))
        if count == 1:
            return _gamma(float(values[0]) / 256)
        return lambda x: np.interp(x, np.linspace(0, 1, count), values / 65535)
    if tag[:4] != b"para":
        raise ValueError("unknown kind of curve")
    (kind,) = struct.unpack_from(">H", tag, 8)
    lengths = (1, 3, 4, 5, 7)
    if kind >= len(lengths):
        raise ValueError("unknown kind of curve")
    numbers = [number / 65536 for number in struct.unpack_from(f">{lengths[kind]}i", tag, 12)]
    g, a, b, c, d, e, f = numbers + [1.0, 0.0, 0.0, 0.0, 0.0, 0.0][len(numbers) - 1 :]
    if kind in (1, 2):
        # Below -b/a these two are constant: 0, or c.
        c, d, e, f = 0.0, (-b / a if a else 0.0), (c if kind == 2 else 0.0), (c if kind == 2 else 0.0)
    return lambda x: np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f)


def _to_xyz(chromaticities: Chromaticities) -> NDArray[np.float64]:
    """The matrix from linear RGB to CIE XYZ, for white of luminance 1."""
    white_x, white_y, *primaries = chromaticities
    if min(chromaticities[1::2]) <= 0:
        raise ValueError("no chromaticities")
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in zip(primaries[::2], primaries[1::2], strict=True)]).T
    white = np.array([white_x / white_y, 1, (1 - white_x - white_y) / white_y])
    try:
        return columns * np.linalg.solve(columns, white)
    except np.linalg.LinAlgError as error:
        raise ValueError("no chromaticities") from error


def _adapted(to_xyz: NDArray[np.float64], white: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix to XYZ with its white moved to another, by Bradford's method."""
    ratio = (_BRADFORD @ white) / (_BRADFORD @ to_xyz.sum(axis=1))
    adapted: NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ np.diag(ratio) @ _BRADFORD @ to_xyz
    return adapted


def _to_srgb_primaries(chromaticities: Chromaticities) -> tuple[tuple[float, ...], ...]:
    srgb_xyz = _to_xyz(PRIMARIES[1])
    matrix = np.linalg.inv(srgb_xyz) @ _adapted(_to_xyz(chromaticities), srgb_xyz.sum(axis=1))
    return tuple(map(tuple, matrix.tolist()))


def _roll_off(peak: float) -> Callable[[NDArray[np.float32]], NDArray[np.float32]] | None:
    """The EETF of ITU-R BT.2390 from a peak to the reference white, both in its units; None if nothing is above it."""
    if peak <= 1:
        return None
    top = float(pq_inverse(np.array(peak)))
    target = float(pq_inverse(np.array(1.0))) / top
    knee = 1.5 * target - 0.5

    def apply(light: NDArray[np.float32]) -> NDArray[np.float32]:
        value = pq_inverse(light.astype(np.float64)) / top
        t = np.clip((value - knee) / (1 - knee), 0, 1)
        spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * target
        return pq(np.where(value < knee, value, spline) * top).astype(np.float32)

    return apply


@lru_cache(maxsize=1)
def _srgb_codes() -> NDArray[np.uint8]:
    """8-bit sRGB for 65,536 steps of linear light."""
    light = np.arange(65536) / 65535
    values = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (values * 255 + 0.5).astype(np.uint8)
