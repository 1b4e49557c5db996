"""Small files that are made to keep a decoder busy, or to take its memory, are refused by their headers."""

import contextlib
import struct
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from model import images
from model.images import Limits, decode
from tests import heif
from tests.conftest import encode, encode_jxl, photo, sample
from tests.model.test_images import png
from tests.model.test_upload_traps import chunk

BODY = 32 * 2**20
"""Bytes of the largest body that the service takes."""


def segment(marker: int, contents: bytes) -> bytes:
    return b"\xff" + bytes((marker,)) + struct.pack(">H", len(contents) + 2) + contents


def behind_start(*segments: bytes) -> bytes:
    data = sample("JPEG")
    return data[:2] + b"".join(segments) + data[2:]


def scans(side: int, count: int) -> bytes:
    """A progressive JPEG of one colour with so many scans that change nothing."""
    data = encode(photo(64, 64).convert("L"), progressive=True)
    start = data.index(b"\xff\xda")
    frame = data.index(b"\xff\xc2")
    head = data[: frame + 5] + struct.pack(">HH", side, side) + data[frame + 9 : start]
    return head + (segment(0xDA, b"\1\1\0\1\5\0") + b"\x7f" * 4) * count + b"\xff\xd9"


def test_scans_without_end_are_refused_at_once() -> None:
    for side, count in ((8000, 300), (1000, 15_000), (64, 300_000)):
        with pytest.raises(images.TooMuchWork):
            decode(scans(side, count))


def test_honest_progressive_photos_are_far_from_the_limit() -> None:
    data = encode(photo(2000, 1500), progressive=True)
    assert decode(data, Limits(seconds=1.5)).image.size == (2000, 1500)


def gif_start() -> int:
    return 13 + (3 << (sample("GIF")[10] & 7) + 1)


def tiff(entries: list[tuple[int, int, int, int]], directories: int = 1) -> bytes:
    out = b"II*\0" + struct.pack("<I", 8)
    for _ in range(directories):
        body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        out += body + struct.pack("<I", len(out) + len(body) + 4)
    return out


SIZE = [(256, 4, 1, 96), (257, 4, 1, 64)]
SIXTEENTH = BODY // 16


def boxed(*contents: bytes) -> bytes:
    return heif.box(b"ftyp", b"avif", bytes(4), b"avif") + heif.full(b"meta", *contents)


def into_png(*chunks: bytes) -> bytes:
    data = sample("PNG")
    return data[:33] + b"".join(chunks) + data[33:]


