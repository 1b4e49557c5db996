"""Which picture of a file is taken, and that it is taken whole: not a thumbnail, a mosaic, a crop or a wrong frame."""

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model import images
from model.images import ImageWarning, decode
from tests import heif
from tests.conftest import encode, photo, sample
from tests.model.images.test_colour import png
from tests.model.test_upload_traps import chunk


def entry(tag: int, value: int, kind: int = 4) -> tuple[int, int, int, int]:
    return tag, kind, 1, value


def directory(entries: list[tuple[int, int, int, int]], following: int) -> bytes:
    body = b"".join(struct.pack("<HHII", *one) for one in sorted(entries))
    return struct.pack("<H", len(entries)) + body + struct.pack("<I", following)


def tiff(pages: list[tuple[Image.Image, list[tuple[int, int, int, int]]]], sub: bool = False) -> bytes:
    """A TIFF of grey pages with further tags; of those behind the first a list of pages, or a SubIFD."""
    out = bytearray(b"II*\0\0\0\0\0")
    starts = []
    for number, (image, extra) in enumerate(pages):
        pixels = len(out)
        out += image.convert("L").tobytes()
        starts.append(len(out))
        entries = [entry(256, image.width), entry(257, image.height), entry(258, 8, 3), entry(259, 1, 3),
                   entry(273, pixels), entry(277, 1, 3), entry(278, image.height),
                   entry(279, image.width * image.height), *extra]  # fmt: skip
        if not any(tag == 262 for tag, *_ in extra):
            entries.append(entry(262, 1, 3))
        last = number + 1 == len(pages)
        size = 6 + 12 * (len(entries) + (sub and number == 0))
        following = 0 if last else len(out) + size + pages[number + 1][0].width * pages[number + 1][0].height
        if sub and not last:
            entries.append(entry(330, following))
            following = 0
        out += directory(entries, following)
    out[4:8] = struct.pack("<I", starts[0])
    return bytes(out)


THUMBNAIL, PHOTO = photo(48, 40, seed=3), photo(120, 90)
REDUCED, MASK = entry(254, 1), entry(254, 4)


def assert_is_the_photo(data: bytes) -> images.Facts:
    picture = decode(data)
    assert np.array_equal(np.asarray(picture.image)[..., 0], np.asarray(PHOTO.convert("L")))
    return picture.facts


def test_a_thumbnail_before_the_picture_is_passed_over() -> None:
    assert assert_is_the_photo(tiff([(THUMBNAIL, [REDUCED]), (PHOTO, [])])).size == (120, 90)
    assert assert_is_the_photo(tiff([(THUMBNAIL, [MASK]), (PHOTO, [])])).size == (120, 90)
    assert assert_is_the_photo(tiff([(THUMBNAIL, [REDUCED]), (PHOTO, [])], sub=True)).size == (120, 90)


def test_reduced_pages_behind_the_picture_are_no_animation() -> None:
    facts = assert_is_the_photo(tiff([(PHOTO, []), (THUMBNAIL, [REDUCED])]))
    assert facts.warnings == (ImageWarning.GRAYSCALE,)
    assert ImageWarning.ANIMATED_FIRST_FRAME in assert_is_the_photo(tiff([(PHOTO, []), (THUMBNAIL, [])])).warnings


@pytest.mark.parametrize(
    "pages",
    [
        [(THUMBNAIL, [REDUCED]), (PHOTO, [entry(262, 32803, 3)])],
        [(THUMBNAIL, [REDUCED]), (PHOTO, [entry(262, 34892, 3)])],
        [(THUMBNAIL, [REDUCED, entry(50706, 0x00000401)]), (PHOTO, [])],
    ],
    ids=["mosaic", "linear raw", "DNG"],
)
@pytest.mark.parametrize("sub", [False, True])
def test_raw_files_are_refused_as_such(pages: Any, sub: bool) -> None:
    with pytest.raises(images.UnsupportedFormat, match="raw file"):
        decode(tiff(pages, sub))


def test_raw_compressions_are_refused_as_such() -> None:
    data = bytearray(tiff([(PHOTO, [])]))
    at = struct.unpack_from("<I", data, 4)[0] + 2
    for place in range(at, at + 12 * 9, 12):
        if struct.unpack_from("<H", data, place)[0] == 259:
            struct.pack_into("<H", data, place + 8, 34713)
    with pytest.raises(images.UnsupportedFormat, match="raw file"):
        decode(bytes(data))


