"""HEIF containers: AVIF, decoded by Pillow, and HEIC, decoded by libheif through pi-heif.

The boxes are read first: they tell the sizes, how much there is to decode, the colour (``colr``), and a crop
(``clap``), which Pillow passes over for AVIF. libheif crops, turns and composes tiles itself.
"""

import io
import re
import struct

import numpy as np
import pi_heif
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image

from model.images import boxes, color, exif
from model.images.boxes import Item, Meta
from model.images.color import Encoding
from model.images.errors import TRUNCATED, TruncatedImage, UndecodableImage, UnsupportedFormat, undecodable
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
_ZEROS = re.compile(rb"\0\0[\0-\2]")
"""Bytes that cannot stand in HEVC data, which escape them: a hole, as of a torn download, is full of them."""
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
    for extent in item.extents if not item.offset_base else ():
        if sum(extent) > len(data):
            raise TruncatedImage(TRUNCATED)
    if kind == b"av01" or data[8:12] in _AVIF_BRANDS:
        return _read_avif(data, found, item)
    if kind != b"hvc1":
        name = _NAMES.get(kind, "another codec")
        raise UnsupportedFormat(
            f"this is a HEIF file with {name} inside, which is not decoded here; send a HEIC or JPEG"
        )
    return _read_heic(data, found, item)


def _coding(found: Meta, item: Item) -> bytes:
    """How a picture is coded, or the first that it is derived from."""
    for _ in range(4):
        if not item.sources:
            break
        item = found.items.get(item.sources[0], Item())
    return item.kind


def _read_avif(data: bytes, found: Meta, item: Item) -> Header:
    data = _with_one_association(data, found)
    crop = _crop(item)

    def load(scale: int) -> Loaded:  # noqa: ARG001
        file = Image.open(io.BytesIO(data), formats=("AVIF",))
        turn, broken = exif.orientation(file)
        file.load()
        image: Image.Image = file
        info, animated = file.info, getattr(file, "is_animated", False)
        told = None if "icc_profile" in info else _encoding(item)
        if crop is not None and image.size == item.size:
            image = image.crop(crop)
            image.info = info
        return Loaded(image=image, orientation=turn, encoding=told, animated=animated, damaged=broken)

    return Header(format="AVIF", size=item.size, seconds=AVIF_SECONDS * found.pixels(found.primary), load=load)


def _read_heic(data: bytes, found: Meta, item: Item) -> Header:
    width, height = item.size
    crop = _crop(item)
    if crop is not None:
        width, height = crop[2] - crop[0], crop[3] - crop[1]
    turns = item.get(b"irot") or b"\0"
    if turns[-1] & 1:
        width, height = height, width

    def load(scale: int) -> Loaded:
        loaded = _load_heic(data, scale)
        loaded.turned = bool(turns[-1] & 3) or item.get(b"imir") is not None
        if "icc_profile" not in loaded.image.info:
            loaded.encoding = _encoding(item)
        loaded.animated = data[8:12] in _SEQUENCE
        return loaded

    _check_data(data, found, found.primary)
    deep = max((item.get(b"pixi") or b"\0\0\0\0\0\x08")[5:]) > 8
    return Header(
        format="HEIC",
        size=(width, height),
        seconds=HEIC_SECONDS * found.pixels(found.primary),
        load=load,
        scales=SCALES,
        weight=(2 if deep else 1) * HEIC_WEIGHT,
    )


def _check_data(data: bytes, found: Meta, number: int, depth: int = 0) -> None:
    """Check the HEVC data of a picture for what cannot stand in them: libde265 draws damaged data without a word.

    Raises:
        TruncatedImage: They reach beyond the end of the file.
        UndecodableImage: They have holes, or their units do not fit.
    """
    item = found.items.get(number, Item())
    for source in dict.fromkeys(item.sources) if depth < 4 else ():
        _check_data(data, found, source, depth + 1)
    configuration = item.get(b"hvcC")
    if item.kind != b"hvc1" or configuration is None or len(configuration) < 22 or item.offset_base:
        return
    prefix = (configuration[21] & 3) + 1
    coded = b"".join(data[offset : offset + length or len(data)] for offset, length in item.extents)
    if len(coded) < sum(length for _, length in item.extents):
        raise TruncatedImage(TRUNCATED)
    at = 0
    while at < len(coded):
        length = int.from_bytes(coded[at : at + prefix], "big")
        start, at = at + prefix, at + prefix + length
        # Zeros may follow the last unit of a picture, behind its stop bit.
        if at > len(coded) or not length or coded[start] & 0x80 or _ZEROS.search(coded, start, at):
            raise UndecodableImage("the picture's HEIC data are damaged")


def _load_heic(data: bytes, scale: int) -> Loaded:
    with undecodable("the picture's HEIC data cannot be decoded"):
        file = pi_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
        picture = file[file.primary_index]
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
        # The bits that are not there repeat the highest, so that white is 65,535.
        codes: NDArray[np.uint16] = codes_HWC << (16 - bits) | codes_HWC >> (2 * bits - 16)
        return codes

    return Loaded(image=image, codes=codes if bits > 8 and scale == 1 and mode[:3] == "RGB" else None)


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


def _crop(item: Item) -> tuple[int, int, int, int] | None:
    """The clean aperture (``clap``), as left, top, right and bottom; None if there is none, or it is not of pixels."""
    contents = item.get(b"clap")
    if contents is None or len(contents) < 32:
        return None
    numbers = struct.unpack_from(">IIIIiIiI", contents)
    if not all(numbers[1::2]):
        return None
    across, down, right_by, down_by = (numbers[place] / numbers[place + 1] for place in range(0, 8, 2))
    width, height = item.size
    left, top = (width - across) / 2 + right_by, (height - down) / 2 + down_by
    box = (left, top, left + across, top + down)
    if any(side != int(side) for side in box) or not (0 <= left < box[2] <= width and 0 <= top < box[3] <= height):
        return None
    return int(left), int(top), int(box[2]), int(box[3])


def _with_one_association(data: bytes, found: Meta) -> bytes:
    """The file with two adjacent ``ipma`` boxes as one: old encoders wrote two, which libavif refuses."""
    if len(found.associations) != 2 or found.associations[0].stop != found.associations[1].start:
        return data
    first, second = found.associations
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
    room = second.stop - first.start - len(merged)
    return data[: first.start] + merged + struct.pack(">I4s", room, b"free") + bytes(room - 8) + data[second.stop :]
