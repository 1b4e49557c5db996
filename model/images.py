"""Decoding: from untrusted bytes to upright 8-bit sRGB pixels, with a warning for every conversion.

The content alone decides the format; file names and content types are ignored. Sizes are checked from the header,
before anything is decompressed. Pictures leave this module fully decoded, so nothing later can fail to decode them.
"""

import contextlib
import ctypes
import functools
import hashlib
import io
import logging
import warnings as python_warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, UnidentifiedImageError, _imaging

# Pillow's warnings about broken metadata quote bytes of the file; Python would print and remember each wording.
python_warnings.filterwarnings("ignore", module=r"PIL\.")
# Pillow also logs tags and values from the file. Its errors are raised as exceptions anyway.
logging.getLogger("PIL").setLevel(logging.CRITICAL)

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
ICC_BYTES = 4 * 2**20
"""Larger colour profiles are ignored; the largest in common use are about 3 MB."""
ICC_KEPT = 8
"""Colour profiles whose transforms are cached: making one takes longer than decoding a small photo."""
# By default Pillow refuses a PNG with a profile over 1 MiB. Its limit on all text chunks together stays.
PngImagePlugin.MAX_TEXT_CHUNK = ICC_BYTES

# libtiff writes each fault of a file to stderr, up to thousands of lines for one upload, and Pillow has no switch for
# that. Pillow's errors come from return codes, so the handler can go. A statically linked libtiff has no such symbol.
with contextlib.suppress(AttributeError, OSError):
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")


class ImageWarning(StrEnum):
    """What was done to a picture before it was scored, or makes its score less certain."""

    ALPHA_COMPOSITED = "alpha_composited"
    ANIMATED_FIRST_FRAME = "animated_first_frame"
    CMYK_CONVERTED = "cmyk_converted"
    EXIF_ROTATED = "exif_rotated"
    EXTREME_ASPECT = "extreme_aspect"
    GRAYSCALE = "grayscale"
    ICC_CONVERTED = "icc_converted"
    ICC_INVALID_IGNORED = "icc_invalid_ignored"
    OUT_OF_DOMAIN = "out_of_domain"
    PALETTE_EXPANDED = "palette_expanded"
    SIXTEEN_BIT_SCALED = "16bit_scaled"
    UPSCALED_LOW_RESOLUTION = "upscaled_low_resolution"


# ImageError
#   +- UnsupportedFormat     not one of FORMATS
#   +- UndecodableImage      one of FORMATS, but damaged
#   |    +- TruncatedImage   ends too early
#   +- ImageSizeError
#        +- TooManyPixels
#        +- TooSmall
#        +- AspectTooExtreme
class ImageError(ValueError):
    """The picture cannot be scored; the message is safe to show to the client."""


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
    """Sizes of pictures that are accepted.

    Attributes:
        max_pixels: Largest width times height.
        min_side: Shortest side, in pixels.
        max_aspect: Largest ratio of the longer to the shorter side.
    """

    max_pixels: int = 64_000_000
    min_side: int = 32
    max_aspect: float = 20.0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Size, format, hash and warnings of a picture: what results report after its pixels are gone.

    Attributes:
        width: Width in pixels, after EXIF rotation.
        height: Height in pixels, after EXIF rotation.
        format: Name of the format, as in ``FORMATS``; ``RAW`` for pixels without one.
        sha256: Hash of the encoded bytes, or of the RGB pixels of a picture that came decoded; hexadecimal.
        warnings: What was done to the picture.
    """

    width: int
    height: int
    format: str
    sha256: str
    warnings: tuple[ImageWarning, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        image: Its pixels: upright, mode RGB, sRGB, 8 bits per channel, fully loaded. Smaller than the size in the facts
            if the picture was decoded at a smaller scale.
        facts: Its full size, format, hash and warnings.
    """

    image: Image.Image
    facts: Facts