@pytest.mark.parametrize("kind", [1, 3, 4])
def test_orientation_of_tiff_counts_in_whatever_type_it_is_stored(kind: int) -> None:
    picture = decode(tiff([(PHOTO, [entry(274, 6, kind)])]))
    assert picture.facts.size == (90, 120)
    assert picture.facts.warnings == (ImageWarning.EXIF_ROTATED, ImageWarning.GRAYSCALE)
    assert np.array_equal(np.asarray(picture.image)[..., 0], np.rot90(np.asarray(PHOTO.convert("L")), -1))


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize("format_", ["JPEG", "WEBP", "AVIF", "PNG", "TIFF"])
def test_orientation_in_xmp_alone_does_not_turn(format_: str) -> None:
    options: dict[str, Any] = {"xmp": XMP}
    if format_ == "TIFF":
        options = {"tiffinfo": {700: XMP}}
    data = encode(PHOTO, format_, **({} if format_ == "PNG" else options))
    if format_ == "PNG":
        data = data[:33] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP) + data[33:]
    picture = decode(data)
    assert picture.facts.size == (120, 90)
    assert picture.facts.warnings == ()


def test_of_an_apng_with_a_hidden_default_image_the_first_frame_is_taken() -> None:
    hidden, first, second = (Image.new("RGB", (64, 64), name) for name in ("red", "blue", "green"))
    data = encode(hidden, "PNG", save_all=True, append_images=[first, second], default_image=True)
    picture = decode(data)
    assert picture.image.getpixel((9, 9)) == (0, 0, 255)
    assert picture.facts.warnings == (ImageWarning.ANIMATED_FIRST_FRAME,)
    shown = encode(hidden, "PNG", save_all=True, append_images=[first, second])
    assert decode(shown).image.getpixel((9, 9)) == (255, 0, 0)


def test_around_a_small_first_frame_of_a_gif_the_canvas_is_white() -> None:
    frame = Image.new("P", (40, 40), 1)
    frame.putpalette([0, 255, 0, 255, 0, 0])
    data = bytearray(encode(frame, "GIF"))
    struct.pack_into("<HH", data, 6, 64, 64)
    at = data.index(b",", 13 + (3 << (data[10] & 7) + 1))
    struct.pack_into("<HH", data, at + 1, 10, 20)
    picture = decode(bytes(data))
    assert picture.facts.size == (64, 64)
    pixels = np.asarray(picture.image)
    assert (pixels[20:60, 10:50] == (255, 0, 0)).all()
    assert (pixels[:20] == 255).all()
    assert (pixels[60:] == 255).all()
    assert (pixels[:, :10] == 255).all()
    assert ImageWarning.ALPHA_COMPOSITED in picture.facts.warnings


