"""HEIF containers: AVIF, decoded by Pillow, and HEIC, decoded by libheif through pi-heif.

The boxes are read first: they tell the sizes, how much there is to decode, the colour (``colr``), and a crop
(``clap``), which Pillow passes over for AVIF. libheif crops, turns and composes tiles itself.
"""

import io
import math
import struct
from collections import Counter
from fractions import Fraction

import numpy as np
import pi_heif
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image

from model.images import boxes, coded, color, exif
from model.images.boxes import Item, Meta
from model.images.coded import Coded
from model.images.color import Encoding
from model.images.errors import TRUNCATED, TooMuchWork, TruncatedImage, UndecodableImage, UnsupportedFormat, undecodable
from model.images.facts import Header, Loaded

AVIF_SECONDS, HEIC_SECONDS = 5e-8, 4e-8
"""Work for a pixel, on one processor core."""
HEIC_WEIGHT = 5 / 16
"""A pixel of 8 bits takes 4.5 bytes while libheif decodes it, less than a third of what Pillow takes for others."""
SCALES = (1, 2, 4, 8)
"""How many times smaller each side of a HEIC may be loaded; it is decoded in full, and averaged."""
_AVIF_BRANDS, _SEQUENCE = (b"avif", b"avis"), (b"avis", b"hevc", b"hevx", b"msf1")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
BRANDS = (*_AVIF_BRANDS, *_HEIC_BRANDS)
_NAMES = {b"jpeg": "JPEG", b"j2k1": "JPEG 2000", b"vvc1": "VVC", b"unci": "uncompressed data", b"avc1": "H.264"}
_ALPHA = (b"auxid:1", b"auxiliary:alpha")
"""What the types of auxiliary pictures that are decoded with their pictures hold."""
_LEVELS = 4
"""More levels of derived pictures than any sound file has."""
_STRIP = 256
"""Rows that are reduced at a time; a multiple of all scales."""

# The pool of decoders decides how many pictures are decoded at a time, each by one thread.
pi_heif.options.DECODE_THREADS = 1
pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def read(data: bytes) -> Header:
    """Read the header of an AVIF or a HEIC.

    Raises:
        ImageError: It cannot be read, or holds another kind of picture.
    """
    found = boxes.meta(data)
    item = found.items.get(found.primary, Item())
    kind = _coding(found, item)
    if kind != b"hvc1" and kind != b"av01" and data[8:12] not in _AVIF_BRANDS:
        name = _NAMES.get(kind, "another codec")
        raise UnsupportedFormat(
            f"this is a HEIF file with {name} inside, which is not decoded here; send a HEIC or JPEG"
        )
    work = _Work(data, found)
    pixels = work.pixels(found.primary)
    return _read_heic(data, item, pixels, work) if kind == b"hvc1" else _read_avif(data, found, item, pixels, work)


class _Work:
    """Adds up the pixels that are decoded for a picture: those of all its sources, as often as it refers to them.

    Attributes:
        largest: Pixels of the largest that was met, as its boxes or its data say.
    """

    def __init__(self, data: bytes, found: Meta) -> None:
        self.largest = 1
        self._data, self._found = data, found
        self._known: dict[int, int] = {}
        self._bytes = 0

    def pixels(self, number: int, level: int = 0) -> int:
        """Pixels of a picture.

        Raises:
            TooMuchWork: It is derived over too many levels, or data are used too often.
            TruncatedImage: Data reach beyond the end of the file.
            UndecodableImage: Data are damaged.
        """
        if number in self._known:
            return self._known[number]
        if level > _LEVELS:
            raise TooMuchWork("the picture is derived from others over too many levels; save it again")
        item = self._found.items.get(number, Item())
        size = item.size[0] * item.size[1]
        frames = 1
        if not item.sources:
            inside = self._coded(item)
            size, frames = max(size, inside.pixels), max(inside.frames, 1)
        self.largest = max(self.largest, size)
        parts = Counter(item.sources)
        parts.update(other for other in set(item.auxiliary) if self._is_alpha(other))
        total = size * frames + sum(times * self.pixels(part, level + 1) for part, times in parts.items())
        self._known[number] = total
        return total

    def _is_alpha(self, number: int) -> bool:
        kind = self._found.items.get(number, Item()).get(b"auxC") or b""
        return any(name in kind for name in _ALPHA)

    def _coded(self, item: Item) -> Coded:
        data = self._data_of(item)
        if item.kind == b"hvc1":
            return coded.hevc(item.get(b"hvcC") or b"", data)
        return coded.av1(item.get(b"av1C") or b"", data) if item.kind == b"av01" else Coded(0, 1)

    def _data_of(self, item: Item) -> bytes:
        start, stop = 0, len(self._data)
        if item.offset_base:
            if self._found.inline is None or item.offset_base != 1:
                raise UndecodableImage("the picture's header cannot be read")
            start, stop = self._found.inline.inside, self._found.inline.stop
        parts = []
        for offset, length in item.extents:
            # A length of 0 is all there is.
            end = start + offset + length if length else stop
            if end > stop:
                raise TruncatedImage(TRUNCATED)
            self._bytes += end - start - offset
            if self._bytes > 4 * len(self._data):
                raise TooMuchWork("the picture uses the same data too often; save it again with common settings")
            parts.append(self._data[start + offset : end])
        return b"".join(parts)


