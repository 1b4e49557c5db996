"""Overlays: PNG drawings of which stages of the network decided where, and of where one stage is active."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.grid import hat
from model.score import QualityScore

LONGEST_SIDE = 1024
"""Of an overlay, in pixels."""
OPACITY = 0.5
CELL = 8
"""Side of a cell of the weight map, in pixels of the drawn picture."""
STAGE_COLOURS = np.array([(0, 114, 178), (0, 158, 115), (240, 228, 66), (213, 94, 0)], np.float64)
"""Blue, green, yellow, vermilion for stages 1 to 4: colour-blind readers can tell them apart (Okabe and Ito)."""

ACTIVITY_OPACITY = 0.6
ACTIVITY_COLOURS = np.array([(12, 14, 60), (88, 24, 122), (190, 50, 92), (242, 132, 48), (252, 244, 164)], np.float64)
"""From no activity to the most. Lightness grows throughout, so that the scale also reads in grey."""


def shrink(image: Image.Image) -> Image.Image:
    """Copy a picture, shrunk to at most ``LONGEST_SIDE`` pixels, without metadata."""
    small = image.copy()
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    small.info.clear()
    return small


def render(preview: Image.Image, score: QualityScore) -> bytes:
    """Tint a picture with the colours of the stages, mixed by their weights.

    Where crops overlap, those whose middle is nearer count more, so that no crop shows an edge. Parts that no crop
    covers get the mean weights.

    Args:
        preview: The upright picture that was scored, from ``shrink``.
        score: Its score, by a network with stage weights.

    Returns:
        A freshly encoded PNG without metadata.
    """
    rows, columns = (max(round(side / CELL), 1) for side in (preview.height, preview.width))
    y = (np.arange(rows) + 0.5) / rows * score.height
    x = (np.arange(columns) + 0.5) / columns * score.width
    total_HW4 = np.full((rows, columns, 4), 1e-6) * np.array(score.stage_weights)
    norm_HW1 = np.full((rows, columns, 1), 1e-6)
    for crop in score.crops:
        left, top, right, bottom = crop.box
        window_HW = np.outer(hat((y - top) / (bottom - top)), hat((x - left) / (right - left)))
        total_HW4 += window_HW[:, :, None] * np.array(crop.stage_weights)
        norm_HW1 += window_HW[:, :, None]
    return _tinted(preview, (total_HW4 / norm_HW1) @ STAGE_COLOURS, OPACITY)


def render_activity(preview: Image.Image, activity_HW: NDArray[np.float32]) -> bytes:
    """Colour a grey copy of a picture by the activity of a stage, from dark blue by red to light yellow.

    Args:
        preview: The upright picture, from ``shrink``.
        activity_HW: Activity from 0 to 1, from ``MapCrops.activity_map``.

    Returns:
        A freshly encoded PNG without metadata.
    """
    levels = np.linspace(0, 1, len(ACTIVITY_COLOURS))
    colours_HW3 = np.stack([np.interp(activity_HW, levels, channel) for channel in ACTIVITY_COLOURS.T], axis=2)
    return _tinted(preview.convert("L").convert("RGB"), colours_HW3, ACTIVITY_OPACITY)


def _tinted(picture: Image.Image, colours_HW3: NDArray[np.float64], opacity: float) -> bytes:
    tint = Image.fromarray(np.rint(colours_HW3).astype(np.uint8)).resize(picture.size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    Image.blend(picture, tint, opacity).save(buffer, "PNG")
    return buffer.getvalue()