def bmp(alpha: int) -> bytes:
    """A BMP with a header of version 5 and four bytes for each pixel."""
    pixels = np.dstack([np.asarray(PHOTO)[::-1, :, ::-1], np.full((90, 120), alpha, np.uint8)]).tobytes()
    masks = (0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII4I", 124, 120, 90, 1, 32, 3, len(pixels), 2835, 2835, 0, 0, *masks)
    header = header.ljust(124, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels


def test_an_alpha_channel_of_zeros_everywhere_in_bmp_is_none() -> None:
    for alpha in (0, 255):
        picture = decode(bmp(alpha))
        assert picture.image.tobytes() == PHOTO.tobytes()
        assert picture.facts.warnings == ()
    assert decode(bmp(128)).facts.warnings == (ImageWarning.ALPHA_COMPOSITED,)


def test_a_transparent_colour_of_16_bits_is_composited_like_its_8_bit_twin() -> None:
    codes = np.full((64, 64, 3), 0x4040, np.uint16)
    codes[:, :32] = (0x8080, 0x1010, 0x2020)
    codes[:, 32:40] = (0x8081, 0x1010, 0x2020)
    data = png(codes, chunk(b"tRNS", struct.pack(">3H", 0x8080, 0x1010, 0x2020)))
    pixels = np.asarray(decode(data).image)
    assert (pixels[:, :32] == 255).all()
    assert (pixels[:, 32:40] == (0x80, 0x10, 0x20)).all()
    assert (pixels[:, 40:] == 0x40).all()
    assert {*decode(data).facts.warnings} == {ImageWarning.ALPHA_COMPOSITED, ImageWarning.SIXTEEN_BIT_SCALED}


def test_of_a_jpeg_with_a_gain_map_the_photo_is_taken() -> None:
    gain_map = photo(60, 45, seed=4).convert("L")
    for data in (encode(PHOTO) + encode(gain_map), encode(PHOTO, "MPO", save_all=True, append_images=[gain_map])):
        picture = decode(data)
        assert picture.facts.size == (120, 90)
        assert picture.facts.warnings == ()
        assert picture.facts.format == "JPEG"


AVIF = heif.coded(encode(photo(96, 64), "AVIF", subsampling="4:4:4"))
SOURCES = {"heic": heif.plain(), "avif": AVIF}


def upright(source: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(decode(heif.single(source=SOURCES[source])).image)


@pytest.mark.parametrize("source", SOURCES)
def test_turns_and_mirrors_of_heif_are_applied(source: str) -> None:
    pixels = upright(source)
    for quarters in range(4):
        picture = decode(heif.single([heif.irot(quarters)], source=SOURCES[source]))
        assert np.array_equal(np.asarray(picture.image), np.rot90(pixels, quarters))
        assert picture.facts.warnings == ((ImageWarning.EXIF_ROTATED,) if quarters else ())
    for axis, expected in ((0, pixels[::-1]), (1, pixels[:, ::-1])):
        picture = decode(heif.single([heif.imir(axis)], source=SOURCES[source]))
        assert np.array_equal(np.asarray(picture.image), expected)
    both = decode(heif.single([heif.irot(1), heif.imir(1)], source=SOURCES[source]))
    assert np.array_equal(np.asarray(both.image), np.rot90(pixels)[:, ::-1])


@pytest.mark.parametrize("source", SOURCES)
def test_the_clean_aperture_of_heif_is_cut_out(source: str) -> None:
    pixels = upright(source)
    cases = [
        ([heif.clap(64, 48)], pixels[8:56, 16:80]),
        ([heif.clap(40, 40, (28, 1), (-12, 1))], pixels[:40, 56:96]),
        ([heif.clap(63, 47, (1, 2), (1, 2))], pixels[9:56, 17:80]),
        ([heif.clap(63, 47)], pixels[9:56, 16:79]),
        ([heif.clap(64, 48), heif.irot(1)], np.rot90(pixels[8:56, 16:80])),
    ]
    for properties, expected in cases:
        picture = decode(heif.single(properties, source=SOURCES[source]))
        assert picture.facts.size == expected.shape[1::-1]
        # libheif cuts before it enlarges colours of half the resolution, which moves those at odd offsets a little.
        difference = np.abs(np.asarray(picture.image).astype(int) - expected)
        assert difference.mean() <= (3 if source == "heic" else 0)


def test_a_cropped_and_turned_heic_has_the_same_facts_at_every_scale() -> None:
    data = heif.single([heif.clap(64, 40), heif.irot(3)])
    full = decode(data)
    assert full.facts.size == (40, 64)
    for least in ((20, 32), (10, 16), (5, 8)):
        scaled = decode(data, enough=lambda *_, least=least: least)
        assert scaled.image.size == least
        assert scaled.facts == full.facts


@pytest.mark.parametrize("source", SOURCES)
def test_a_crop_that_is_too_small_is_refused(source: str) -> None:
    with pytest.raises(images.TooSmall):
        decode(heif.single([heif.clap(20, 40)], source=SOURCES[source]))


@pytest.mark.parametrize("source", SOURCES)
def test_doubled_associations_of_old_encoders_are_read(source: str) -> None:
    items = [SOURCES[source].item(), SOURCES[source].item([heif.irot(1)], hidden=True)]
    data = heif.write(items, split_associations=True, brand=source.encode())
    assert data.count(b"ipma") == 2
    assert np.array_equal(np.asarray(decode(data).image), upright(source))


def test_the_primary_picture_is_taken_not_a_thumbnail_a_map_or_another_of_a_burst() -> None:
    others = [heif.plain().item([heif.irot(1)]), heif.plain().item([heif.DEPTH], hidden=True), heif.plain().item()]
    photo_item = heif.plain().item([heif.irot(2)])
    data = heif.write(
        [others[0], others[1], photo_item, others[2]], [(b"thmb", 1, [3]), (b"auxl", 2, [3])], primary=3
    )  # fmt: skip
    picture = decode(data)
    assert np.array_equal(np.asarray(picture.image), upright("heic")[::-1, ::-1])
    assert picture.facts.warnings == (ImageWarning.EXIF_ROTATED,)


def test_data_in_pieces_or_inside_the_header_are_read() -> None:
    item = heif.plain().item()
    for item.pieces, item.inline in ((5, False), (1, True), (3, True)):
        assert np.array_equal(np.asarray(decode(heif.write([item])).image), upright("heic"))


def test_orientation_in_the_exif_of_a_heic_is_not_applied_twice() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    metadata = heif.Item(b"Exif", [], b"\0\0\0\0" + exif.tobytes()[6:], hidden=True)
    data = heif.write([heif.plain().item([heif.irot(3)]), metadata], [(b"cdsc", 2, [1])])
    assert np.array_equal(np.asarray(decode(data).image), np.rot90(upright("heic"), 3))


def test_exif_in_many_parts_is_read_by_its_first() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    data = encode(PHOTO, exif=exif)
    more = b"\xff\xe1" + struct.pack(">H", 1008) + b"Exif\0\0" + bytes(1000)
    at = data.index(b"\xff\xdb")
    picture = decode(data[:at] + more * 20 + data[at:])
    assert picture.facts.warnings == (ImageWarning.EXIF_ROTATED,)


def test_every_sample_is_upright_and_whole() -> None:
    for format_ in images.FORMATS:
        assert decode(sample(format_)).facts.size == (96, 64)
