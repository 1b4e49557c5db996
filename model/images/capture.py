"""When and how a photo was taken, as the camera wrote it into the file (EXIF)."""

import io
import math
import re
from calendar import timegm
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pi_heif
from PIL import ExifTags, Image, UnidentifiedImageError

CHARACTERS = 100
"""Longest name of a camera; the rest is left out."""
LARGEST = 1e12
"""Largest number that is taken for one of a camera."""
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
_AUTO_BRACKET = 2
_TAKEN = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")


@dataclass(frozen=True, kw_only=True)
class Capture:
    """How a photo was taken; None, or "", where the file does not say.

    Attributes:
        taken: When, in seconds since 1970 by the camera's clock.
        camera: Which camera: maker, model, serial number.
        exposure: How much light was let in, in stops: exposure time times sensitivity by the squared f-number.
        bias: By how many stops the camera was told to expose more than it meant.
        bracketed: Whether the camera says that this is one of a series of exposures.
        distance: Distance of what is in focus, in metres.
    """

    taken: float | None = None
    camera: str = ""
    exposure: float | None = None
    bias: float | None = None
    bracketed: bool = False
    distance: float | None = None


def read(data: bytes) -> Capture:
    """Read how a photo was taken; whatever is missing or broken is left out, also all of it."""
    try:
        exif = _exif(data)
        about = exif.get_ifd(ExifTags.IFD.Exif)
        names = (exif.get(ExifTags.Base.Make), exif.get(ExifTags.Base.Model), about.get(ExifTags.Base.BodySerialNumber))
        camera = " ".join("".join(filter(str.isprintable, str(name))).strip() for name in names if name)
        return Capture(
            taken=_taken(about),
            camera=camera[:CHARACTERS],
            exposure=_exposure(about),
            bias=_number(about.get(ExifTags.Base.ExposureBiasValue)),
            bracketed=about.get(ExifTags.Base.ExposureMode) == _AUTO_BRACKET,
            distance=_number(about.get(ExifTags.Base.SubjectDistance)),
        )
    except MemoryError:
        raise
    except Exception:  # broken metadata must not refuse a picture that decodes
        return Capture()


def _exif(data: bytes) -> Image.Exif:
    try:
        # Left open: of a TIFF, parts of the EXIF are read when they are asked for.
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        # Pillow decodes a PNG that has no EXIF in front of its pixels to look for some behind them.
        return image.getexif() if image.format != "PNG" or "exif" in image.info else Image.Exif()
    except UnidentifiedImageError:
        exif = Image.Exif()
        exif.load(pi_heif.open_heif(data).info.get("exif") or b"")
        return exif


def _taken(about: dict[int, Any]) -> float | None:
    match = _TAKEN.match(str(about.get(ExifTags.Base.DateTimeOriginal, "")))
    if match is None:
        return None
    try:
        year, month, day, hour, minute, second = map(int, match.groups())
        whole = timegm(datetime(year, month, day, hour, minute, second).timetuple())
    except ValueError:
        return None
    part = "".join(filter(str.isdigit, str(about.get(ExifTags.Base.SubsecTimeOriginal, ""))))
    return whole + (float(f"0.{part}") if part else 0.0)


def _exposure(about: dict[int, Any]) -> float | None:
    seconds, aperture = (_number(about.get(tag)) for tag in (ExifTags.Base.ExposureTime, ExifTags.Base.FNumber))
    sensitivity = about.get(ExifTags.Base.ISOSpeedRatings)
    iso = _number(sensitivity[0] if isinstance(sensitivity, tuple) else sensitivity)
    if not (seconds and aperture and iso) or min(seconds, aperture, iso) <= 0:
        return None
    return _number(math.log2(seconds) + math.log2(iso) - 2 * math.log2(aperture))


def _number(value: Any) -> float | None:
    """A number of EXIF; None if it is none, or not finite."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if abs(number) <= LARGEST else None
