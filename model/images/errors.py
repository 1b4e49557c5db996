"""Why a picture cannot be scored.

ImageError
  +- UnsupportedFormat     not one of FORMATS
  +- UndecodableImage      one of FORMATS, but damaged
  |    +- TruncatedImage   ends too early
  +- TooMuchWork           would keep a processor busy for too long
  +- ImageSizeError
       +- TooManyPixels
       +- TooSmall
       +- AspectTooExtreme
"""

import contextlib
from collections.abc import Iterator


class ImageError(ValueError):
    """The picture cannot be scored; the message is safe to show to the client."""


class UnsupportedFormat(ImageError):
    """The content is not a picture of an accepted format."""


class UndecodableImage(ImageError):
    """The picture is damaged, or uses a pixel type that has no agreed meaning."""


class TruncatedImage(UndecodableImage):
    """The picture ends before its last row."""


class TooMuchWork(ImageError):
    """Decoding the picture would take longer than the limit."""


class ImageSizeError(ImageError):
    """The picture's dimensions are outside the limits."""


class TooManyPixels(ImageSizeError):
    """More pixels than the limit."""


class TooSmall(ImageSizeError):
    """A side is shorter than the limit."""


class AspectTooExtreme(ImageSizeError):
    """One side is too many times the other."""


TRUNCATED = "the picture is truncated: its end is missing"


@contextlib.contextmanager
def undecodable(message: str) -> Iterator[None]:
    """Convert whatever a decoder raises for damaged bytes, a dozen types over all formats, to one error."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        if "truncated" in str(error).lower():
            raise TruncatedImage(TRUNCATED) from error
        raise UndecodableImage(message) from error