def _coding(found: Meta, item: Item) -> bytes:
    """How a picture is coded, or the first that it is derived from."""
    for _ in range(_LEVELS):
        if not item.sources:
            break
        item = found.items.get(item.sources[0], Item())
    return item.kind


def _read_avif(data: bytes, found: Meta, item: Item, pixels: int, work: _Work) -> Header:
    data = _with_one_association(data, found)
    crop = _crop(item.get(b"clap"), item.size)
    size = item.size if crop is None else (crop[2] - crop[0], crop[3] - crop[1])

    def load(scale: int) -> Loaded:  # noqa: ARG001
        file = Image.open(io.BytesIO(data), formats=("AVIF",))
        turn, broken = exif.orientation(file)
        file.load()
        image: Image.Image = file
        info, animated = file.info, getattr(file, "is_animated", False)
        told = None if "icc_profile" in info else _encoding(item)
        if image.size != item.size:
            raise UndecodableImage("the picture's AVIF data are of another size than its header says")
        if crop is not None:
            image = image.crop(crop)
            image.info = info
        return Loaded(image=image, orientation=turn, encoding=told, animated=animated, damaged=broken)

    return Header(
        format="AVIF",
        size=size,
        seconds=AVIF_SECONDS * pixels,
        load=load,
        weight=work.largest / max(math.prod(size), 1),
    )


