"""Pictures of every accepted format and kind, and ways to damage them: for the tests and for ``make fuzz``."""

import random
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from tests import heif
from tests.conftest import PICTURES, encode, encode_jxl, photo

SIZE = 48, 40
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
NUMBERS = (0, 1, 2, 31, 32, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
"""Where parsers count wrongly."""

Mutation = Callable[[bytes, random.Random], bytes]


def seeds() -> dict[str, bytes]:
    """Small sound pictures by name; the format is the part of the name before the dash."""
    rgb = photo(*SIZE)
    others = [photo(*SIZE, seed=1), photo(*SIZE, seed=2)]
    rgba = rgb.copy()
    rgba.putalpha(rgb.convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 6
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    deep = Image.fromarray(np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE[::-1]) * 34)
    many: dict[str, Any] = {"save_all": True, "append_images": others}
    kinds: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "JPEG-baseline": (rgb, {}),
        "JPEG-progressive": (rgb, {"progressive": True, "restart_marker_rows": 1}),
        "JPEG-cmyk": (rgb.convert("CMYK"), {}),
        "JPEG-grey": (rgb.convert("L"), {}),
        "JPEG-metadata": (rgb, {"exif": exif, "icc_profile": srgb, "comment": b"text"}),
        "MPO-two": (rgb, many),
        "PNG-colour": (rgb, {}),
        "PNG-alpha": (rgba, {"exif": exif}),
        "PNG-palette": (rgb.quantize(16), {"transparency": 3}),
        "PNG-deep": (deep, {}),
        "PNG-line": (rgb.convert("1"), {}),
        "PNG-animated": (rgb, many),
        "PNG-profile": (rgb, {"icc_profile": srgb}),
        "WEBP-lossy": (rgb, {"exif": exif, "icc_profile": srgb}),
        "WEBP-lossless": (rgba, {"lossless": True}),
        "WEBP-animated": (rgb, many),
        "GIF-one": (rgb, {}),
        "GIF-animated": (rgb, many),
        "GIF-transparent": (rgb.quantize(8), {"transparency": 2}),
        "BMP-colour": (rgb, {}),
        "BMP-palette": (rgb.quantize(16), {}),
        "BMP-line": (rgb.convert("1"), {}),
        "TIFF-plain": (rgb, {"tiffinfo": {274: 6}}),
        "TIFF-lzw": (rgba, {"compression": "tiff_lzw"}),
        "TIFF-deflate": (deep, {"compression": "tiff_adobe_deflate"}),
        "TIFF-jpeg": (rgb, {"compression": "jpeg"}),
        "TIFF-packbits": (rgb.convert("CMYK"), {"compression": "packbits"}),
        "TIFF-fax": (rgb.convert("1"), {"compression": "group4"}),
        "TIFF-pages": (rgb, many),
        "AVIF-colour": (rgb, {"icc_profile": srgb}),
        "AVIF-alpha": (rgba, {"exif": exif}),
        "AVIF-sequence": (rgb, many),
        "JPEG2000-container": (rgb, {"irreversible": True}),
        "JPEG2000-alpha": (rgba, {}),
        "JPEG2000-codestream": (rgb, {"no_jp2": True, "tile_size": (32, 32), "num_resolutions": 3}),
        "JPEG2000-grey": (rgb.convert("L"), {"quality_layers": (40, 20, 0), "progression": "RPCL"}),
    }
    pixels = np.asarray(rgb)
    made = {
        **{f"HEIC-{kind}": (PICTURES / f"{kind}.heic").read_bytes() for kind in ("plain", "alpha", "deep")},
        "HEIC-grid": heif.grid(2, 2),
        "HEIC-turned": heif.single(properties=[heif.IROT, heif.clap(64, 48)]),
        "JXL-lossy": encode_jxl(pixels, level=80),
        "JXL-lossless": encode_jxl(np.asarray(rgba), lossless=True),
        "JXL-grey": encode_jxl(pixels[..., 0], lossless=True),
        "JXL-container": encode_jxl(pixels, usecontainer=True),
    }
    for name, (image, options) in kinds.items():
        # Copies: an image that was once saved as JPEG keeps its encoder's arguments, which other formats choke on.
        frames = {"append_images": [other.copy() for other in others]} if "append_images" in options else {}
        made[name] = encode(image.copy(), name.partition("-")[0], **{**options, **frames})
    return made


def flip(data: bytes, rng: random.Random) -> bytes:
    """Change a few bytes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 12)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def number(data: bytes, rng: random.Random) -> bytes:
    """Write one of the numbers that parsers count wrongly with, in either byte order, mostly near the beginning."""
    layout, size = rng.choice((("<H", 2), (">H", 2), ("<I", 4), (">I", 4)))
    value = rng.choice(NUMBERS) % 256**size
    place = rng.randrange(min(len(data), 256) if rng.randrange(2) else len(data))
    return data[:place] + struct.pack(layout, value) + data[place + size :]


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Leave the end out."""
    return data[: rng.randrange(1, len(data) + 1)]


def cut(data: bytes, rng: random.Random) -> bytes:
    """Leave a piece out."""
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    """Write a piece several times."""
    start, end = _span(data, rng)
    return data[:start] + data[start:end] * rng.randint(2, 20) + data[end:]


