"""ICC profiles: conversion of loaded pixels to sRGB by LittleCMS, and of 16-bit ones by ``color.py``."""

import functools
import io
import struct

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

from model.images import color
from model.images.color import Encoding

ICC_BYTES = 4 * 2**20
"""Larger colour profiles are ignored; the largest in common use are about 3 MB."""
ICC_KEPT = 8
"""Colour profiles whose transforms are cached: making one takes longer than decoding a small photo."""
# By default Pillow refuses a PNG with a profile over 1 MiB. Its limit on all text chunks together stays.
PngImagePlugin.MAX_TEXT_CHUNK = ICC_BYTES

BROKEN = (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError, struct.error)
"""What a broken profile raises."""
_GREY = ("1", "L", "LA", "La")


def convert(image: Image.Image, icc: bytes) -> Image.Image | None:
    """Convert loaded pixels from a profile to sRGB, mode RGB; None if the profile is sRGB itself.

    Raises:
        BROKEN: The profile is broken, or one for other pixels than these.
    """
    mode, transform = _transform(icc)
    if (mode == "CMYK") != (image.mode == "CMYK") or (mode == "L" and image.mode not in _GREY):
        raise ValueError("the profile is one for other pixels")
    if transform is None:
        return None
    return transform.apply(image if image.mode == mode else image.convert("RGBA").convert(mode))


@functools.lru_cache(maxsize=ICC_KEPT)
def encoding(icc: bytes, grey: bool) -> Encoding | None:
    """How a profile encodes colour, if that can be computed from all 16 bits; None if not, or if it is sRGB itself.

    Raises:
        BROKEN: The profile is broken, or one for other pixels than these.
    """
    mode, transform = _transform(icc)
    if mode == "CMYK" or (mode == "L" and not grey):
        raise ValueError("the profile is one for other pixels")
    return None if transform is None else color.from_profile(icc)


@functools.lru_cache(maxsize=ICC_KEPT)
def _transform(icc: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """The mode that a profile is for, and its transform to sRGB; None instead if the profile is sRGB itself."""
    if len(icc) > ICC_BYTES:
        raise ValueError("profile too large")
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
