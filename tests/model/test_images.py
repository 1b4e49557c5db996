import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from model import images
from model.images import ImageWarning, Limits, decode, decoding, profiles
from tests.conftest import encode, encode_jxl, photo, sample


def pixel(data: bytes, x: int = 40, y: int = 40) -> tuple[int, ...]:
    value = decode(data).image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


@pytest.mark.parametrize("format_", images.FORMATS)
def test_every_format_decodes_to_loaded_rgb(format_: str) -> None:
    picture = decode(sample(format_))
    assert (picture.image.mode, picture.facts.width, picture.facts.height, picture.facts.format) == (
        "RGB",
        96,
        64,
        format_,
    )
    assert picture.facts.warnings == ((ImageWarning.PALETTE_EXPANDED,) if format_ == "GIF" else ())


def test_facts_come_from_the_bytes() -> None:
    data = encode(photo())
    assert decode(data).facts.sha256 == decode(data).facts.sha256
    assert len(decode(data).facts.sha256) == 64
    # Appended bytes are ignored by the decoder, but they are other bytes.
    assert decode(data + b"PK\x03\x04").facts.sha256 != decode(data).facts.sha256


def test_exif_orientation_is_applied() -> None:
    image = photo(60, 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = decode(encode(image, "PNG", exif=exif))
    assert (picture.facts.width, picture.facts.height) == (40, 60)
    assert picture.facts.warnings == (ImageWarning.EXIF_ROTATED,)
    assert np.array_equal(np.asarray(picture.image), np.rot90(np.asarray(image), -1))


def test_broken_exif_costs_nothing() -> None:
    data = encode(photo(), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(data).facts.warnings == ()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_on_white(mode: str) -> None:
    image = Image.new(mode, (64, 64), (255, 0, 0, 0) if mode == "RGBA" else (0, 0))
    assert pixel(encode(image, "PNG")) == (255, 255, 255)
    assert ImageWarning.ALPHA_COMPOSITED in decode(encode(image, "PNG")).facts.warnings


def test_opaque_alpha_is_no_news() -> None:
    assert decode(encode(photo().convert("RGBA"), "PNG")).facts.warnings == ()


def test_palette_with_and_without_transparency() -> None:
    image = Image.new("P", (64, 64), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    assert pixel(encode(image, "PNG")) == (0, 0, 255)
    assert decode(encode(image, "PNG")).facts.warnings == (ImageWarning.PALETTE_EXPANDED,)
    hidden = encode(image, "PNG", transparency=1)
    assert pixel(hidden) == (255, 255, 255)
    assert decode(hidden).facts.warnings == (ImageWarning.ALPHA_COMPOSITED, ImageWarning.PALETTE_EXPANDED)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    data = encode(Image.fromarray(np.tile(ramp, (64, 1))), "PNG")
    got = np.asarray(decode(data).image)[0, :, 0]
    assert np.array_equal(got, np.round(ramp / 257).astype(np.uint8))
    assert decode(data).facts.warnings == (ImageWarning.SIXTEEN_BIT_SCALED, ImageWarning.GRAYSCALE)


def png(width: int, height: int, bit_depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def test_sixteen_bit_colour_is_scaled() -> None:
    data = png(64, 64, 16, 2, (b"\0" + struct.pack(">HHH", 0x8000, 0x40FF, 0xFFFF) * 64) * 64)
    assert pixel(data) == (0x80, 0x40, 0xFF)
    assert decode(data).facts.warnings == (ImageWarning.SIXTEEN_BIT_SCALED,)


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_is_told(mode: str) -> None:
    assert decode(encode(photo().convert(mode), "PNG")).facts.warnings == (ImageWarning.GRAYSCALE,)


def test_cmyk_without_and_with_a_profile() -> None:
    image = photo().convert("CMYK")
    plain = decode(encode(image))
    assert plain.facts.warnings == (ImageWarning.CMYK_CONVERTED,)
    assert np.abs(np.asarray(plain.image).astype(int) - np.asarray(photo())).mean() < 6
    broken = decode(encode(image, icc_profile=b"not a profile"))
    assert broken.facts.warnings == (ImageWarning.CMYK_CONVERTED, ImageWarning.ICC_INVALID_IGNORED)


def wide_gamut_profile() -> bytes:
    """An RGB profile whose primaries differ from sRGB's: sRGB with the red and green columns swapped."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", data[128:132])[0]
    tags = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = tags[b"rXYZ"] + 4, tags[b"gXYZ"] + 4
    data[red : red + 4], data[green : green + 4] = data[green : green + 4], data[red : red + 4]
    return bytes(data).replace("sRGB".encode("utf-16-be"), "xxxx".encode("utf-16-be"))


def test_profiles_are_converted_to_srgb() -> None:
    red = Image.new("RGB", (64, 64), (255, 0, 0))
    converted = decode(encode(red, "PNG", icc_profile=wide_gamut_profile()))
    assert converted.facts.warnings == (ImageWarning.ICC_CONVERTED,)
    value = converted.image.getpixel((9, 9))
    assert isinstance(value, tuple)
    assert value[1] > 250
    assert value[0] < 5


def test_srgb_and_broken_profiles_leave_the_pixels() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile, expected in ((srgb, ()), (b"x" * 200, (ImageWarning.ICC_INVALID_IGNORED,))):
        picture = decode(encode(photo(), "PNG", icc_profile=profile))
        assert picture.facts.warnings == expected
        assert np.array_equal(np.asarray(picture.image), np.asarray(photo()))


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_first_frame_of_many(format_: str) -> None:
    first, second = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
    data = encode(first, format_, save_all=True, append_images=[second])
    red, _, blue = pixel(data)
    assert red > 200
    assert blue < 60
    assert ImageWarning.ANIMATED_FIRST_FRAME in decode(data).facts.warnings


def test_multi_picture_jpeg_is_a_jpeg() -> None:
    data = encode(photo(), "MPO", save_all=True, append_images=[photo(seed=1)])
    assert decode(data).facts.format == "JPEG"
    assert decode(data).facts.warnings == ()


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
def test_truncated_pictures(format_: str, share: float) -> None:
    data = encode(photo(), format_)
    with pytest.raises(images.TruncatedImage):
        decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("format_", images.FORMATS)
def test_a_few_bytes_of_a_picture(format_: str) -> None:
    with pytest.raises(images.UndecodableImage):
        decode(sample(format_)[:20])


@pytest.mark.parametrize("data", [b"", b"hello, I am photo.jpg", b"%PDF-1.7", b"\0" * 100, b"<svg/>"])
def test_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(images.UnsupportedFormat):
        decode(data)


def test_formats_outside_the_list_are_refused() -> None:
    with pytest.raises(images.UnsupportedFormat):
        decode(encode(photo(), "PPM"))


def test_pixels_without_an_agreed_range_are_refused() -> None:
    with pytest.raises(images.UndecodableImage):
        decode(encode(Image.new("F", (64, 64)), "TIFF"))


def test_pixel_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = png(12_000, 12_000, 1, 0, b"\0" * (1 + 12_000 // 8) * 12_000)
    assert len(bomb) < 25_000
    with pytest.raises(images.TooManyPixels, match="12000x12000"):
        decode(bomb)
    with pytest.raises(images.TooManyPixels):
        decode(png(60_000, 60_000, 1, 0, b""))


@pytest.mark.parametrize(
    ("size", "error"),
    [((8, 8), images.TooSmall), ((500, 31), images.TooSmall), ((1, 60_000), images.TooSmall),
     ((40, 900), images.AspectTooExtreme)],
)  # fmt: skip
def test_sizes_that_are_refused(size: tuple[int, int], error: type[Exception]) -> None:
    with pytest.raises(error):
        decode(encode(Image.new("L", size), "PNG"))


def test_limits_are_the_callers() -> None:
    data = encode(photo(100, 100))
    assert decode(data, Limits(max_pixels=10_000)).facts.width == 100
    with pytest.raises(images.TooManyPixels):
        decode(data, Limits(max_pixels=9_999))


def test_open_images_go_the_same_way() -> None:
    data = encode(photo(60, 40), "PNG", exif=exif_upside_down())
    with Image.open(io.BytesIO(data)) as image:
        opened = images.from_image(image)
    assert np.array_equal(np.asarray(opened.image), np.asarray(decode(data).image))
    assert opened.facts.warnings == (ImageWarning.EXIF_ROTATED,)


@pytest.mark.parametrize("size", [(1600, 1200), (160, 120), (816, 612)])
def test_sizes_with_a_16_in_them_are_not_16_bits(size: tuple[int, int]) -> None:
    assert decode(encode(Image.new("RGB", size))).facts.warnings == ()


def tiff_grey(values: np.ndarray[Any, np.dtype[np.uint16]], bits: int, photometric: int) -> bytes:
    """A 16-bit grey TIFF that says it uses fewer bits, or that 0 is white."""
    data = bytearray(encode(Image.fromarray(values), "TIFF"))
    directory = struct.unpack("<I", data[4:8])[0]
    for index in range(struct.unpack("<H", data[directory : directory + 2])[0]):
        entry = directory + 2 + 12 * index
        tag = struct.unpack("<H", data[entry : entry + 2])[0]
        if tag in (258, 262):
            data[entry + 8 : entry + 10] = struct.pack("<H", bits if tag == 258 else photometric)
    return bytes(data)


def test_sixteen_bit_tiff_with_white_as_zero() -> None:
    values = np.full((64, 64), 0x2020, np.uint16)
    assert pixel(tiff_grey(values, 16, 1)) == (0x20, 0x20, 0x20)
    assert pixel(tiff_grey(values, 16, 0)) == (0xDF, 0xDF, 0xDF)


def test_sixteen_bit_grey_with_a_transparent_value() -> None:
    values = np.full((64, 64), 0x2020, np.uint16)
    values[:, :32] = 0x4040
    data = encode(Image.fromarray(values), "PNG", transparency=0x4040)
    assert pixel(data, 10, 10) == (255, 255, 255)
    assert pixel(data, 50, 10) == (0x20, 0x20, 0x20)


def gamma_profile(space: str, gamma: float) -> bytes:
    """A profile of a colour space with another tone curve, made from sRGB's."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", data[128:132])[0]
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = [bytes(data[132 + 12 * i : 144 + 12 * i]) for i in range(count)]
    body, table = b"", b""
    wanted = ("kTRC", "wtpt") if space == "GRAY" else ("rXYZ", "gXYZ", "bXYZ", "rTRC", "gTRC", "bTRC", "wtpt")
    start = 132 + 12 * len(wanted)
    for tag in wanted:
        source = next((entry for entry in tags if entry[:4] == tag.encode()), None)
        offset, size = struct.unpack(">II", source[4:]) if source else (0, 0)
        content = curve if tag.endswith("TRC") else bytes(data[offset : offset + size])
        table += tag.encode() + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = bytearray(data[:128])
    header[0:4] = struct.pack(">I", start + len(body))
    header[16:20] = space.ljust(4).encode()
    return bytes(header) + struct.pack(">I", len(wanted)) + table + body


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_profiles(mode: str) -> None:
    image = Image.new("L", (64, 64), 60).convert(mode)
    data = encode(image, "PNG", icc_profile=gamma_profile("GRAY", 1.0))
    assert abs(pixel(data)[0] - 133) <= 2
    assert decode(data).facts.warnings == (ImageWarning.GRAYSCALE, ImageWarning.ICC_CONVERTED)


def test_linear_light_is_not_taken_for_srgb() -> None:
    data = encode(Image.new("RGB", (64, 64), (60, 60, 60)), "PNG", icc_profile=gamma_profile("RGB", 1.0))
    assert abs(pixel(data)[0] - 133) <= 2
    assert decode(data).facts.warnings == (ImageWarning.ICC_CONVERTED,)


def test_large_profiles_in_png_cost_nothing() -> None:
    profile = wide_gamut_profile() + bytes(1_200_000)
    assert decode(encode(photo(), "PNG", icc_profile=profile)).image.size == (320, 240)


def test_rotated_tiff_is_told() -> None:
    picture = decode(encode(photo(60, 40), "TIFF", tiffinfo={274: 6}))
    assert picture.image.size == (40, 60)
    assert picture.facts.warnings == (ImageWarning.EXIF_ROTATED,)


def test_a_broken_second_page_is_not_looked_at() -> None:
    pages = encode(photo(), "TIFF", save_all=True, append_images=[photo(seed=1)])
    first = struct.unpack("<I", pages[4:8])[0]
    end = first + 2 + 12 * struct.unpack("<H", pages[first : first + 2])[0]
    second = struct.unpack("<I", pages[end : end + 4])[0]
    picture = decode(pages[: second + 20])
    assert np.array_equal(np.asarray(picture.image), np.asarray(photo()))
    assert picture.facts.warnings == (ImageWarning.DAMAGED_DATA_IGNORED,)


def exif_upside_down() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 3
    return exif


SEEDS = [sample(format_) for format_ in images.FORMATS]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_damaged_bytes_meet_documented_errors_only(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 8))):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    try:
        picture = decode(bytes(damaged[: draw.draw(st.integers(1, len(damaged)))]))
    except images.ImageError:
        return
    assert picture.image.mode == "RGB"


def test_a_known_hash_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "hashlib", None)
    assert decode(encode(photo()), sha256="known").facts.sha256 == "known"


def test_rgb_pixels_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def copy(_: Image.Image) -> Image.Image:
        raise AssertionError("pixels were copied")

    data = encode(photo())
    monkeypatch.setattr(Image.Image, "copy", copy)
    assert decode(data).image.mode == "RGB"


def test_a_profile_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[object, ...]] = []
    real = ImageCms.buildTransform

    def build(*arguments: Any) -> ImageCms.ImageCmsTransform:
        made.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(ImageCms, "buildTransform", build)
    profiles._transform.cache_clear()
    data, plain = encode(photo(), icc_profile=wide_gamut_profile()), encode(photo())
    first, between, second = decode(data), decode(plain), decode(data)
    assert len(made) == 1
    assert first.image.tobytes() == second.image.tobytes() != between.image.tobytes()
    assert first.facts == second.facts


