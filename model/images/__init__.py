"""Decoding: from untrusted bytes to upright 8-bit sRGB pixels, with a warning for every conversion.

The content alone decides the format; file names and content types are ignored. A header is read before anything is
decoded (``formats.py``, and a module for each format): it gives the size and how much work the file is made to be,
which are bounded. Damaged data are refused; where all rows are there all the same, a warning tells of the damage.
Pictures leave this package fully decoded, so nothing later can fail to decode them.
"""

from model.images.decoding import decode as decode
from model.images.decoding import from_image as from_image
from model.images.errors import AspectTooExtreme as AspectTooExtreme
from model.images.errors import ImageError as ImageError
from model.images.errors import ImageSizeError as ImageSizeError
from model.images.errors import TooManyPixels as TooManyPixels
from model.images.errors import TooMuchWork as TooMuchWork
from model.images.errors import TooSmall as TooSmall
from model.images.errors import TruncatedImage as TruncatedImage
from model.images.errors import UndecodableImage as UndecodableImage
from model.images.errors import UnsupportedFormat as UnsupportedFormat
from model.images.facts import FORMATS as FORMATS
from model.images.facts import Facts as Facts
from model.images.facts import ImageWarning as ImageWarning
from model.images.facts import Limits as Limits
from model.images.facts import Picture as Picture
