"""What pictures off the street hide: rows of "Upload traps" in docs/reliability.md."""

import contextlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.GifImagePlugin import GifImageFile

from model import images
from model.contract import Contract
from model.images import ImageWarning, decode, profiles
from tests.conftest import encode, photo
from tests.model.test_images import png, wide_gamut_profile


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(*chunks: bytes) -> bytes:
    """A small PNG with chunks before its pixels."""
    data = encode(photo(64, 64), "PNG")
    end_of_header = 8 + 25
    return data[:end_of_header] + b"".join(chunks) + data[end_of_header:]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation: int, format_: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo(96, 64), format_, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    picture = decode(data)
    assert np.array_equal(np.asarray(picture.image), np.asarray(expected))
    assert picture.facts.warnings == ((ImageWarning.EXIF_ROTATED,) if orientation > 1 else ())
    assert (picture.facts.width, picture.facts.height) == ((96, 64) if orientation < 5 else (64, 96))


def ink_profile() -> bytes:
    """A profile of printing inks in which cyan prints red: a table of two steps for each ink, in CIELAB."""
    corners = bytearray()
    for index in range(16):
        cyan, magenta, yellow, black = (index >> shift & 1 for shift in (3, 2, 1, 0))
        lightness = 0 if black else 255 - 60 * (cyan + magenta + yellow)
        corners += bytes((lightness, 128 + 100 * (cyan and not black), 128))
    ramp = bytes(range(256))
    identity = b"".join(struct.pack(">i", 65536 * (place % 4 == 0)) for place in range(9))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + 4 * ramp + bytes(corners) + 3 * ramp
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    start = 128 + 4 + 2 * 12
    table += bytes(-len(table) % 4)
    header = bytearray(128)
    header[0:4] = struct.pack(">I", start + len(table) + len(white))
    header[8:12] = b"\x02\x40\0\0"
    header[12:24] = b"prtrCMYKLab "
    header[36:40] = b"acsp"
    header[68:80] = struct.pack(">3i", 63190, 65536, 54061)
    tags = struct.pack(">I4sII4sII", 2, b"A2B0", start, len(table), b"wtpt", start + len(table), len(white))
    return bytes(header) + tags + table + white


def test_inks_are_converted_by_their_profile_not_by_formula() -> None:
    cyan = Image.new("CMYK", (64, 64), (255, 0, 0, 0))
    plain, printed = decode(encode(cyan, quality=95)), decode(encode(cyan, quality=95, icc_profile=ink_profile()))
    assert plain.facts.warnings == (ImageWarning.CMYK_CONVERTED,)
    assert printed.facts.warnings == (ImageWarning.CMYK_CONVERTED, ImageWarning.ICC_CONVERTED)
    by_formula, by_profile = (picture.image.getpixel((9, 9)) for picture in (plain, printed))
    assert isinstance(by_formula, tuple)
    assert isinstance(by_profile, tuple)
    assert by_formula[0] < 10 < 245 < by_formula[2]
    assert by_profile[0] > by_profile[2] + 50


def test_a_profile_beyond_the_limit_is_not_parsed() -> None:
    profile = wide_gamut_profile() + bytes(profiles.ICC_BYTES)
    picture = decode(encode(photo(), icc_profile=profile))
    assert picture.facts.warnings == (ImageWarning.ICC_INVALID_IGNORED,)
    assert np.array_equal(np.asarray(picture.image), np.asarray(decode(encode(photo())).image))


@pytest.mark.parametrize("tail", [b"PK\x03\x04" + bytes(100), b"<script>alert(1)</script>", b"\0" * 9999])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "WEBP"])
def test_what_is_appended_changes_no_pixel(format_: str, tail: bytes) -> None:
    data = encode(photo(), format_)
    alone, followed = decode(data), decode(data + tail)
    assert np.array_equal(np.asarray(alone.image), np.asarray(followed.image))
    assert alone.facts.warnings == followed.facts.warnings
    assert alone.facts.sha256 != followed.facts.sha256


