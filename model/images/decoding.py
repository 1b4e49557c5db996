"""Decoding: from untrusted bytes to upright 8-bit sRGB pixels."""

import dataclasses
import hashlib
import logging
import warnings as python_warnings
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images import exif, formats, profiles
from model.images.errors import UndecodableImage, undecodable
from model.images.facts import Box, CloseLook, Facts, Header, ImageWarning, Limits, Loaded, Picture

# Pillow's warnings about broken metadata quote bytes of the file; Python would print and remember each wording.
python_warnings.filterwarnings("ignore", module=r"PIL\.")
# Pillow also logs tags and values from the file. Its errors are raised as exceptions anyway.
logging.getLogger("PIL").setLevel(logging.CRITICAL)

# Pillow's own bound counts the full size, however small a JPEG is decoded; ``Limits`` counts what is held.
Image.MAX_IMAGE_PIXELS = None

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def decode(
    data: bytes,
    limits: Limits | None = None,
    admit: Callable[[int], object] | None = None,
    *,
    sha256: str | None = None,
    enough: Callable[[int, int], tuple[int, int]] | None = None,
    closely: Callable[[int, int], int] | None = None,
) -> Picture:
    """Decode a picture, with all its pixels unless ``enough`` allows less.

    Args:
        data: The encoded picture.
        limits: Sizes and work to accept; the defaults of ``Limits`` if None.
        admit: Called with the number of pixels that decoding will hold, once the header is read, before they take
            memory. It may wait, or raise an exception to stop the decoding.
        sha256: Hash of ``data``, hexadecimal, if the caller knows it.
        enough: Returns the smallest decode size that suffices for a given full size, both as width and height of the
            upright picture. A JPEG or HEIC is then decoded at a half, a quarter or an eighth of its sides, if neither
            side gets shorter than that size.
        closely: Returns the most pixels that a close look at a picture of a given full size may decode, 0 for none. A
            JPEG is then decoded once, for the close look, and its pixels are averaged for the rest. Without it, the
            close look is at the decoded pixels.

    Raises:
        ImageError: One of the errors of ``errors.py``.
    """
    limits = limits or Limits()
    header = formats.read(data)
    scale = 1 if enough is None else _scale(header, enough)
    close_scale = scale if closely is None else min(_close_scale(header, closely), scale)
    held = max(header.held(scale), header.held(close_scale))
    limits.check_size(header.size, held)
    limits.check_work(header.seconds)
    if admit is not None:
        admit(held)
    warnings: set[ImageWarning] = set()
    with undecodable(f"the picture's {header.format} data cannot be decoded"):
        loaded = header.load(scale) if header.keeps or scale == close_scale else _reduced(header, scale, close_scale)
        rgb = to_srgb(loaded, warnings)
        if loaded.orientation != 1 or loaded.turned:
            warnings.add(ImageWarning.EXIF_ROTATED)
        rgb = exif.upright(rgb, loaded.orientation)
    if loaded.animated:
        warnings.add(ImageWarning.ANIMATED_FIRST_FRAME)
    if loaded.damaged:
        warnings.add(ImageWarning.DAMAGED_DATA_IGNORED)
    size = rgb.size if scale == 1 else _upright_size(header)
    close = _look_at(rgb) if scale == close_scale else _close_look(header, loaded, close_scale)
    digest = hashlib.sha256(data).hexdigest() if sha256 is None else sha256
    return _picture(rgb, size, header.format, digest, warnings, close)


