"""What a refused picture is told: what it is, and what to do."""

import struct

import numpy as np
import pytest
from PIL import Image

from model import images
from model.images import decode
from tests import heif
from tests.conftest import encode, encode_jxl, photo, sample


def lossless_jpeg() -> bytes:
    data = sample("JPEG")
    at = data.index(b"\xff\xc0")
    return data[: at + 1] + b"\xc3" + data[at + 2 :]


def jpeg_of_12_bits() -> bytes:
    data = sample("JPEG")
    at = data.index(b"\xff\xc0")
    return data[: at + 4] + b"\x0c" + data[at + 5 :]


def jpeg_of_uncommon_sampling() -> bytes:
    data = sample("JPEG")
    at = data.index(b"\xff\xc0") + 11
    return data[:at] + b"\x31" + data[at + 1 :]


def media(brand: bytes) -> bytes:
    return heif.box(b"ftyp", brand, bytes(4), brand) + heif.box(b"mdat", bytes(500))


def other_codec(kind: bytes) -> bytes:
    item = heif.plain().item()
    item.kind = kind
    return heif.write([item], brand=b"mif1")


TOLD = [
    (lossless_jpeg(), images.UndecodableImage, "lossless JPEG"),
    (jpeg_of_12_bits(), images.UndecodableImage, "JPEG of 12 bits"),
    (jpeg_of_uncommon_sampling(), images.UndecodableImage, "uncommon resolution"),
    (encode(Image.new("F", (64, 64)), "TIFF"), images.UndecodableImage, "floating"),
    (encode(Image.new("I", (64, 64)), "TIFF"), images.UndecodableImage, "32 bits"),
    (b"II\x1a\0\0\0HEAPCCDR" + bytes(99), images.UnsupportedFormat, "not a picture"),
    (b"FUJIFILMCCD-RAW 0201" + bytes(99), images.UnsupportedFormat, "raw file"),
    (b"IIU\0" + bytes(99), images.UnsupportedFormat, "raw file"),
    (media(b"crx "), images.UnsupportedFormat, "raw file"),
    (media(b"mp42"), images.UnsupportedFormat, "video"),
    (media(b"qt  "), images.UnsupportedFormat, "video"),
    (other_codec(b"vvc1"), images.UnsupportedFormat, "VVC"),
    (other_codec(b"j2k1"), images.UnsupportedFormat, "JPEG 2000 inside"),
    (other_codec(b"unci"), images.UnsupportedFormat, "uncompressed"),
    (sample("HEIC")[:358] + bytes(5329), images.UndecodableImage, "HEIC"),
    (b"%PDF-1.7", images.UnsupportedFormat, "PDF"),
    (b" <svg xmlns='http://www.w3.org/2000/svg'/>", images.UnsupportedFormat, "SVG"),
    (b"\n<!doctype html><html>", images.UnsupportedFormat, "web page"),
    (b"8BPS\0\1", images.UnsupportedFormat, "Photoshop"),
    (b"PK\x03\x04", images.UnsupportedFormat, "ZIP"),
    (encode_jxl(np.asarray(photo(64, 48)).astype(np.uint16) * 257), images.UndecodableImage, "not in sRGB"),
]


@pytest.mark.parametrize(("data", "error", "words"), TOLD, ids=[words for _, _, words in TOLD])
def test_refusals_say_what_a_file_is(data: bytes, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as raised:
        decode(data)
    assert type(raised.value) is error


def test_an_apple_png_is_called_one() -> None:
    data = sample("PNG")
    with pytest.raises(images.UnsupportedFormat, match="CgBI"):
        decode(data[:8] + struct.pack(">I4sII", 4, b"CgBI", 0x50002002, 0) + data[8:])


def test_messages_hold_nothing_of_the_file() -> None:
    for data, _, _ in TOLD:
        with pytest.raises(images.ImageError) as raised:
            decode(data)
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < 250


def test_jpeg_xl_without_its_extra_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    data = sample("JXL")
    monkeypatch.setitem(__import__("sys").modules, "imagecodecs", None)
    with pytest.raises(images.UnsupportedFormat, match="extra jxl"):
        decode(data)