HOSTILE: dict[str, Callable[[], bytes]] = {
    "JPEG of empty segments": lambda: behind_start(segment(0xFE, b"") * (BODY // 4)),
    "JPEG of EXIF in parts": lambda: behind_start(segment(0xE1, b"Exif\0\0" + bytes(1600)) * 19_000),
    "JPEG of garbage": lambda: behind_start(b"\1" * BODY),
    "JPEG of fill bytes": lambda: sample("JPEG")[:2] + b"\xff" * BODY,
    "PNG of empty chunks": lambda: into_png(chunk(b"teXt", b"") * (BODY // 12)),
    "PNG of empty pixels": lambda: into_png(chunk(b"IDAT", b"") * (BODY // 12)),
    "GIF of tiny blocks": lambda: sample("GIF")[: gif_start()] + b"!\xfe" + b"\1a" * (BODY // 2),
    "GIF of empty extensions": lambda: sample("GIF")[: gif_start()] + b"!\xfe\0" * (BODY // 3),
    "GIF of one comment": lambda: sample("GIF")[: gif_start()] + b"!\xfe" + (b"\xff" + b"a" * 255) * (BODY // 256),
    "TIFF of huge counts": lambda: tiff([*SIZE, *((tag, 4, SIXTEENTH * 4 - 5000, 8) for tag in (258, 273, 279, 330))],
                                        100).ljust(BODY, b"\0"),
    "TIFF of impossible counts": lambda: tiff([*SIZE, (273, 4, 2**32 - 1, 8), (279, 4, 2**32 - 1, 8)]),
    "BigTIFF of impossible counts": lambda: b"II+\0" + struct.pack("<HHQQHHQQ", 8, 0, 16, 1, 273, 16, 2**61, 0),
    "BigTIFF of empty entries": lambda: b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, BODY // 20) + bytes(BODY),
    "TIFF of directories in a circle": lambda: tiff(SIZE, 1)[:-4] + struct.pack("<I", 8),
    "TIFF of subdirectories in a circle": lambda: tiff([*SIZE, (330, 4, 1, 8)]),
    "HEIF of empty boxes": lambda: heif.box(b"ftyp", b"heic", bytes(4), b"heic") + heif.box(b"free") * (BODY // 8),
    "HEIF of nested boxes": lambda: boxed(heif.box(b"free") * (BODY // 8)),
    "HEIF of associations": lambda: boxed(heif.box(b"iprp", heif.box(b"ipco"), heif.full(
        b"ipma", struct.pack(">I", 2**32 - 1), (b"\0\1\xff" + b"\1" * 255) * (BODY // 258)))),
    "HEIF of empty extents": lambda: boxed(heif.full(
        b"iloc", b"\0\0" + struct.pack(">H", 60_000), struct.pack(">HHHH", 1, 0, 0, 65535) * 60_000, version=1)),
    "HEIF of references": lambda: boxed(heif.full(b"iref", *(
        heif.box(b"dimg", struct.pack(">HH", 1, 65535), struct.pack(">H", 2) * 65535) for _ in range(200)))),
    "JPEG 2000 of empty segments": lambda: encode(photo(96, 64), "JPEG2000", no_jp2=True)[:51]
                                           + struct.pack(">HH", 0xFF64, 2) * (BODY // 4),
    "JPEG 2000 of empty boxes": lambda: sample("JPEG2000")[:32] + heif.box(b"free") * (BODY // 8),
    "JPEG XL of empty boxes": lambda: encode_jxl_container()[:32] + heif.box(b"free") * (BODY // 8),
}  # fmt: skip


def encode_jxl_container() -> bytes:
    return encode_jxl(np.asarray(photo(64, 64)), usecontainer=True)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_end_and_take_little_memory(name: str) -> None:
    data = HOSTILE[name]()
    # Following each allocation makes a walk of a million steps ten times as slow; those of GIF hold nothing.
    if counted := not name.startswith("GIF"):
        tracemalloc.start()
    # Where a sound picture is behind what was put before it, that is scored.
    with contextlib.suppress(images.ImageError):
        decode(data)
    if counted:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < len(data) + 64 * 2**20, peak


def test_tiffs_in_millions_of_strips_are_refused() -> None:
    count = 600_000
    entries = [*SIZE, (273, 4, count, 200), (279, 4, count, 200)]
    with pytest.raises(images.TooMuchWork):
        decode(tiff(entries).ljust(200 + 4 * count, b"\0"))


def derived(kind: bytes, size: tuple[int, int] = (96, 64)) -> heif.Item:
    return heif.Item(kind, [heif.ispe(*size)], heif.grid_data(1, 2, *size), inline=True)


BIG = (7000, 7000)


def test_one_large_picture_that_is_referred_to_thousands_of_times_is_refused() -> None:
    tile = heif.plain().item(size=BIG, hidden=True)
    for kind in (b"grid", b"iovl", b"iden"):
        data = heif.write([derived(kind, BIG), tile], [(b"dimg", 1, [2] * 5000)])
        assert len(data) < 20_000
        with pytest.raises(images.TooMuchWork):
            decode(data)


def test_overlays_of_overlays_are_counted_with_all_their_pictures() -> None:
    items = [*(derived(b"iovl", (1000, 1000)) for _ in range(3)), heif.plain().item(size=(1000, 1000), hidden=True)]
    references = [(b"dimg", number, [number + 1] * 100) for number in (1, 2, 3)]
    with pytest.raises(images.TooMuchWork):
        decode(heif.write(items, references))


def test_pictures_that_are_derived_from_themselves_are_refused() -> None:
    with pytest.raises((images.TooMuchWork, images.UnsupportedFormat)):
        decode(heif.write([derived(b"grid"), heif.plain().item()], [(b"dimg", 1, [1, 2])]))
    items = [derived(b"iden") for _ in range(8)] + [heif.plain().item()]
    with pytest.raises((images.TooMuchWork, images.UnsupportedFormat)):
        decode(heif.write(items, [(b"dimg", number, [number + 1]) for number in range(1, 9)]))


def test_the_transparency_of_a_heif_counts_too() -> None:
    alpha = heif.Item(b"grid", [heif.ispe(8000, 8000), heif.ALPHA], heif.grid_data(1, 2, 8000, 8000), inline=True)
    items = [heif.plain().item(), alpha, heif.plain().item(size=(8000, 8000), hidden=True)]
    data = heif.write(items, [(b"auxl", 2, [1]), (b"dimg", 2, [3] * 500)])
    with pytest.raises(images.TooMuchWork):
        decode(data)
    items[1:] = [heif.plain().item([heif.ALPHA], (30_000, 30_000), hidden=True)]
    with pytest.raises((images.TooManyPixels, images.TooMuchWork)):
        decode(heif.write(items, [(b"auxl", 2, [1])]))


def test_a_small_crop_of_a_large_picture_counts_as_the_large_one() -> None:
    for source in (heif.plain(), heif.coded(sample("AVIF"))):
        data = heif.single([heif.clap(64, 64)], size=(15_000, 15_000), source=source)
        with pytest.raises(images.ImageError) as error:
            decode(data, Limits(seconds=1000))
        assert isinstance(error.value, images.TooManyPixels)


def test_coded_data_count_by_the_size_that_they_state() -> None:
    large = heif.coded(encode(photo(1600, 1200), "AVIF", quality=1))
    with pytest.raises(images.TooManyPixels):
        decode(heif.single(size=(64, 64), source=large), Limits(max_pixels=1_000_000))


def test_many_frames_in_one_item_are_counted() -> None:
    avif = heif.coded(encode(photo(1000, 1000), "AVIF", quality=1))
    for source in (heif.plain(), avif):
        item = source.item(size=(1000, 1000))
        item.data *= 400
        with pytest.raises(images.TooMuchWork):
            decode(heif.write([item], brand=b"avif" if source is avif else b"heic"))


def test_the_same_data_in_thousands_of_tiles_are_refused() -> None:
    item = heif.plain().item()
    whole = heif.write([item])
    extents = struct.pack(">II", 0, len(whole)) * 1000
    iloc = heif.full(b"iloc", b"\x44\0", struct.pack(">HHHHH", 1, 1, 0, 0, 1000), extents, version=1)
    at = whole.index(b"iloc") - 4
    (length,) = struct.unpack_from(">I", whole, at)
    meta = whole.index(b"meta") - 4
    (outer,) = struct.unpack_from(">I", whole, meta)
    data = (
        whole[:meta]
        + struct.pack(">I", outer - length + len(iloc))
        + whole[meta + 4 : at]
        + iloc
        + whole[at + length :]
    )
    with pytest.raises(images.TooMuchWork):
        decode(data)


def test_jpeg_2000_of_millions_of_tiles_or_packets_is_refused() -> None:
    data = bytearray(encode(photo(96, 64), "JPEG2000", no_jp2=True))
    for width, tile in ((8000, 4), (60_000, 60_000)):
        changed = bytearray(data)
        struct.pack_into(">IIIIII", changed, 8, width, width, 0, 0, tile, tile)
        with pytest.raises((images.TooMuchWork, images.TooManyPixels)):
            decode(bytes(changed))


def test_pixels_of_every_format_are_counted_by_the_header() -> None:
    side = 17_000
    avif = heif.single(size=(side, side), source=heif.coded(sample("AVIF")))
    stream = bytearray(encode(photo(96, 64), "JPEG2000", no_jp2=True))
    struct.pack_into(">II", stream, 8, side, side)
    for data in (avif, bytes(stream), png(side, side, 1, 0, b""), heif.single(size=(side, side))):
        with pytest.raises(images.TooManyPixels):
            decode(data, Limits(seconds=1000))