def decode(
    data: bytes,
    limits: Limits | None = None,
    admit: Callable[[int], object] | None = None,
    *,
    sha256: str | None = None,
    enough: Callable[[int, int], tuple[int, int]] | None = None,
) -> Picture:
    """Decode a picture, with all its pixels unless ``enough`` allows less.

    Args:
        data: The encoded picture.
        limits: Sizes to accept; the defaults of ``Limits`` if None.
        admit: Called with the number of pixels once the header is read, before they take memory. It may wait, or raise
            an exception to stop the decoding.
        sha256: Hash of ``data``, hexadecimal, if the caller knows it.
        enough: Returns the smallest decode size that suffices for a given full size, both as width and height of the
            upright picture. A JPEG is then decoded at a half, a quarter or an eighth of its sides, if neither side gets
            shorter than that size.

    Raises:
        ImageError: One of the errors of the tree above.
    """
    image = _open(data)
    check_size(image.size, limits or Limits())
    if admit is not None:
        admit(image.width * image.height)
    warnings: set[ImageWarning] = set()
    with _undecodable(f"the picture's {image.format} data cannot be decoded"):
        # Not n_frames: it reads every frame, and a small file can hold hundreds of thousands.
        if getattr(image, "is_animated", False) and image.format != "MPO":
            warnings.add(ImageWarning.ANIMATED_FIRST_FRAME)
        if any(_raw_mode(tile).endswith((";16B", ";16L", ";16N")) for tile in getattr(image, "tile", ())):
            warnings.add(ImageWarning.SIXTEEN_BIT_SCALED)
        # A JPEG to which a phone appended a depth or gain map opens as MPO; its first picture is the photo.
        format_ = "JPEG" if image.format == "MPO" else str(image.format)
        orientation = _orientation(image)
        full = _draft(image, orientation, enough) if enough is not None and format_ == "JPEG" else None
        image.load()
        rgb = to_srgb(_upright(image, orientation, warnings), warnings)
    sha256 = hashlib.sha256(data).hexdigest() if sha256 is None else sha256
    return _picture(rgb, full or rgb.size, format_, sha256, warnings)


def from_image(image: Image.Image, limits: Limits | None = None) -> Picture:
    """Convert an open Pillow image to the form that ``decode`` gives.

    Raises:
        ImageError: Its size is outside the limits, or it cannot be decoded.
    """
    check_size(image.size, limits or Limits())
    warnings: set[ImageWarning] = set()
    with _undecodable(f"the picture's {image.mode} pixels cannot be decoded"):
        rgb = to_srgb(_upright(image.copy(), _orientation(image), warnings), warnings)
    return _picture(rgb, rgb.size, image.format or "RAW", hashlib.sha256(rgb.tobytes()).hexdigest(), warnings)


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


def to_srgb(image: Image.Image, warnings: set[ImageWarning]) -> Image.Image:
    """Convert loaded pixels of any mode to 8-bit sRGB, with transparency composited on white; adds to ``warnings``.

    Raises:
        ValueError: Pillow knows no conversion from this mode.
    """
    icc = image.info.get("icc_profile")
    if image.mode.startswith("I;16"):
        warnings.add(ImageWarning.SIXTEEN_BIT_SCALED)
        image = _scale_sixteen_bit(image)
    elif image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no agreed range")
    if image.mode in ("1", "L", "LA", "La"):
        warnings.add(ImageWarning.GRAYSCALE)
    if image.mode in ("P", "PA"):
        warnings.add(ImageWarning.PALETTE_EXPANDED)
    if image.mode == "CMYK":
        warnings.add(ImageWarning.CMYK_CONVERTED)
    rgb = _apply_profile(image, icc, warnings) if icc else None
    # Through RGBA where there is transparency: converting a palette to RGB directly would drop it silently.
    image = _in_mode(image, "RGBA") if image.has_transparency_data else image
    if rgb is None:
        rgb = _in_mode(image, "RGB")
    alpha = image.getchannel("A") if image.has_transparency_data else None
    # A fully opaque alpha channel changes nothing, so it gets no warning.
    if alpha is not None and alpha.getextrema()[0] != 255:
        warnings.add(ImageWarning.ALPHA_COMPOSITED)
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    return rgb


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert loaded pixels to a mode. Pillow would copy pixels that have that mode already."""
    return image if image.mode == mode else image.convert(mode)


def _picture(
    rgb: Image.Image, size: tuple[int, int], format_: str, sha256: str, warnings: set[ImageWarning]
) -> Picture:
    width, height = size
    return Picture(
        rgb, Facts(width=width, height=height, format=format_, sha256=sha256, warnings=tuple(sorted(warnings)))
    )


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


@contextlib.contextmanager
def _undecodable(message: str) -> Iterator[None]:
    """Convert whatever a decoder raises for damaged bytes, a dozen types over all formats, to one error."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        if "truncated" in str(error).lower():
            raise TruncatedImage("the picture is truncated: its end is missing") from error
        raise UndecodableImage(message) from error