def quarter(width: int, height: int) -> tuple[int, int]:
    return width // 4, height // 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_at_a_smaller_scale(orientation: int) -> None:
    asked: list[tuple[int, int]] = []

    def enough(width: int, height: int) -> tuple[int, int]:
        asked.append((width, height))
        return quarter(width, height)

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo(801, 602), exif=exif, quality=95)
    full, scaled = decode(data), decode(data, enough=enough)
    assert scaled.facts == full.facts
    assert asked == [full.facts.size]
    assert full.image.size == full.facts.size
    assert scaled.image.size == ((201, 151) if orientation < 5 else (151, 201))
    expected = full.image.resize(scaled.image.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(scaled.image).astype(int) - np.asarray(expected)).mean() < 3


@pytest.mark.parametrize(
    ("least", "size"),
    [((800, 600), (800, 600)), ((401, 300), (800, 600)), ((400, 300), (400, 300)), ((101, 1), (200, 150)),
     ((10, 10), (100, 75)), ((1600, 1200), (800, 600))],
)  # fmt: skip
def test_no_side_gets_shorter_than_is_enough(least: tuple[int, int], size: tuple[int, int]) -> None:
    assert decode(encode(photo(800, 600)), enough=lambda *_: least).image.size == size


@pytest.mark.parametrize("format_", [name for name in images.FORMATS if name not in ("JPEG", "HEIC")])
def test_other_formats_have_no_scales(format_: str) -> None:
    data = encode_jxl(np.asarray(photo(400, 300))) if format_ == "JXL" else encode(photo(400, 300), format_)
    full, scaled = decode(data), decode(data, enough=quarter)
    assert scaled.facts == full.facts
    assert scaled.image.tobytes() == full.image.tobytes()


