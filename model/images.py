"""From the bytes that somebody sent to upright sRGB pixels, with every conversion reported.

The content alone decides the format; names and content types are not looked at. Sizes are checked from the header,
before anything is decompressed. The whole picture is decoded here: what leaves this module can no longer fail to
decode.
"""

import hashlib
import io
import warnings as python_warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

# Pillow warns of broken metadata in words made from the file's bytes; Python would print and remember each wording.
python_warnings.filterwarnings("ignore", module=r"PIL\.")

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
ICC_BYTES = 4 * 2**20
"""Larger colour profiles are ignored; the largest in common use have about 3 MB."""

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")


class Warning(StrEnum):
    """What was done to a picture on its way to the score, or what makes the score less sure."""

    ALPHA_COMPOSITED = "alpha_composited"
    ANIMATED_FIRST_FRAME = "animated_first_frame"
    CMYK_CONVERTED = "cmyk_converted"
    EXIF_ROTATED = "exif_rotated"
    EXTREME_ASPECT = "extreme_aspect"
    GRAYSCALE = "grayscale"
    ICC_CONVERTED = "icc_converted"
    ICC_INVALID_IGNORED = "icc_invalid_ignored"
    PALETTE_EXPANDED = "palette_expanded"
    SIXTEEN_BIT_SCALED = "16bit_scaled"
    UPSCALED_LOW_RESOLUTION = "upscaled_low_resolution"


# ImageError
#   +- UnsupportedFormat     not one of FORMATS
#   +- UndecodableImage      of such a format, but broken
#   |    +- TruncatedImage   its end is missing
#   +- ImageSizeError
#        +- TooManyPixels
#        +- TooSmall
#        +- AspectTooExtreme
class ImageError(ValueError):
    """The picture cannot be scored; the message is safe to show to whoever sent it."""


class UnsupportedFormat(ImageError):
    """The content is not a picture of an accepted format."""


class UndecodableImage(ImageError):
    """The picture is damaged, or uses a pixel type that has no agreed meaning."""


class TruncatedImage(UndecodableImage):
    """The picture ends before its last row."""


class ImageSizeError(ImageError):
    """The picture's dimensions are outside the limits."""


class TooManyPixels(ImageSizeError):
    """More pixels than the limit."""


class TooSmall(ImageSizeError):
    """A side is shorter than the limit."""


class AspectTooExtreme(ImageSizeError):
    """One side is too many times the other."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Dimensions that are decoded."""

    max_pixels: int = 64_000_000
    min_side: int = 32
    max_aspect: float = 20.0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What an answer tells of a picture, kept after its pixels are gone.

    Attributes:
        width: In pixels, after EXIF rotation.
        height: In pixels, after EXIF rotation.
        format: Format name, as in ``FORMATS``.
        sha256: Hash of the bytes it came from, hexadecimal.
        warnings: What was done to it.
    """

    width: int
    height: int
    format: str
    sha256: str
    warnings: tuple[Warning, ...]


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        image: Its pixels: upright, mode RGB, sRGB, 8 bits a channel, fully loaded.
        facts: What there is to tell of it.
    """

    image: Image.Image
    facts: Facts


def decode(data: bytes, limits: Limits | None = None) -> Picture:
    """Decode a picture fully.

    Args:
        data: The encoded picture.
        limits: Dimensions to accept; the defaults of ``Limits`` if None.

    Raises:
        ImageError: One of the errors of the tree above.
    """
    image = _open(data)
    check_size(image.size, limits or Limits())
    warnings: set[Warning] = set()
    with _undecodable(f"the picture's {image.format} data cannot be decoded"):
        sixteen_bit = any("16" in str(tile) for tile in getattr(image, "tile", ()))
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            warnings.add(Warning.ANIMATED_FIRST_FRAME)
            image.seek(0)
        image.load()
        if sixteen_bit:
            warnings.add(Warning.SIXTEEN_BIT_SCALED)
        rgb = to_srgb(_upright(image, warnings), warnings)
    # Phones append depth or gain maps to a JPEG, which makes it an MPO; the first picture is the photo.
    format_ = "JPEG" if image.format == "MPO" else str(image.format)
    return _picture(rgb, format_, hashlib.sha256(data).hexdigest(), warnings)


