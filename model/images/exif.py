"""Orientation: EXIF's alone counts, in whatever type it is stored."""

from PIL import ExifTags, Image

from model.images.facts import Box

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TAG = ExifTags.Base.Orientation
SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


def orientation(image: Image.Image) -> tuple[int, bool]:
    """The EXIF orientation of a picture, 1 to 8, and whether its metadata are damaged."""
    # Pillow takes an orientation from XMP where EXIF has none; nothing else does.
    for name in ("xmp", "XML:com.adobe.xmp"):
        image.info.pop(name, None)
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        value = value[0] if isinstance(value, (bytes, tuple)) else value
        return (int(value) if int(value) in _TURNS else 1), False
    except MemoryError:
        raise
    except Exception:  # broken metadata must not refuse a picture that decodes
        return 1, True


def upright(image: Image.Image, value: int) -> Image.Image:
    """Turn loaded pixels upright by an EXIF orientation."""
    return image.transpose(_TURNS[value]) if value in _TURNS else image


def before(box: Box, size: tuple[int, int], value: int) -> Box:
    """Where a box of an upright picture lies in the picture before ``upright``.

    Args:
        box: Left, top, right and bottom in the upright picture.
        size: Width and height of the picture before it is turned.
        value: EXIF orientation.
    """
    left, top, right, bottom = box if value not in SIDEWAYS else (box[1], box[0], box[3], box[2])
    width, height = size
    if value in (2, 3, 7, 8):
        left, right = width - right, width - left
    if value in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return left, top, right, bottom