def splice(data: bytes, rng: random.Random) -> bytes:
    """Move chunks, segments or blocks: leave some out, repeat some, put others in from another picture."""
    parts = _parts(data)
    foreign = _parts(SEEDS[rng.choice(NAMES)])
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(parts))
        action = rng.randrange(4)
        if action == 0 and len(parts) > 1:
            del parts[place]
        elif action == 1:
            parts.insert(place, rng.choice(parts))
        elif action == 2:
            parts.insert(place, rng.choice(foreign))
        else:
            other = rng.randrange(len(parts))
            parts[place], parts[other] = parts[other], parts[place]
    return b"".join(parts)


def resize(data: bytes, rng: random.Random) -> bytes:
    """Change what the header says of the picture's size."""
    places = _size_fields(data)
    if not places:
        return number(data, rng)
    changed = bytearray(data)
    for offset, layout in rng.sample(places, rng.randint(1, len(places))):
        space = 256 ** struct.calcsize(layout)
        value = rng.choice(NUMBERS) if rng.randrange(2) else rng.randint(1, 4000)
        changed[offset : offset + struct.calcsize(layout)] = struct.pack(layout, value % space)
    return bytes(changed)


def concatenate(data: bytes, rng: random.Random) -> bytes:
    """Put another picture, or what is none, before or after."""
    other = rng.choice((SEEDS[rng.choice(NAMES)], b"PK\x03\x04" + bytes(60), b"<script>alert(1)</script>", bytes(512)))
    return data + other if rng.randrange(3) else other + data


MUTATIONS: Mapping[str, Mutation] = {
    mutation.__name__: mutation for mutation in (flip, number, truncate, cut, repeat, splice, resize, concatenate)
}


def mutate(data: bytes, names: list[str], rng: random.Random) -> bytes:
    """Damage a picture in several ways in turn; half of the damaged PNG files get sound checksums again."""
    for name in names:
        data = MUTATIONS[name](data, rng) or b"\0"
    return with_checksums(data) if data.startswith(PNG_SIGNATURE) and rng.randrange(2) else data


def with_checksums(data: bytes) -> bytes:
    """Put right the checksums of a PNG, without which its decoder would stop at the first changed chunk."""
    parts = _parts(data)
    for index, part in enumerate(parts):
        if index and len(part) >= 12:
            parts[index] = part[:-4] + struct.pack(">I", zlib.crc32(part[4:-4]))
    return b"".join(parts)


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(start + rng.choice((1, 2, 4, 8, 64, 512)), len(data))


def _parts(data: bytes) -> list[bytes]:
    """Split a file where its format does: PNG chunks, JPEG segments, RIFF chunks, boxes; else blocks of 64 bytes."""
    if data.startswith(PNG_SIGNATURE):
        return _split(data, 8, lambda at: 12 + int.from_bytes(data[at : at + 4], "big"))
    if data.startswith(b"\xff\xd8"):
        starts = [at for at in range(len(data) - 1) if data[at] == 0xFF and data[at + 1] not in (0, 0xFF)]
        return [data[a:b] for a, b in zip([0, *starts], [*starts, len(data)], strict=True) if b > a] or [data]
    if data.startswith(b"RIFF"):
        return _split(data, 12, lambda at: 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1) // 2 * 2)
    if data[4:8] in (b"ftyp", b"jP  ", b"JXL "):
        return _split(data, 0, lambda at: int.from_bytes(data[at : at + 4], "big"))
    return [data[at : at + 64] for at in range(0, len(data), 64)]


def _split(data: bytes, start: int, length: Callable[[int], int]) -> list[bytes]:
    parts = [data[:start]] if start else []
    while start < len(data):
        end = start + max(length(start), 8)
        parts.append(data[start:end])
        start = end
    return parts or [data]


def _size_fields(data: bytes) -> list[tuple[int, str]]:
    """Offsets and layouts of the numbers for width and height."""
    fields: list[tuple[int, str]] = []
    if data.startswith(PNG_SIGNATURE):
        fields = [(16, ">I"), (20, ">I")]
    elif data.startswith(b"\xff\xd8"):
        frames = [at for marker in (b"\xff\xc0", b"\xff\xc2") if (at := data.find(marker)) >= 0]
        fields = [(at + offset, ">H") for at in frames for offset in (5, 7)]
    elif data.startswith(b"GIF8"):
        frame = data.find(b",")
        fields = [(6, "<H"), (8, "<H"), *([(frame + 5, "<H"), (frame + 7, "<H")] if frame > 0 else [])]
    elif data.startswith(b"BM"):
        fields = [(18, "<I"), (22, "<I"), (28, "<H")]
    elif data.startswith(b"RIFF"):
        fields = [(24, "<H"), (26, "<H"), (28, "<H")]
    elif data.startswith(b"II*\0") and len(data) >= 8:
        directory = int.from_bytes(data[4:8], "little")
        entries = [directory + 2 + 12 * index for index in range(24)]
        sizes = [at for at in entries if data[at : at + 2] in (b"\x00\x01", b"\x01\x01", b"\x16\x01")]
        fields = [(at + 8, "<H") for at in sizes]
    elif (marker := data.find(b"\xff\x4f\xff\x51")) >= 0:
        fields = [(marker + offset, ">I") for offset in (8, 12, 24, 28)]
    elif (box := data.find(b"ispe")) > 0:
        fields = [(box + 8, ">I"), (box + 12, ">I")]
    return [(offset, layout) for offset, layout in fields if offset + struct.calcsize(layout) <= len(data)]


SEEDS = seeds()
NAMES = sorted(SEEDS)