def from_image(image: Image.Image, limits: Limits | None = None) -> Picture:
    """Bring a Pillow image that is already open to the form that ``decode`` gives.

    Raises:
        ImageError: Its size is outside the limits, or it cannot be decoded.
    """
    check_size(image.size, limits or Limits())
    warnings: set[Warning] = set()
    with _undecodable(f"the picture's {image.mode} pixels cannot be decoded"):
        rgb = to_srgb(_upright(image.copy(), warnings), warnings)
    return _picture(rgb, image.format or "RAW", hashlib.sha256(rgb.tobytes()).hexdigest(), warnings)


def check_size(size: tuple[int, int], limits: Limits) -> None:
    """Check a width and height in pixels.

    Raises:
        ImageSizeError: They are outside the limits.
    """
    width, height = size
    if width * height > limits.max_pixels:
        raise TooManyPixels(f"{width}x{height} pixels are more than the limit of {limits.max_pixels:,}")
    if min(size) < limits.min_side:
        raise TooSmall(f"{width}x{height} pixels: both sides need at least {limits.min_side}")
    if max(size) > limits.max_aspect * min(size):
        raise AspectTooExtreme(f"{width}x{height} pixels: one side is over {limits.max_aspect:g} times the other")


def to_srgb(image: Image.Image, warnings: set[Warning]) -> Image.Image:
    """Bring loaded pixels of any mode to 8-bit sRGB, transparency composited on white; adds to ``warnings``.

    Raises:
        ValueError: Pillow knows no conversion from this mode.
    """
    icc = image.info.get("icc_profile")
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips: every value above 255 of 65535 would be white.
        warnings.add(Warning.SIXTEEN_BIT_SCALED)
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no agreed range")
    if image.mode in ("1", "L", "LA", "La"):
        warnings.add(Warning.GRAYSCALE)
    if image.mode in ("P", "PA"):
        warnings.add(Warning.PALETTE_EXPANDED)
    transparent = image.has_transparency_data
    if transparent:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        # An alpha channel that hides nothing is no news to anybody.
        transparent = alpha.getextrema()[0] != 255
    if image.mode == "CMYK":
        warnings.add(Warning.CMYK_CONVERTED)
    rgb = _apply_profile(image, icc, warnings) if icc else None
    if rgb is None:
        rgb = image.convert("RGB")
    if transparent:
        warnings.add(Warning.ALPHA_COMPOSITED)
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    return rgb


def _picture(rgb: Image.Image, format_: str, sha256: str, warnings: set[Warning]) -> Picture:
    facts = Facts(width=rgb.width, height=rgb.height, format=format_, sha256=sha256, warnings=tuple(sorted(warnings)))
    return Picture(rgb, facts)


def _open(data: bytes) -> Image.Image:
    with _undecodable("the picture's header cannot be read"):
        try:
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise TooManyPixels("the picture has more pixels than any picture that is decoded here") from error
        except UnidentifiedImageError as error:
            if data.startswith(_SIGNATURES) or data[4:12] == b"ftypavif" or data[8:12] == b"WEBP":
                raise
            raise UnsupportedFormat(f"not a picture of an accepted format ({', '.join(FORMATS)})") from error
    return image


@contextmanager
def _undecodable(message: str) -> Iterator[None]:
    """Turn whatever a decoder raises for broken bytes (a dozen types over all formats) into one error."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        if "truncated" in str(error).lower():
            raise TruncatedImage("the picture is truncated: its end is missing") from error
        raise UndecodableImage(message) from error


def _upright(image: Image.Image, warnings: set[Warning]) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        if orientation in range(2, 9):
            ImageOps.exif_transpose(image, in_place=True)
            warnings.add(Warning.EXIF_ROTATED)
    except Exception:
        pass
    return image


def _apply_profile(image: Image.Image, icc: bytes, warnings: set[Warning]) -> Image.Image | None:
    """Convert loaded pixels from their embedded profile to sRGB; None if there is nothing to convert or no way to."""
    base = image.convert("RGB") if image.mode in ("RGBA", "P", "PA", "LA") else image
    try:
        if len(icc) > ICC_BYTES:
            raise ValueError("profile too large")
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if base.mode == "RGB" and "srgb" in ImageCms.getProfileDescription(profile).lower():
            return None
        converted = ImageCms.profileToProfile(base, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        warnings.add(Warning.ICC_INVALID_IGNORED)
        return None
    warnings.add(Warning.ICC_CONVERTED)
    return converted
