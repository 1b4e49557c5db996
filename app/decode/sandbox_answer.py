"""What a decoder process says of a picture, checked: it may be compromised, and say anything."""

from typing import Any

from app.decode.sandbox_worker import OUT_OF_MEMORY
from model import images
from model.images import Facts, ImageWarning, Limits
from model.images.capture import CHARACTERS, LARGEST, Capture
from model.images.facts import Box
from model.maps import overlay

DETAIL_CHARACTERS = 200
_ERRORS: dict[str, type[images.ImageError]] = {
    error.__name__: error
    for error in (
        images.UnsupportedFormat,
        images.UndecodableImage,
        images.TruncatedImage,
        images.TooManyPixels,
        images.TooSmall,
        images.AspectTooExtreme,
        images.TooMuchWork,
    )
}


class Broken(Exception):
    """The worker must be replaced. The text is the reason, for logs and metrics.

    ``died``, ``overran`` (took too long), ``memory`` (ran out of it) or ``nonsense`` (sent an invalid answer).
    """


def error(answer: dict[str, Any]) -> Exception:
    """The ``ImageError`` of a worker's answer, if its type is known and its text is short and printable."""
    name, detail = answer["error"], answer.get("detail", "")
    if name == OUT_OF_MEMORY:
        return Broken("memory")
    if name not in _ERRORS or not isinstance(detail, str):
        return Broken("nonsense")
    if len(detail) > DETAIL_CHARACTERS or not detail.isprintable():
        return Broken("nonsense")
    return _ERRORS[name](detail)


def facts(answer: dict[str, Any], limits: Limits, sha256: str) -> Facts:
    """The facts of a picture, within the limits.

    Raises:
        ValueError, TypeError, KeyError: They are none.
    """
    width, height, format_ = answer["width"], answer["height"], answer["format"]
    if type(width) is not int or type(height) is not int or format_ not in images.FORMATS:
        raise ValueError("no facts")
    limits.check_size((width, height), 0)
    warnings = tuple(ImageWarning(name) for name in answer["warnings"])
    return Facts(width=width, height=height, format=format_, sha256=sha256, warnings=warnings)


def boxes(answer: dict[str, Any], facts: Facts, most: int) -> tuple[Box, ...]:
    """Where a close look was taken: at most so many boxes inside the picture.

    Raises:
        ValueError, TypeError, KeyError: They are none.
    """
    boxes = tuple(tuple(box) for box in answer["boxes"])
    if len(boxes) > most or any(type(edge) is not int for box in boxes for edge in box):
        raise ValueError("no boxes")
    for left, top, right, bottom in boxes:
        if not (0 <= left < right <= facts.width and 0 <= top < bottom <= facts.height):
            raise ValueError("no boxes")
    return boxes


def capture(answer: dict[str, Any]) -> Capture:
    """How a picture was taken.

    Raises:
        ValueError, TypeError, KeyError: The answer does not say so.
    """
    taken = Capture(**answer["capture"])
    numbers = [taken.taken, taken.exposure, taken.bias, taken.distance]
    for number in numbers:
        if number is not None and (type(number) not in (int, float) or not abs(number) <= LARGEST):
            raise ValueError("no capture")
    if type(taken.bracketed) is not bool or type(taken.camera) is not str:
        raise ValueError("no capture")
    if len(taken.camera) > CHARACTERS or not taken.camera.isprintable():
        raise ValueError("no capture")
    return taken


def preview_size(answer: dict[str, Any], preview: bool) -> tuple[int, int]:
    """Width and height of the small copy; (0, 0) if none was requested.

    Raises:
        ValueError, TypeError, KeyError: They are none.
    """
    if not preview:
        return 0, 0
    width, height = answer["preview"]
    for side in (width, height):
        if type(side) is not int or not 1 <= side <= overlay.LONGEST_SIDE:
            raise ValueError("no preview")
    return width, height
