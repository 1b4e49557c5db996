"""Damaged pictures are refused, or scored with a warning; never silently."""

import contextlib
import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model import images
from model.images import ImageWarning, decode
from tests import heif
from tests.conftest import EXAMPLES, encode, encode_jxl, photo, sample
from tests.model.test_images import wide_gamut_profile
from tests.model.test_upload_traps import chunk, with_chunks

COFFEE = Image.open(EXAMPLES[0]).convert("RGB").resize((240, 160))
EOI = b"\xff\xd9"


def hole(data: bytes, share: float, size: int = 300) -> bytes:
    """Zeros in the place of some bytes, as torn downloads have them."""
    at = int(len(data) * share)
    return data[:at] + bytes(size) + data[at + size :]


def is_told(data: bytes) -> bool:
    """Whether a damaged picture is refused, or scored with the warning."""
    try:
        return ImageWarning.DAMAGED_DATA_IGNORED in decode(data).facts.warnings
    except images.UndecodableImage:
        return True


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}], ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_that_was_cut_and_given_an_end_is_truncated(mode: str, options: dict[str, Any], share: float) -> None:
    data = encode(COFFEE.convert(mode), **options)
    with pytest.raises(images.UndecodableImage):
        decode(data[: int(len(data) * share)] + EOI)


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(st.floats(0.15, 0.9), st.integers(40, 900), st.sampled_from([75, 90]), st.sampled_from(["RGB", "L", "CMYK"]))
def test_no_hole_in_a_sequential_jpeg_is_scored_silently(share: float, size: int, quality: int, mode: str) -> None:
    assert is_told(hole(encode(COFFEE.convert(mode), quality=quality), share, size))


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}, {"quality": 30}], ids=str)
def test_even_areas_of_a_jpeg_are_no_holes(options: dict[str, Any]) -> None:
    bordered = Image.new("RGB", (600, 400), "black")
    bordered.paste(COFFEE, (100, 50))
    for image in (bordered, bordered.convert("L"), Image.new("RGB", (600, 400), "white"), Image.new("L", (600, 400))):
        assert ImageWarning.DAMAGED_DATA_IGNORED not in decode(encode(image, **options)).facts.warnings


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}], ids=str)
def test_a_jpeg_with_a_hole_is_not_scored_silently(options: dict[str, Any], share: float) -> None:
    assert is_told(hole(encode(COFFEE, quality=90, **options), share))


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=str)
@pytest.mark.parametrize(
    "end",
    [b"", b"\xff", b"\0\0", bytes(5000), b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data1700000000" + bytes(range(1, 200))],
    ids=["none", "half", "zeros", "many zeros", "trailer"],
)
def test_a_whole_jpeg_without_an_end_marker_is_scored_with_a_warning(end: bytes, options: dict[str, Any]) -> None:
    data = encode(COFFEE, **options)
    whole, damaged = decode(data), decode(data[:-2] + end)
    assert damaged.facts.warnings == (ImageWarning.DAMAGED_DATA_IGNORED,)
    assert damaged.image.tobytes() == whole.image.tobytes()


def test_a_jpeg_with_a_part_of_its_profile_missing_is_told() -> None:
    data = encode(COFFEE, icc_profile=wide_gamut_profile() + bytes(70_000))
    at = data.index(b"ICC_PROFILE\0\2") - 4
    missing = data[:at] + data[at + 2 + struct.unpack_from(">H", data, at + 2)[0] :]
    picture = decode(missing)
    assert picture.facts.warnings == (ImageWarning.ICC_INVALID_IGNORED,)
    assert picture.image.tobytes() == decode(encode(COFFEE)).image.tobytes()


PNGS = [
    encode(photo(64, 48), "PNG"),
    encode(photo(64, 48).convert("L"), "PNG"),
    encode(photo(64, 48).quantize(9), "PNG"),
]


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(st.sampled_from(PNGS), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_every_changed_byte_of_compressed_pixels_in_png_is_found(data: bytes, place: float, mask: int) -> None:
    at = data.index(b"IDAT") + 4
    (length,) = struct.unpack_from(">I", data, at - 8)
    changed = bytearray(data)
    changed[at + int(place * (length + 4))] ^= mask
    with pytest.raises(images.UndecodableImage):
        decode(bytes(changed))


def test_png_whose_pixels_are_broken_under_sound_checksums_is_refused() -> None:
    data = sample("PNG")
    at = data.index(b"IDAT") + 4
    (length,) = struct.unpack_from(">I", data, at - 8)
    for broken in (data[at : at + length // 2], data[at : at + 500] + bytes(200) + data[at + 700 : at + length]):
        with pytest.raises(images.UndecodableImage):
            decode(data[: at - 8] + chunk(b"IDAT", broken) + chunk(b"IEND", b""))


@pytest.mark.parametrize(
    "damaged",
    [
        *(chunk(name, b"\0") for name in (b"cHRM", b"pHYs", b"gAMA", b"tIME")),
        chunk(b"sRGB", b""),
        chunk(b"tEXt", b"a\0b")[:-1] + b"\0",
        chunk(b"gAMA", bytes(4)),
    ],
    ids=["cHRM", "pHYs", "gAMA", "tIME", "sRGB", "checksum", "no gamma"],
)
def test_damaged_chunks_that_pixels_do_without_cost_a_warning(damaged: bytes) -> None:
    picture = decode(with_chunks(damaged))
    assert picture.facts.warnings == (ImageWarning.DAMAGED_DATA_IGNORED,)
    assert picture.image.tobytes() == photo(64, 64).tobytes()


def test_png_without_its_last_chunk_is_scored_with_a_warning() -> None:
    data = sample("PNG")
    assert decode(data[:-12]).facts.warnings == (ImageWarning.DAMAGED_DATA_IGNORED,)
    with pytest.raises(images.TruncatedImage):
        decode(data[:-40])


@pytest.mark.parametrize("share", [0.2, 0.3, 0.45, 0.6, 0.7, 0.9])
def test_tiff_with_a_hole_in_a_jpeg_is_not_scored_silently(share: float) -> None:
    assert is_told(hole(encode(COFFEE, "TIFF", compression="jpeg"), share))


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "tiff_lzw"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_tiff_with_a_hole_in_compressed_pixels_is_refused(share: float, compression: str) -> None:
    with pytest.raises(images.UndecodableImage):
        decode(hole(encode(COFFEE, "TIFF", compression=compression), share))


def test_tiff_whose_deflated_pixels_have_a_wrong_byte_is_refused() -> None:
    data = encode(COFFEE, "TIFF", compression="tiff_adobe_deflate")
    for share in (0.2, 0.4, 0.6, 0.8):
        at = int(share * len(data))
        with pytest.raises(images.UndecodableImage):
            decode(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])


@pytest.mark.parametrize("make", [lambda: sample("HEIC"), lambda: heif.grid(2, 2)], ids=["one", "grid"])
def test_heic_with_a_hole_is_refused(make: Any) -> None:
    data = make()
    for share in (0.4, 0.6, 0.8):
        with pytest.raises(images.UndecodableImage):
            decode(hole(data, share, 16))


def test_heif_whose_data_reach_beyond_the_end_are_truncated() -> None:
    avif = heif.coded(sample("AVIF"))
    for data in (sample("HEIC"), heif.grid(2, 2), heif.single(source=avif), sample("AVIF")):
        with pytest.raises(images.TruncatedImage):
            decode(data[:-1])


def test_heic_whose_units_do_not_fit_is_refused() -> None:
    item = heif.plain().item()
    for data in (item.data[:-3], item.data + b"\0\0\0\1", b"\0\0\0\0" + item.data):
        item.data = data
        with pytest.raises(images.UndecodableImage):
            decode(heif.write([item]))


def sound() -> dict[str, bytes]:
    image, other = photo(64, 48), photo(64, 48, seed=1)
    many: dict[str, Any] = {"save_all": True, "append_images": [other]}
    return {
        **{format_: sample(format_) for format_ in images.FORMATS},
        "progressive": encode(image, progressive=True),
        "JPEG 2000 stream": encode(image, "JPEG2000", no_jp2=True, irreversible=True),
        "JPEG XL box": encode_jxl(np.asarray(image), usecontainer=True, level=80),
        "WebP lossless": encode(image, "WEBP", lossless=True),
        "HEIC grid": heif.grid(2, 2),
        **{f"TIFF {name}": encode(image, "TIFF", compression=name) for name in ("tiff_lzw", "jpeg", "packbits")},
        **{f"{name} frames": encode(image, name, **many) for name in ("GIF", "PNG", "WEBP", "TIFF", "AVIF", "MPO")},
    }


SOUND = {name: (data, decode(data)) for name, data in sound().items()}


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(st.sampled_from(sorted(SOUND)), st.floats(0, 1, exclude_max=True), st.booleans())
def test_what_is_left_of_a_cut_picture_is_refused_told_or_whole(name: str, share: float, near_end: bool) -> None:
    data, whole = SOUND[name]
    left = len(data) - 1 - int(share * 60) if near_end else int(share * len(data))
    try:
        picture = decode(data[:left])
    except images.ImageError:
        return
    assert picture.facts.warnings != whole.facts.warnings or picture.image.tobytes() == whole.image.tobytes()
    # What is missing of these may be a second picture or a trailer; of others it is this one's.
    assert picture.facts.warnings != whole.facts.warnings or name in ("TIFF frames", "MPO frames")


def test_a_gif_without_its_trailer_is_scored_with_a_warning() -> None:
    data = sample("GIF")
    assert ImageWarning.DAMAGED_DATA_IGNORED in decode(data[:-1]).facts.warnings
    with pytest.raises(images.TruncatedImage):
        decode(data[:-30])


def test_pillow_still_reads_what_is_called_sound() -> None:
    for name, (data, _) in SOUND.items():
        if name not in ("HEIC", "JXL", "JPEG XL box", "HEIC grid"):
            with Image.open(io.BytesIO(data)) as image:
                image.load()


@pytest.mark.parametrize("name", sorted(SOUND))
def test_every_beginning_is_refused(name: str) -> None:
    data, _ = SOUND[name]
    for length in range(2, min(len(data) // 3, 300)):
        with pytest.raises(images.ImageError):
            decode(data[:length])


@pytest.mark.parametrize("tag", [256, 257, 258, 259, 262, 273, 277, 279, 339])
@pytest.mark.parametrize("count", [0, 2**32 - 1])
def test_tiff_tags_of_no_or_too_many_values_end_in_documented_errors(tag: int, count: int) -> None:
    data = bytearray(sample("TIFF"))
    at = struct.unpack_from("<I", data, 4)[0] + 2
    for entry in range(at, at + 12 * data[at - 2], 12):
        if struct.unpack_from("<H", data, entry)[0] == tag:
            struct.pack_into("<I", data, entry + 4, count)
    with contextlib.suppress(images.ImageError):
        decode(bytes(data))