def _reduced(header: Header, scale: int, close_scale: int) -> Loaded:
    """Pixels at one scale from those at another one, which are kept."""
    close = header.load(close_scale)
    return dataclasses.replace(close, image=close.image.reduce(scale // close_scale), at=lambda _: close)


def _close_look(header: Header, loaded: Loaded, close_scale: int) -> CloseLook:
    """A close look at a picture, by its pixels at a larger scale."""

    def cut(boxes: Sequence[Box]) -> list[Image.Image]:
        with undecodable(f"the picture's {header.format} data cannot be decoded"):
            assert loaded.at is not None
            close = loaded.at(close_scale)
            if close.codes is not None:
                # Decoded once for all parts.
                close.codes = cache(close.codes)
            parts = (_part(close, exif.before(box, close.image.size, loaded.orientation)) for box in boxes)
            return [exif.upright(to_srgb(part, set()), loaded.orientation) for part in parts]

    width, height = _upright_size(header)
    return CloseLook((-(-width // close_scale), -(-height // close_scale)), cut)


def _part(loaded: Loaded, box: Box) -> Loaded:
    """A part of loaded pixels."""
    left, top, right, bottom = box
    codes = loaded.codes
    own = None if codes is None else lambda: codes()[top:bottom, left:right]
    return dataclasses.replace(loaded, image=loaded.image.crop(box), codes=own)


def _look_at(rgb: Image.Image) -> CloseLook:
    return CloseLook(rgb.size, lambda boxes: [rgb.crop(box) for box in boxes])


def from_image(image: Image.Image, limits: Limits | None = None) -> Picture:
    """Convert an open Pillow image to the form that ``decode`` gives.

    Raises:
        ImageError: Its size is outside the limits, or it cannot be decoded.
    """
    (limits or Limits()).check_size(image.size)
    warnings: set[ImageWarning] = set()
    with undecodable(f"the picture's {image.mode} pixels cannot be decoded"):
        turn, _ = exif.orientation(image)
        turned = image.format == "TIFF"  # Pillow turns these itself while it loads them
        rgb = exif.upright(to_srgb(Loaded(image=image.copy()), warnings), 1 if turned else turn)
        if turn != 1:
            warnings.add(ImageWarning.EXIF_ROTATED)
    digest = hashlib.sha256(rgb.tobytes()).hexdigest()
    return _picture(rgb, rgb.size, image.format or "RAW", digest, warnings, _look_at(rgb))


def to_srgb(loaded: Loaded, warnings: set[ImageWarning]) -> Image.Image:
    """Convert loaded pixels of any mode to 8-bit sRGB, with transparency composited on white; adds to ``warnings``.

    Raises:
        UndecodableImage: The mode has no agreed range.
        ValueError: Pillow knows no conversion from this mode.
    """
    image, icc = loaded.image, loaded.image.info.get("icc_profile")
    image = image.convert("RGB") if image.mode == "RGBX" else image
    grey = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I;16")
    if loaded.sixteen_bit or image.mode.startswith("I;16"):
        warnings.add(ImageWarning.SIXTEEN_BIT_SCALED)
    if image.mode in ("I", "F"):
        raise UndecodableImage(
            f"its pixels are numbers of {'32 bits' if image.mode == 'I' else 'floating point'}, which have no agreed "
            "range; save it with 8 or 16 bits"
        )
    if grey:
        warnings.add(ImageWarning.GRAYSCALE)
    if image.mode in ("P", "PA"):
        warnings.add(ImageWarning.PALETTE_EXPANDED)
    if image.mode == "CMYK":
        warnings.add(ImageWarning.CMYK_CONVERTED)
    if image.mode.startswith("I;16"):
        image, codes_HW = _sixteen_bit_grey(image)
        loaded = Loaded(image=image, encoding=loaded.encoding, codes=lambda: codes_HW)
    elif image.mode in ("La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    rgb = _converted(loaded, image, icc, grey, warnings)
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


def _converted(
    loaded: Loaded, image: Image.Image, icc: bytes | None, grey: bool, warnings: set[ImageWarning]
) -> Image.Image | None:
    """Pixels in sRGB, mode RGB, if the file says that its own are in something else; None if not."""
    encoding = loaded.encoding
    news = ImageWarning.COLOR_CONVERTED if encoding is None or not encoding.hdr else ImageWarning.HDR_CONVERTED
    codes = loaded.codes
    if icc is None and "icc_profile" in image.info:
        # Parts of it are missing.
        warnings.add(ImageWarning.ICC_INVALID_IGNORED)
    if icc:
        try:
            if codes is not None:
                encoding, news = profiles.encoding(icc, grey), ImageWarning.ICC_CONVERTED
            if encoding is None:
                converted = profiles.convert(image, icc)
                if converted is not None:
                    warnings.add(ImageWarning.ICC_CONVERTED)
                return converted
        except profiles.BROKEN:
            warnings.add(ImageWarning.ICC_INVALID_IGNORED)
            return None
    if encoding is None or image.mode == "CMYK":
        return None
    warnings.add(news)
    rgb = image if image.mode in ("RGB", "RGBA") else image.convert("RGBA")
    codes_HWC = np.asarray(rgb) if codes is None else codes()
    if codes_HWC.ndim == 2:
        codes_HWC = np.repeat(codes_HWC[..., None], 3, axis=-1)
    return Image.fromarray(encoding.to_srgb(codes_HWC[..., :3]))


def _scale(header: Header, enough: Callable[[int, int], tuple[int, int]]) -> int:
    """How many times smaller each side may be decoded."""
    size = _upright_size(header)
    across, down = (full // wanted for full, wanted in zip(size, enough(*size), strict=True))
    return max(scale for scale in header.scales if scale <= max(min(across, down), 1))


def _close_scale(header: Header, closely: Callable[[int, int], int]) -> int:
    """How many times smaller each side is decoded for a close look."""
    most = closely(*_upright_size(header))
    return next((scale for scale in header.scales if header.held(scale) <= most), header.scales[-1])


def _upright_size(header: Header) -> tuple[int, int]:
    return header.size[::-1] if header.orientation in exif.SIDEWAYS else header.size


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert loaded pixels to a mode. Pillow would copy pixels that have that mode already."""
    return image if image.mode == mode else image.convert(mode)


def _picture(
    rgb: Image.Image,
    size: tuple[int, int],
    format_: str,
    sha256: str,
    warnings: set[ImageWarning],
    close: CloseLook,
) -> Picture:
    width, height = size
    facts = Facts(width=width, height=height, format=format_, sha256=sha256, warnings=tuple(sorted(warnings)))
    return Picture(rgb, facts, close)


def _sixteen_bit_grey(image: Image.Image) -> tuple[Image.Image, NDArray[np.uint16]]:
    """16-bit grey scaled to 8 bits, and to all 16. Pillow's own conversion clips: all above 255 would be white."""
    values = np.asarray(image).astype(np.uint32)
    # TIFF files may use only 12 of the 16 bits, and may store white as 0; Pillow leaves both to its callers.
    tags = getattr(image, "tag_v2", {})
    white = 2 ** int(tags.get(_BITS_PER_SAMPLE, (16,))[0]) - 1
    shown = white - values.clip(0, white) if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else values.clip(0, white)
    scaled = Image.fromarray(((shown * 255 + white // 2) // white).astype(np.uint8))
    key = image.info.get("transparency")
    if isinstance(key, int):
        scaled.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return scaled, (shown * 65535 // white).astype(np.uint16)