@pytest.mark.parametrize("mode", ["L", "CMYK", "MPO"])
def test_all_kinds_of_jpeg_have_scales(mode: str) -> None:
    image = photo(400, 300)
    data = (
        encode(image, "MPO", save_all=True, append_images=[photo(400, 300, seed=1)])
        if mode == "MPO"
        else encode(image.convert(mode))
    )
    full, scaled = decode(data), decode(data, enough=quarter)
    assert scaled.facts == full.facts
    assert scaled.image.size == (100, 75)
    expected = full.image.resize((100, 75), Image.Resampling.BOX)
    assert np.abs(np.asarray(scaled.image).astype(int) - np.asarray(expected)).mean() < 3


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.98])
def test_a_truncated_jpeg_is_refused_at_any_scale(share: float, options: dict[str, Any]) -> None:
    data = encode(photo(800, 600), **options)
    for enough in (None, quarter, lambda *_: (1, 1)):
        with pytest.raises(images.TruncatedImage):
            decode(data[: int(len(data) * share)], enough=enough)


def test_limits_and_admission_are_of_the_pixels_that_are_held() -> None:
    data, progressive = encode(photo(400, 300)), encode(photo(400, 300), progressive=True)
    admitted: list[int] = []
    decode(data, admit=admitted.append, enough=quarter)
    decode(data, admit=admitted.append)
    # All coefficients of a progressive one are held, however small it is decoded.
    decode(progressive, admit=admitted.append, enough=quarter)
    assert admitted == [100 * 75, 400 * 300, 400 * 300]
    assert decode(data, Limits(max_pixels=100 * 75), enough=quarter).facts.size == (400, 300)
    for refused, held in ((data, 100 * 75), (progressive, 400 * 300)):
        with pytest.raises(images.TooManyPixels):
            decode(refused, Limits(max_pixels=held - 1), enough=quarter)
    assert decode(encode(photo(64, 40)), Limits(min_side=40), enough=quarter).image.size == (16, 10)
