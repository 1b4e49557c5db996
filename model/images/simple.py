"""WebP, GIF and BMP, which Pillow decodes as they are, but for a few habits of their files."""

import io

from PIL import Image

from model.images import exif
from model.images.errors import TooMuchWork, undecodable
from model.images.facts import Header, Loaded

PIXEL_SECONDS = 4e-8
"""Work for a pixel, on one processor core."""
RUN_SECONDS = 6e-7
"""Work for a byte of a run-length encoded BMP."""
BLOCKS = 1_000_000
"""More blocks than any sound GIF has: as many are 250 MB."""


def read(data: bytes, format_: str) -> Header:
    """Read the header of a WebP, GIF or BMP.

    Raises:
        ImageError: It cannot be read.
    """
    broken = False
    if format_ == "GIF":
        broken = not _ends(data)
    with undecodable("the picture's header cannot be read"):
        image = Image.open(io.BytesIO(data), formats=(format_,))
        animated = bool(getattr(image, "is_animated", False))
    runs = format_ == "BMP" and any(tile.codec_name == "bmp_rle" for tile in image.tile)
    width, height = image.size

    def load(scale: int) -> Loaded:  # noqa: ARG001
        boxes = [tile.extents for tile in image.tile]
        image.load()
        turn, damaged = exif.orientation(image)
        pixels: Image.Image = image
        if format_ == "GIF" and boxes and boxes[0] not in (None, (0, 0, width, height)):
            pixels = _on_its_canvas(image, boxes[0])
        if format_ == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
            # Writers leave the fourth byte at zero; viewers show such a picture.
            pixels = image.convert("RGB")
        return Loaded(image=pixels, orientation=turn, animated=animated, damaged=damaged or broken)

    seconds = PIXEL_SECONDS * width * height + (RUN_SECONDS * len(data) if runs else 0)
    return Header(format=format_, size=(width, height), seconds=seconds, load=load)


def _on_its_canvas(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """A first frame that is smaller than its canvas, which is transparent around it."""
    canvas = Image.new("RGBA", image.size, (0, 0, 0, 0))
    canvas.paste(image.convert("RGBA").crop(box), box[:2])
    return canvas


def _ends(data: bytes) -> bool:
    """Whether the blocks of a GIF lead to its trailer.

    Raises:
        TooMuchWork: There are too many blocks.
    """
    if len(data) < 13:
        return False
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    inside = False
    for _ in range(BLOCKS):
        if at >= len(data):
            return False
        kind = data[at]
        if inside:
            # The length of a sub-block; 0 ends the block.
            inside, at = kind > 0, at + 1 + kind
        elif kind == 0x2C and at + 10 <= len(data):
            flags = data[at + 9]
            inside, at = True, at + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        elif kind == 0x21:
            inside, at = True, at + 2
        else:
            return kind == 0x3B
    raise TooMuchWork(f"the picture has more than {BLOCKS:,} blocks; save it again with common settings")
