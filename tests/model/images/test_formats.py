"""Pixels beside those of other decoders: libvips, libheif's own tool, and Pillow."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from model.images import ImageWarning, decode
from tests import heif
from tests.conftest import EXAMPLES, PICTURES, encode, encode_jxl, photo
from tests.model.test_images import gamma_profile, wide_gamut_profile
from tests.model.test_upload_traps import ink_profile


def pixels(data: bytes) -> NDArray[np.int16]:
    return np.asarray(decode(data).image).astype(np.int16)


def by_vips(data: bytes) -> NDArray[np.int16]:
    """Upright 8-bit sRGB on white by libvips."""
    image = pyvips.Image.new_from_buffer(data, "").autorot()
    if image.get_typeof("icc-profile-data"):
        image = image.icc_transform("srgb", embedded=True, intent="perceptual")
    image = image.colourspace("srgb")
    if image.hasalpha():
        image = image.flatten(background=[255, 255, 255])
    shown = np.asarray(image.cast("uchar").numpy()).astype(np.int16)
    return np.repeat(shown[..., None], 3, axis=-1) if shown.ndim == 2 else shown


def difference(left: NDArray[np.int16], right: NDArray[np.int16]) -> float:
    assert left.shape == right.shape
    return float(np.abs(left - right).mean())


COFFEE = Image.open(EXAMPLES[0]).convert("RGB").resize((120, 80))
SOFT = COFFEE.copy()
SOFT.putalpha(Image.linear_gradient("L").resize(SOFT.size))
DEEP = Image.fromarray((np.linspace(0, 65535, 120 * 80).reshape(80, 120)).astype(np.uint16))
KINDS: dict[str, tuple[Image.Image, dict[str, Any]]] = {
    "grey": (COFFEE.convert("L"), {}),
    "line": (COFFEE.convert("1"), {}),
    "palette": (COFFEE.quantize(32), {}),
    "colour": (COFFEE, {}),
    "alpha": (SOFT, {}),
    "grey with alpha": (SOFT.convert("LA"), {}),
    "inks": (COFFEE.convert("CMYK"), {"icc_profile": ink_profile()}),
    "16 bits": (DEEP, {}),
    "wide gamut": (COFFEE, {"icc_profile": wide_gamut_profile()}),
    "linear light": (COFFEE, {"icc_profile": gamma_profile("RGB", 1.0)}),
    "grey profile": (COFFEE.convert("L"), {"icc_profile": gamma_profile("GRAY", 1.0)}),
}
WRITTEN = {
    "JPEG": ("grey", "colour", "inks", "wide gamut", "linear light", "grey profile"),
    "PNG": ("grey", "line", "palette", "colour", "alpha", "grey with alpha", "16 bits", "wide gamut", "linear light",
            "grey profile"),
    "WEBP": ("colour", "alpha", "wide gamut", "linear light"),
    "GIF": ("palette", "line"),
    "TIFF": ("grey", "line", "palette", "colour", "alpha", "inks", "16 bits", "wide gamut", "linear light"),
    "AVIF": ("colour", "alpha", "wide gamut"),
}  # fmt: skip

EXACT: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "AVIF": {"subsampling": "4:4:4"}}
"""Decoders are free in how they enlarge colours that are stored at half the resolution, so these are not."""


@pytest.mark.parametrize(("format_", "kind"), [(format_, kind) for format_ in WRITTEN for kind in WRITTEN[format_]])
def test_pixels_are_those_of_another_decoder(format_: str, kind: str) -> None:
    image, options = KINDS[kind]
    data = encode(image, format_, **options, **EXACT.get(format_, {}))
    assert difference(pixels(data), by_vips(data)) <= 1


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_compressed_tiffs_are_those_of_another_decoder(kind: str, compression: str) -> None:
    data = encode(KINDS[kind][0], "TIFF", compression=compression)
    assert difference(pixels(data), by_vips(data)) <= 1


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_as_another_decoder_stands_them(orientation: int, format_: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(COFFEE, format_, exif=exif, **EXACT.get(format_, {}))
    assert difference(pixels(data), by_vips(data)) <= 1


@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_colour_of_16_bits_in_tiff_is_that_of_another_decoder(planes: str) -> None:
    codes = np.asarray(COFFEE).astype(np.uint16) * 257
    if planes == "contig":
        image = pyvips.Image.new_from_array(codes, interpretation="rgb16")
        data = image.tiffsave_buffer()
    else:
        data = planar_tiff(codes)
    assert difference(pixels(data), np.asarray(COFFEE).astype(np.int16)) <= 1
    assert difference(pixels(data), by_vips(data)) <= 1
    assert decode(data).facts.warnings == (ImageWarning.SIXTEEN_BIT_SCALED,)


def planar_tiff(codes_HWC: NDArray[np.uint16]) -> bytes:
    """An uncompressed TIFF with a strip for each channel."""
    height, width, _ = codes_HWC.shape
    size = 2 * width * height
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 140), (259, 3, 1, 1), (262, 3, 1, 2),
               (273, 4, 3, 146), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 3, 158), (284, 3, 1, 2)]  # fmt: skip
    directory = struct.pack("<H", 10) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    values = struct.pack("<3H", 16, 16, 16) + struct.pack("<3I", *(170 + size * plane for plane in range(3)))
    start = b"II*\0" + struct.pack("<I", 8) + directory
    return (
        start.ljust(140, b"\0") + values + struct.pack("<3I", size, size, size) + codes_HWC.transpose(2, 0, 1).tobytes()
    )


def test_premultiplied_alpha_in_tiff_is_undone() -> None:
    grey = np.full((64, 64), 100, np.uint8)
    half = Image.merge("LA", (Image.fromarray(grey), Image.new("L", (64, 64), 128)))
    data = bytearray(encode(half, "TIFF"))
    directory = struct.unpack_from("<I", data, 4)[0]
    for entry in range(directory + 2, directory + 2 + 12 * data[directory], 12):
        if struct.unpack_from("<H", data, entry)[0] == 338:
            struct.pack_into("<H", data, entry + 8, 1)
    # 100 is 50 % of 199, which half covers a white of 127.
    assert abs(int(pixels(bytes(data))[9, 9, 0]) - 227) <= 1


@pytest.mark.parametrize("name", ["plain", "alpha", "deep"])
def test_heics_are_those_of_another_decoder(name: str) -> None:
    expected = by_vips((PICTURES / f"{name}.png").read_bytes())
    assert difference(pixels((PICTURES / f"{name}.heic").read_bytes()), expected) <= 1


def test_a_heic_at_a_smaller_scale_is_the_mean_of_its_pixels() -> None:
    data = (PICTURES / "plain.heic").read_bytes()
    full = decode(data)
    for scale, least in ((2, (48, 32)), (4, (24, 16)), (8, (12, 8))):
        scaled = decode(data, enough=lambda *_, least=least: least)
        assert scaled.facts == full.facts
        assert scaled.image.size == least
        assert np.array_equal(np.asarray(scaled.image), np.asarray(full.image.reduce(scale)))


def test_a_grid_is_put_together() -> None:
    tile = pixels((PICTURES / "plain.heic").read_bytes())
    assert np.array_equal(pixels(heif.grid(2, 2)), np.tile(tile, (2, 2, 1)))
    assert np.array_equal(pixels(heif.grid(2, 2, (150, 100))), np.tile(tile, (2, 2, 1))[:100, :150])


@pytest.mark.parametrize("options", [{}, {"no_jp2": True}, {"tile_size": (32, 32)}, {"progression": "RPCL"}], ids=str)
@pytest.mark.parametrize("kind", ["grey", "colour", "alpha"])
def test_lossless_jpeg_2000_comes_back(kind: str, options: dict[str, Any]) -> None:
    image = KINDS[kind][0]
    expected = by_vips(encode(image, "PNG"))
    assert difference(pixels(encode(image, "JPEG2000", **options)), expected) <= (0.5 if kind == "alpha" else 0)


@pytest.mark.parametrize("options", [{"lossless": True}, {"lossless": True, "usecontainer": True}], ids=str)
@pytest.mark.parametrize("kind", ["grey", "colour", "alpha"])
def test_lossless_jpeg_xl_comes_back(kind: str, options: dict[str, Any]) -> None:
    image = KINDS[kind][0]
    expected = by_vips(encode(image, "PNG"))
    assert difference(pixels(encode_jxl(np.asarray(image), **options)), expected) <= (0.5 if kind == "alpha" else 0)


def drafted(data: bytes, scale: int) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    width, height = image.size
    if scale > 1:
        image.draft(None, (width // scale, height // scale))
    return image.convert("RGB")


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(
    st.tuples(st.integers(32, 90), st.integers(32, 90)),
    st.sampled_from([("L", -1), ("RGB", 0), ("RGB", 1), ("RGB", 2), ("CMYK", -1)]),
    st.booleans(),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(0, 3),
)
def test_jpegs_are_those_of_pillow_to_the_last_bit(
    size: tuple[int, int], kind: tuple[str, int], progressive: bool, scale: int, restart: int
) -> None:
    mode, subsampling = kind
    image = photo(*size).convert(mode)
    data = encode(image, subsampling=subsampling, progressive=progressive, restart_marker_blocks=restart)
    got = decode(data, enough=lambda width, height: (width // scale, height // scale)).image
    expected = drafted(data, scale)
    assert got.size == expected.size
    assert got.tobytes() == expected.tobytes()


def test_srgb_profiles_of_other_makes_change_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(pixels(encode(COFFEE, "PNG", icc_profile=profile)), np.asarray(COFFEE))