def _raw_mode(tile: Any) -> str:
    """The pixel layout that the decoder of a tile reads, such as RGB;16B."""
    arguments = tile[3]
    return str(arguments if isinstance(arguments, str) else next(iter(arguments or ()), ""))


def _scale_sixteen_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits. Pillow's own conversion clips: everything above 255 of 65535 would be white."""
    values = np.asarray(image).astype(np.uint32)
    # TIFF files may use only 12 of the 16 bits, and may store white as 0; Pillow leaves both to its callers.
    tags = getattr(image, "tag_v2", {})
    white = 2 ** int(tags.get(_BITS_PER_SAMPLE, (16,))[0]) - 1
    grey = ((values * 255 + white // 2) // white).clip(0, 255).astype(np.uint8)
    scaled = Image.fromarray(255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey)
    key = image.info.get("transparency")
    if isinstance(key, int):
        scaled.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return scaled


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # broken metadata must not refuse a picture that decodes
        return 1


def _upright(image: Image.Image, orientation: int, warnings: set[ImageWarning]) -> Image.Image:
    """Rotate a loaded picture upright, by the orientation that was read before loading."""
    if orientation not in _TURNS:
        return image
    warnings.add(ImageWarning.EXIF_ROTATED)
    # Pillow rotates TIFF files itself while it loads them.
    return image if image.format == "TIFF" else image.transpose(_TURNS[orientation])


def _draft(image: Image.Image, orientation: int, enough: Callable[[int, int], tuple[int, int]]) -> tuple[int, int]:
    """Make a JPEG load at the smallest scale that suffices; returns its upright size at full scale."""
    sideways = orientation in _SIDEWAYS
    full = image.size[::-1] if sideways else image.size
    least = enough(*full)
    image.draft(None, least[::-1] if sideways else least)
    return full


def _apply_profile(image: Image.Image, icc: bytes, warnings: set[ImageWarning]) -> Image.Image | None:
    """Convert loaded pixels from their embedded profile to sRGB; None if they are sRGB, or the profile is unusable."""
    try:
        if len(icc) > ICC_BYTES:
            raise ValueError("profile too large")
        mode, transform = _profile_transform(icc)
        if (mode == "CMYK") != (image.mode == "CMYK"):
            raise ValueError("the profile is one for other inks")
        if transform is None:
            return None
        base = image if image.mode == mode else image.convert("RGBA").convert(mode)
        converted = transform.apply(base)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError):
        warnings.add(ImageWarning.ICC_INVALID_IGNORED)
        return None
    warnings.add(ImageWarning.ICC_CONVERTED)
    return converted


@functools.lru_cache(maxsize=ICC_KEPT)
def _profile_transform(icc: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """The mode that a profile is for, and its transform to sRGB; None instead if the profile is sRGB itself.

    Raises:
        ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError: The profile is broken.
    """
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    mode = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}[profile.profile.xcolor_space.strip()]
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    return mode, None if mode == "RGB" and _changes_nothing(transform) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a transform changes no colour of a coarse cube by more than rounding: its profile is sRGB itself."""
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(64, 64, 3)
    moved = np.asarray(transform.apply(Image.fromarray(cube)))
    return bool(np.abs(moved.astype(np.int16) - cube).max() <= 2)
