"""Orientation: EXIF's alone counts, in whatever type it is stored."""

from PIL import ExifTags, Image

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