def test_pixels_are_counted_before_any_is_read() -> None:
    # Neither has a row: who looked for one would find the picture truncated.
    for side in (9_000, 12_000):
        with pytest.raises(images.TooManyPixels, match=f"{side}x{side}"):
            decode(png(side, side, 1, 0, b""))
    asked: list[int] = []
    with pytest.raises(images.TruncatedImage):
        decode(png(7_000, 7_000, 1, 0, b""), admit=asked.append)
    assert asked == [49_000_000]


@pytest.mark.parametrize(
    "texts",
    [
        [b"zTXt" + b"a\0\0" + zlib.compress(bytes(profiles.ICC_BYTES + 1), 9)],
        [b"iTXt" + b"a\0\1\0\0\0" + zlib.compress(bytes(profiles.ICC_BYTES + 1), 9)],
        [b"zTXt" + b"a\0\0" + zlib.compress(bytes(profiles.ICC_BYTES), 9)] * 17,
        [b"iCCP" + b"a\0\0" + zlib.compress(bytes(profiles.ICC_BYTES + 1), 9)],
    ],
    ids=["text", "international", "many", "profile"],
)
def test_texts_do_not_unpack_without_bound(texts: list[bytes]) -> None:
    bomb = with_chunks(*(chunk(text[:4], text[4:]) for text in texts))
    assert len(bomb) < 150_000
    with pytest.raises(images.UndecodableImage):
        decode(bomb)


def test_frames_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(_: GifImageFile) -> int:
        raise AssertionError("all frames were looked at")

    data = encode(photo(64, 64), "GIF", save_all=True, append_images=[photo(64, 64, seed=1), photo(64, 64, seed=2)])
    monkeypatch.setattr(GifImageFile, "n_frames", property(walk))
    assert ImageWarning.ANIMATED_FIRST_FRAME in decode(data).facts.warnings


def strangers() -> dict[str, bytes]:
    """A picture in each further format that Pillow can write and read."""
    Image.init()
    written: dict[str, bytes] = {}
    for format_ in sorted(set(Image.SAVE) & set(Image.OPEN) - {*images.FORMATS, "MPO"}):
        for mode in ("1", "L", "RGB"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                written[format_] = encode(photo(64, 64).convert(mode), format_)
    return written


def test_decoders_that_nobody_asked_for_are_out_of_reach() -> None:
    data = strangers()
    assert {"EPS", "ICO", "PCX", "PPM", "TGA"} <= set(data)
    for format_, stranger in data.items():
        with pytest.raises(images.UnsupportedFormat):
            assert decode(stranger) is None, format_


@pytest.mark.parametrize("brand", [b"jxl ", b"jpx ", b"crx ", b"qt  ", b"isom", b"mp42", b"abcd"])
def test_containers_of_other_codecs_are_refused(brand: bytes) -> None:
    with pytest.raises(images.UnsupportedFormat):
        decode(struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + brand + brand + bytes(999))


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"hevc", b"avif"])
def test_containers_with_nothing_inside_are_undecodable(brand: bytes) -> None:
    with pytest.raises(images.UndecodableImage):
        decode(struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + brand + b"heic" + bytes(999))


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}], ids=str)
def test_large_photos_are_decoded_at_full_size(options: dict[str, Any]) -> None:
    """JPEG could be decoded at an eighth for a fraction of the time, but that blurs what is to be judged."""
    data = encode(photo(2400, 1600), quality=90, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(decode(data).image), np.asarray(image.convert("RGB")))


def test_a_large_photo_is_resized_from_all_its_pixels(contract: Contract) -> None:
    picture = decode(encode(photo(2400, 1600)))
    image = picture.image
    expected = image.resize(contract.target_size(*image.size), Image.Resampling.BILINEAR, reducing_gap=None)
    assert np.array_equal(np.asarray(contract.resized(picture)), np.asarray(expected))


@pytest.mark.parametrize("aspect", [(32, 640), (640, 32), (32, 32)])
def test_the_most_extreme_sizes_that_are_taken_can_be_scored(contract: Contract, aspect: tuple[int, int]) -> None:
    picture = decode(encode(photo(*aspect), "PNG"))
    views = contract.views(picture)
    assert len(views.items)
    assert views.items.shape[1:] == (224, 224, 3)
