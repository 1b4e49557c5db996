"""Colour that is told by numbers: what is shown is computed here from the formulas of the standards."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pi_heif
import pytest
import pyvips
from numpy.typing import NDArray
from PIL import Image

from model.images import ImageWarning, decode
from tests import heif
from tests.conftest import EXAMPLES, encode, photo
from tests.model.test_images import gamma_profile, wide_gamut_profile
from tests.model.test_upload_traps import chunk

Light = NDArray[np.float64]
COFFEE = np.asarray(Image.open(EXAMPLES[0]).convert("RGB").resize((96, 64)))
SRGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
"""IEC 61966-2-1."""
P3_TO_XYZ = np.array([[0.4865709, 0.2656677, 0.1982173], [0.2289746, 0.6917385, 0.0792869], [0, 0.0451134, 1.0439444]])
"""SMPTE EG 432-1, for D65."""
BT2020_TO_XYZ = np.array([[0.636958, 0.144617, 0.168881], [0.262700, 0.677998, 0.059302], [0, 0.028073, 1.060985]])
"""ITU-R BT.2020."""


def light(codes: NDArray[np.uint8]) -> Light:
    values = codes / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def shown(linear: Light) -> Light:
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_code(linear: Light) -> Light:
    return shown(linear) / 255


def in_primaries(to_xyz: Light, linear: Light) -> Light:
    """Light of sRGB in other primaries with the same white."""
    return np.asarray(linear @ (np.linalg.inv(to_xyz) @ SRGB_TO_XYZ).T).clip(0, 1)


def pq_code(nits: Light) -> Light:
    """SMPTE ST 2084, equation 5.2."""
    powered = (nits / 10_000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * powered) / (1 + 18.6875 * powered)) ** 78.84375)


def hlg_code(nits: Light) -> Light:
    """ITU-R BT.2100, tables 4 and 5: from the light of a display of 1,000 cd/m² to the signal."""
    luminance = np.asarray(nits @ np.array([0.2627, 0.6780, 0.0593])).clip(1e-9)
    scene = nits / 1000 * (luminance / 1000)[..., None] ** (1 / 1.2 - 1)
    scene = np.asarray(scene).clip(1e-9, 1)
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log((12 * scene - 0.28466892).clip(1e-9)) + 0.55991073
    )


def png(codes_HWC: NDArray[np.uint16], *chunks: bytes) -> bytes:
    """A PNG of 16 bits with chunks before its pixels."""
    height, width, channels = codes_HWC.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in codes_HWC)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def sixteen(values: Light) -> NDArray[np.uint16]:
    return np.round(values * 65535).astype(np.uint16)


def cicp(primaries: int, transfer: int) -> bytes:
    return chunk(b"cICP", bytes((primaries, transfer, 0, 1)))


def gama(exponent: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(exponent * 100_000)))


P3_POINTS = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
CHRM = chunk(b"cHRM", struct.pack(">8I", *(round(point * 100_000) for point in P3_POINTS)))


def assert_shows(data: bytes, expected: Light, *warnings: ImageWarning, within: float = 1.0) -> None:
    picture = decode(data)
    difference = np.abs(np.asarray(picture.image).astype(float) - expected)
    assert difference.mean() <= within
    assert difference.max() <= 12 * within
    assert {*picture.facts.warnings} == {*warnings}


DEEP, COLOUR, HDR = ImageWarning.SIXTEEN_BIT_SCALED, ImageWarning.COLOR_CONVERTED, ImageWarning.HDR_CONVERTED
ENCODINGS: dict[str, tuple[Callable[[Light], Light], list[bytes], ImageWarning]] = {
    "Display P3 by cICP": (lambda linear: srgb_code(in_primaries(P3_TO_XYZ, linear)), [cicp(12, 13)], COLOUR),
    "linear light by cICP": (lambda linear: linear, [cicp(1, 8)], COLOUR),
    "gamma 2.2 by cICP": (lambda linear: linear ** (1 / 2.2), [cicp(1, 4)], COLOUR),
    "BT.2020 in PQ": (lambda linear: pq_code(203 * in_primaries(BT2020_TO_XYZ, linear)), [cicp(9, 16)], HDR),
    "BT.2020 in HLG": (lambda linear: hlg_code(203 * in_primaries(BT2020_TO_XYZ, linear)), [cicp(9, 18)], HDR),
    "linear light by gAMA": (lambda linear: linear, [gama(1.0)], COLOUR),
    "gamma 1.8 by gAMA": (lambda linear: linear ** (1 / 1.8), [gama(1 / 1.8)], COLOUR),
    "P3 by gAMA and cHRM": (lambda linear: in_primaries(P3_TO_XYZ, linear), [gama(1.0), CHRM], COLOUR),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_colour_codes_in_png_are_converted_to_srgb(name: str) -> None:
    encode_light, chunks, warning = ENCODINGS[name]
    data = png(sixteen(encode_light(light(COFFEE))), *chunks)
    assert_shows(data, COFFEE.astype(float), DEEP, warning, within=1.0)


@pytest.mark.parametrize("name", ["Display P3 by cICP", "gamma 1.8 by gAMA"])
def test_colour_codes_in_png_of_8_bits_are_converted_too(name: str) -> None:
    encode_light, chunks, warning = ENCODINGS[name]
    image = Image.fromarray(np.round(255 * encode_light(light(COFFEE))).astype(np.uint8))
    data = encode(image, "PNG")
    assert_shows(data[:33] + b"".join(chunks) + data[33:], COFFEE.astype(float), warning, within=1.5)


@pytest.mark.parametrize(
    "chunks",
    [[gama(1 / 2.2)], [gama(0.45455)], [cicp(1, 13)], [cicp(1, 1)], [cicp(2, 2)], [gama(1.0), chunk(b"sRGB", b"\0")],
     [CHRM], [cicp(1, 13), gama(1.0)]],
    ids=["2.2", "0.45455", "sRGB", "BT.709", "unspecified", "sRGB over gamma", "points alone", "codes over gamma"],
)  # fmt: skip
def test_what_is_srgb_by_its_codes_keeps_its_pixels(chunks: list[bytes]) -> None:
    data = encode(photo(64, 48), "PNG")
    picture = decode(data[:33] + b"".join(chunks) + data[33:])
    assert picture.image.tobytes() == photo(64, 48).tobytes()
    assert picture.facts.warnings == ()


def test_codes_in_png_outrank_a_profile() -> None:
    data = encode(photo(64, 48), "PNG", icc_profile=wide_gamut_profile())
    assert decode(data).facts.warnings == (ImageWarning.ICC_CONVERTED,)
    assert decode(data[:33] + cicp(1, 13) + data[33:]).facts.warnings == ()


def eetf(nits: Light, peak: float) -> Light:
    """ITU-R BT.2390-8, 5.4.1, from a peak to 203 cd/m², on the brightest channel of each pixel."""
    top = pq_code(np.array(peak))
    most = pq_code(np.array(203.0)) / top
    knee = 1.5 * most - 0.5
    value = pq_code(nits) / top
    t = (value - knee) / (1 - knee)
    rolled = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    code = np.where(value < knee, value, rolled) * top
    powered = code ** (1 / 78.84375)
    return np.asarray(
        10_000 * ((powered - 0.8359375).clip(0) / (18.8515625 - 18.6875 * powered)) ** (1 / 0.1593017578125)
    )


def test_light_above_white_is_rolled_off() -> None:
    nits = np.tile(np.geomspace(1, 1000, 96)[None, :, None], (64, 1, 3))
    data = png(sixteen(pq_code(nits)), cicp(9, 16))
    assert_shows(data, shown(eetf(nits, 1000.0) / 203), DEEP, HDR, within=1.0)
    got = np.asarray(decode(data).image)[0, :, 0].astype(int)
    assert (np.diff(got) >= 0).all()
    assert got[-1] == 255


def test_hue_stays_where_light_is_rolled_off() -> None:
    nits = np.full((64, 64, 3), 100.0)
    nits[:, :32] = (800.0, 400.0, 200.0)
    data = png(sixteen(pq_code(nits)), cicp(1, 16))
    red, green, blue = light(np.asarray(decode(data).image)[9, 9])
    assert red / green == pytest.approx(2, rel=0.03)
    assert green / blue == pytest.approx(2, rel=0.03)


@pytest.mark.parametrize("source", ["heic", "avif"])
@pytest.mark.parametrize(
    ("codes", "warning"), [((12, 13), COLOUR), ((9, 16), HDR), ((9, 18), HDR), ((1, 8), COLOUR)], ids=str
)
def test_nclx_of_heif_is_read_like_the_codes_of_png(codes: tuple[int, int], warning: ImageWarning, source: str) -> None:
    coded = heif.plain() if source == "heic" else heif.coded(encode(photo(96, 64), "AVIF", subsampling="4:4:4"))
    plain = decode(heif.single(source=coded))
    converted = decode(heif.single([heif.nclx(*codes)], source=coded))
    assert converted.facts.warnings == (warning,)
    data = encode(plain.image, "PNG")
    expected = decode(data[:33] + cicp(*codes) + data[33:])
    difference = np.abs(np.asarray(expected.image).astype(int) - np.asarray(converted.image))
    assert difference.mean() <= 1


def test_nclx_of_srgb_changes_nothing() -> None:
    for codes in ((1, 13), (1, 1), (2, 2), (1, 6)):
        picture = decode(heif.single([heif.nclx(*codes)]))
        assert picture.image.tobytes() == decode(heif.single()).image.tobytes()
        assert picture.facts.warnings == ()


def test_a_profile_of_a_heif_is_converted() -> None:
    for source in (heif.plain(), heif.coded(encode(photo(96, 64), "AVIF"))):
        plain = decode(heif.single(source=source))
        picture = decode(heif.single([heif.icc(wide_gamut_profile())], source=source))
        assert picture.facts.warnings == (ImageWarning.ICC_CONVERTED,)
        swapped = np.asarray(plain.image)[..., [1, 0, 2]].astype(int)
        assert np.abs(np.asarray(picture.image).astype(int) - swapped).mean() < 3


def test_ten_bits_of_a_heic_are_all_used_for_colour() -> None:
    data = heif.single([heif.nclx(1, 8)], source=heif.plain("deep"))
    plain = np.asarray(decode(heif.single(source=heif.plain("deep"))).image)
    expected = shown(plain / 255)
    got = np.asarray(decode(data).image).astype(float)
    # A step of 8 bits is up to 13 of 255 in the dark; of 10 bits a quarter of that.
    assert np.abs(got - expected).mean() < 2
    assert len(np.unique(got)) > len(np.unique(expected.round())) + 20
    # Again and again, while other pictures take the memory that is free.
    for _ in range(10):
        assert np.array_equal(np.asarray(decode(data).image), got)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_ten_bits_of_a_heic_are_all_used_at_smaller_scales_too(scale: int) -> None:
    data = heif.single([heif.nclx(1, 8)], source=heif.plain("deep"))
    # The array of a picture is a view of memory that the picture, not the array, keeps.
    picture = pi_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)[0]
    ten_HWC = np.array(picture)
    height, width, _ = ten_HWC.shape
    means_HWC = ten_HWC.reshape(height // scale, scale, width // scale, scale, 3).mean(axis=(1, 3)) / 1023
    got_HWC = np.asarray(decode(data, enough=lambda *_: (width // scale, height // scale)).image).astype(float)
    assert np.abs(got_HWC - shown(means_HWC)).max() <= 1


def test_a_colour_photo_with_a_profile_for_grey_keeps_its_colours() -> None:
    for format_ in ("JPEG", "PNG", "TIFF", "WEBP"):
        image = photo(96, 64)
        picture = decode(encode(image, format_, icc_profile=gamma_profile("GRAY", 1.0)))
        assert picture.facts.warnings == (ImageWarning.ICC_INVALID_IGNORED,)
        assert picture.image.tobytes() == decode(encode(image, format_)).image.tobytes()


def test_a_profile_for_inks_on_a_colour_photo_and_the_reverse_are_ignored() -> None:
    inks = decode(encode(photo(96, 64).convert("CMYK"), icc_profile=wide_gamut_profile()))
    assert inks.facts.warnings == (ImageWarning.CMYK_CONVERTED, ImageWarning.ICC_INVALID_IGNORED)


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
@pytest.mark.parametrize("space", ["RGB", "GRAY"])
def test_linear_light_of_16_bits_is_converted_before_it_is_cut_to_8(space: str, format_: str) -> None:
    ramp = np.tile(np.linspace(0, 0.02, 96)[None, :, None], (64, 1, 3 if space == "RGB" else 1))
    codes = sixteen(ramp)
    profile = gamma_profile(space, 1.0)
    if format_ == "PNG":
        data = png(codes, chunk(b"iCCP", b"x\0\0" + zlib.compress(profile)))
    elif space == "GRAY":
        data = encode(Image.fromarray(codes[..., 0]), "TIFF", icc_profile=profile)
    else:
        image = pyvips.Image.new_from_array(codes, interpretation="rgb16").copy()
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
        data = image.tiffsave_buffer()
    picture = decode(data)
    assert ImageWarning.ICC_CONVERTED in picture.facts.warnings
    assert DEEP in picture.facts.warnings
    got = np.asarray(picture.image).astype(float)
    assert np.abs(got - np.broadcast_to(shown(ramp), got.shape)).max() <= 1
    assert len(np.unique(got)) > 30