def _read_heic(data: bytes, item: Item, pixels: int, work: _Work) -> Header:
    size, turned = _shown(item)

    def load(scale: int) -> Loaded:
        with undecodable("the picture's HEIC data cannot be decoded"):
            file = pi_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
            picture = file[file.primary_index]
            picture.load()
        return at_scale(picture, scale)

    def at_scale(picture: pi_heif.HeifImage, scale: int) -> Loaded:
        loaded = _loaded_heic(picture, scale)
        loaded.at = lambda scale: at_scale(picture, scale)
        loaded.turned = turned
        if "icc_profile" not in loaded.image.info:
            loaded.encoding = _encoding(item)
        loaded.animated = data[8:12] in _SEQUENCE
        if loaded.image.size != (-(-size[0] // scale), -(-size[1] // scale)):
            raise UndecodableImage("the picture's HEIC data are of another size than its header says")
        return loaded

    deep = max((item.get(b"pixi") or b"\0\0\0\0\0\x08")[5:]) > 8
    return Header(
        format="HEIC",
        size=size,
        seconds=HEIC_SECONDS * pixels,
        load=load,
        scales=SCALES,
        keeps=True,
        weight=(2 if deep else 1) * HEIC_WEIGHT * work.largest / max(math.prod(size), 1),
    )


def _shown(item: Item) -> tuple[tuple[int, int], bool]:
    """Size after cropping and turning, which libheif does in the order of the properties; and whether it turns."""
    size, turned = item.size, False
    for kind, contents in item.properties:
        if kind == b"clap" and (crop := _crop(contents, size)) is not None:
            size = crop[2] - crop[0], crop[3] - crop[1]
        elif kind == b"irot":
            turned |= bool(contents[-1:] and contents[-1] & 3)
            size = size[::-1] if contents[-1:] and contents[-1] & 1 else size
        turned |= kind == b"imir"
    return size, turned


def _loaded_heic(picture: pi_heif.HeifImage, scale: int) -> Loaded:
    icc = picture.info.get("icc_profile")
    codes_HWC = np.asarray(picture)
    bits = picture.info["bit_depth"]
    mode = {1: "L", 3: "RGB", 4: "RGBa" if picture.premultiplied_alpha else "RGBA"}[
        1 if codes_HWC.ndim == 2 else codes_HWC.shape[2]
    ]
    image = _reduced(codes_HWC if bits == 8 else codes_HWC >> (bits - 8), mode, scale)
    if icc:
        image.info["icc_profile"] = icc

    def codes() -> NDArray[np.uint16]:
        # From the picture again, which keeps the memory. The bits that are not there repeat the highest, so that white
        # is 65,535.
        codes_HWC = np.asarray(picture)
        codes: NDArray[np.uint16] = codes_HWC << (16 - bits) | codes_HWC >> (2 * bits - 16)
        return codes if scale == 1 else _means(codes, scale)

    return Loaded(image=image, codes=codes if bits > 8 and mode[:3] == "RGB" else None)


def _means(codes_HWC: NDArray[np.uint16], scale: int) -> NDArray[np.uint16]:
    """The mean of each square of pixels, of all 16 bits; a strip at a time, to bound the memory."""
    height, width = codes_HWC.shape[:2]
    lefts = np.arange(0, width, scale)
    widths = np.diff(lefts, append=width)[:, None]
    strips = []
    for top in range(0, height, _STRIP):
        rows_HWC = codes_HWC[top : top + _STRIP].astype(np.uint32)
        tops = np.arange(0, len(rows_HWC), scale)
        counts = np.diff(tops, append=len(rows_HWC))[:, None, None] * widths
        sums = np.add.reduceat(np.add.reduceat(rows_HWC, tops, axis=0), lefts, axis=1)
        strips.append(((sums + counts // 2) // counts).astype(np.uint16))
    return np.concatenate(strips)


def _reduced(pixels_HWC: NDArray[np.generic], mode: str, scale: int) -> Image.Image:
    """An image of 8-bit pixels, each the mean of a square of them; a strip at a time, to bound the memory."""
    height, width = pixels_HWC.shape[:2]
    image = Image.new(mode, (-(-width // scale), -(-height // scale)))
    for top in range(0, height, _STRIP):
        rows_HWC = pixels_HWC[top : top + _STRIP].astype(np.uint8)
        strip = Image.frombytes(mode, (width, len(rows_HWC)), rows_HWC.tobytes())
        image.paste(strip.reduce(scale) if scale > 1 else strip, (0, top // scale))
    return image


def _encoding(item: Item) -> Encoding | None:
    """The encoding that the ``nclx`` of a picture tells."""
    for kind, contents in item.properties:
        if kind == b"colr" and contents[:4] == b"nclx" and len(contents) >= 8:
            return color.from_cicp(*struct.unpack_from(">HH", contents, 4))
    return None


def _crop(contents: bytes | None, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The clean aperture (``clap``) of a picture: left, top, right and bottom; None if there is none, or it is broken.

    One that is not of whole pixels is rounded as libheif does.
    """
    if contents is None or len(contents) < 32:
        return None
    numbers = struct.unpack_from(">IIIIiIiI", contents)
    if not all(numbers[1::2]):
        return None
    across, down, right_by, down_by = (Fraction(*numbers[place : place + 2]) for place in range(0, 8, 2))
    left = math.floor((size[0] - across) / 2 + right_by)
    top = math.floor((size[1] - down + 1) / 2 + down_by)
    right, bottom = min(left + round(across), size[0]), min(top + round(down), size[1])
    left, top = max(left, 0), max(top, 0)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _with_one_association(data: bytes, found: Meta) -> bytes:
    """The file with two adjacent ``ipma`` boxes as one: old encoders wrote two, which libavif refuses."""
    outer = found.properties
    if outer is None or outer.inside - outer.start != 8 or len(found.associations) != 2:
        return data
    first, second = found.associations
    if first.stop != second.start or first.inside - first.start + second.inside - second.start != 16:
        return data
    heads = [data[box.inside : box.inside + 4] for box in (first, second)]
    if heads[0] != heads[1]:
        return data
    entries = sorted((number, places) for box in (first, second) for number, places in boxes.associations(data, box))
    version, wide = heads[0][0], heads[0][3] & 1
    body = bytearray(heads[0] + struct.pack(">I", len(entries)))
    for number, places in entries:
        body += struct.pack(">IB" if version else ">HB", number, len(places))
        for place, essential in places:
            body += struct.pack(">H" if wide else ">B", place | (0x8000 if wide else 0x80) * essential)
    merged = struct.pack(">I4s", 8 + len(body), b"ipma") + body
    # The 16 bytes that this is shorter are left free behind the properties, so that nothing else moves.
    shorter = struct.pack(">I", outer.stop - outer.start - 16) + data[outer.start + 4 : first.start]
    free = struct.pack(">I4sQ", 16, b"free", 0)
    return data[: outer.start] + shorter + merged + data[second.stop : outer.stop] + free + data[outer.stop :]
