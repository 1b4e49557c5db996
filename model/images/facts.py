"""What is known of a picture: its limits, its facts, its warnings; and what its header tells before it is decoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images.color import Encoding
from model.images.errors import AspectTooExtreme, TooManyPixels, TooMuchWork, TooSmall

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are exclusive."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIC", "JPEG2000", "JXL")
"""Names of the accepted formats. JXL needs the extra ``jxl``."""


class ImageWarning(StrEnum):
    """What was done to a picture before it was scored, or makes its score less certain."""

    ALPHA_COMPOSITED = "alpha_composited"
    ANIMATED_FIRST_FRAME = "animated_first_frame"
    CMYK_CONVERTED = "cmyk_converted"
    COLOR_CONVERTED = "color_converted"
    DAMAGED_DATA_IGNORED = "damaged_data_ignored"
    EXIF_ROTATED = "exif_rotated"
    EXTREME_ASPECT = "extreme_aspect"
    GRAYSCALE = "grayscale"
    HDR_CONVERTED = "hdr_converted"
    ICC_CONVERTED = "icc_converted"
    ICC_INVALID_IGNORED = "icc_invalid_ignored"
    OUT_OF_DOMAIN = "out_of_domain"
    PALETTE_EXPANDED = "palette_expanded"
    SIXTEEN_BIT_SCALED = "16bit_scaled"
    UPSCALED_LOW_RESOLUTION = "upscaled_low_resolution"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Which pictures are accepted.

    Attributes:
        max_pixels: Largest number of pixels that decoding holds in memory. A JPEG that is decoded at a smaller scale
            counts as it is decoded; pixels of some formats count less because they take less (``Header.weight``).
        min_side: Shortest side, in pixels.
        max_aspect: Largest ratio of the longer to the shorter side.
        seconds: Longest time that decoding may take one processor core, as estimated from the structure of the file.
    """

    max_pixels: int = 64_000_000
    min_side: int = 32
    max_aspect: float = 20.0
    seconds: float = 10.0

    def check_size(self, size: tuple[int, int], held: int | None = None) -> None:
        """Check a width and height in pixels, and how many pixels decoding would hold; all of them if None.

        Raises:
            ImageSizeError: They are outside the limits.
        """
        width, height = size
        # The pixels last: the other two are the same at whatever scale a picture is decoded.
        if min(size) < self.min_side:
            raise TooSmall(f"{width}x{height} pixels: both sides need at least {self.min_side}")
        if max(size) > self.max_aspect * min(size):
            raise AspectTooExtreme(f"{width}x{height} pixels: one side is over {self.max_aspect:g} times the other")
        if (width * height if held is None else held) > self.max_pixels:
            raise TooManyPixels(
                f"{width}x{height} pixels are more than the limit of {self.max_pixels:,}"
                if held in (None, width * height)
                else f"{width}x{height} pixels take the memory of {held:,}, more than the limit of {self.max_pixels:,}"
            )

    def check_work(self, seconds: float) -> None:
        """Check how many seconds of one processor core decoding is estimated to take.

        Raises:
            TooMuchWork: They are more than the limit.
        """
        if seconds > self.seconds:
            raise TooMuchWork(
                f"the picture is built so that decoding it would take about {seconds:.0f} s of one processor core; "
                f"the limit is {self.seconds:g} s. Save it again with common settings"
            )


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Size, format, hash and warnings of a picture: what results report after its pixels are gone.

    Attributes:
        width: Width in pixels, upright.
        height: Height in pixels, upright.
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
        close: The picture for a close look.
    """

    image: Image.Image
    facts: Facts
    close: "CloseLook"


class CloseLook(NamedTuple):
    """A picture's parts at its full size, or at the largest that it is decoded at.

    Attributes:
        size: Width and height of the upright picture there, in pixels.
        cut: Cuts boxes (left, top, right and bottom in those pixels) as images, like ``Picture.image``; may raise an
            ``ImageError``.
    """

    size: tuple[int, int]
    cut: Callable[[Sequence[Box]], list[Image.Image]]


@dataclass(kw_only=True)
class Loaded:
    """Pixels as a decoder gave them, in any mode.

    Attributes:
        image: The pixels, loaded; its ``info`` holds the colour profile.
        orientation: EXIF orientation that is still to be applied, 1 to 8.
        turned: Whether the decoder has applied an orientation itself.
        encoding: How the numbers encode colour, if the file says so otherwise than by a profile.
        codes: Decodes all 16 bits of the channels, (H, W) or (H, W, C); the image holds the high 8. None if there are
            no more, or they cannot be had.
        animated: Whether further frames follow.
        sixteen_bit: Whether channels had 16 bits.
        damaged: Whether data that the pixels do without are damaged or missing.
        at: Gives the pixels at another scale; None if they were not kept.
    """

    image: Image.Image
    orientation: int = 1
    turned: bool = False
    encoding: Encoding | None = None
    codes: Callable[[], NDArray[np.uint16]] | None = None
    animated: bool = False
    sixteen_bit: bool = False
    damaged: bool = False
    at: "Callable[[int], Loaded] | None" = None


@dataclass(kw_only=True)
class Header:
    """What the structure of an encoded picture tells before any pixel is decoded.

    Attributes:
        format: Name of the format.
        size: Width and height as stored, in pixels.
        seconds: Estimated time of decoding on one processor core.
        load: Decodes the pixels, at one of ``scales``.
        scales: How many times smaller each side may be decoded, smallest first.
        keeps: Whether what is loaded can give other scales as well.
        weight: How much each pixel of the full size counts against the limit, however small it is decoded.
        orientation: EXIF orientation that will be applied, if it is known before loading: it decides how an upright
            size is one of the stored picture.
    """

    format: str
    size: tuple[int, int]
    seconds: float
    load: Callable[[int], "Loaded"]
    scales: tuple[int, ...] = (1,)
    keeps: bool = False
    weight: float = 0.0
    orientation: int = 1

    def held(self, scale: int) -> int:
        """How many pixels decoding at a scale holds in memory."""
        width, height = self.size
        return max(round(self.weight * width * height), -(-width // scale) * -(-height // scale))
