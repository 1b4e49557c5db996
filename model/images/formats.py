"""Which format some bytes are, by their content alone, and what their header tells."""

import struct
from collections.abc import Callable

from model.images import heif, jpeg, jpeg2000, jxl, png, simple, tiff
from model.images.errors import UnsupportedFormat
from model.images.facts import FORMATS, Header

_READERS: tuple[tuple[tuple[bytes, ...], Callable[[bytes], Header]], ...] = (
    ((b"\xff\xd8\xff",), jpeg.read),
    ((png.SIGNATURE,), png.read),
    ((b"GIF87a", b"GIF89a"), lambda data: simple.read(data, "GIF")),
    (tiff.SIGNATURES, tiff.read),
    (jpeg2000.SIGNATURES, jpeg2000.read),
    (jxl.SIGNATURES, jxl.read),
    ((b"BM",), lambda data: simple.read(data, "BMP")),
)
_RAW_BRANDS, _VIDEO_BRANDS = (b"crx ",), (b"qt  ", b"mp4", b"iso", b"M4V", b"3gp", b"avc1", b"MSNV")
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"IIRO", tiff.RAW),
    (b"IIRS", tiff.RAW),
    (b"MMOR", tiff.RAW),
    (b"IIU\0", tiff.RAW),
    (b"FUJIFILMCCD-RAW", tiff.RAW),
    (b"FOVb", tiff.RAW),
    (b"\0MRM", tiff.RAW),
    (b"%PDF", "this is a PDF; save the page as a PNG and send that"),
    (b"%!PS", "this is PostScript; save it as a PNG and send that"),
    (b"8BPS", "this is a Photoshop file; save it as a JPEG or PNG and send that"),
    (b"gimp xcf", "this is a GIMP file; export it as a JPEG or PNG and send that"),
    (b"v/1\x01", "this is an OpenEXR picture; save it as a 16-bit PNG or TIFF and send that"),
    (b"#?RADIANCE", "this is a Radiance HDR picture; save it as a 16-bit PNG or TIFF and send that"),
    (b"\0\0\x01\0", "this is an icon; save it as a PNG and send that"),
    (b"PK\x03\x04", "this is a ZIP archive; unpack it and send the pictures in it"),
    (b"\x1f\x8b", "this is a gzip file; unpack it and send the pictures in it"),
    (b"\x1aE\xdf\xa3", "this is a video; send a frame of it as a JPEG or PNG"),
    (b"<?xml", "this is XML, perhaps an SVG drawing; save it as a PNG and send that"),
    (b"<svg", "this is an SVG drawing; save it as a PNG and send that"),
    (b"<!DOCTYPE", "this is a web page, not a picture; look at what the address answers"),
    (b"<html", "this is a web page, not a picture; look at what the address answers"),
    (b"{", "this is text, not a picture"),
)
"""What else is often sent, by its first bytes, and what to do."""


def read(data: bytes) -> Header:
    """Read the header of a picture of an accepted format.

    Raises:
        ImageError: It is another format, or its header cannot be read.
    """
    for signatures, reader in _READERS:
        if data.startswith(signatures):
            return reader(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return simple.read(data, "WEBP")
    if data[4:8] == b"ftyp":
        return _read_media(data)
    text = data[:200].lstrip(b"\xef\xbb\xbf \r\n\t")
    for signature, message in _OTHERS:
        if data.startswith(signature) or (signature[:1] in b"<{" and text.lower().startswith(signature.lower())):
            raise UnsupportedFormat(message)
    raise UnsupportedFormat(f"not a picture of an accepted format ({', '.join(FORMATS)})")


def _read_media(data: bytes) -> Header:
    """An ISO base media file: its brands tell what it is for."""
    (size,) = struct.unpack_from(">I", data)
    brands = [data[at : at + 4] for at in (8, *range(16, min(size, len(data), 1024), 4))]
    if data[8:12] in _RAW_BRANDS:
        raise UnsupportedFormat(tiff.RAW)
    if any(brand in heif.BRANDS for brand in brands):
        return heif.read(data)
    if any(data[8:12].startswith(brand) for brand in _VIDEO_BRANDS):
        raise UnsupportedFormat("this is a video; send a frame of it as a JPEG or PNG")
    raise UnsupportedFormat(f"not a picture of an accepted format ({', '.join(FORMATS)})")
