"""Degradations in five levels, after the types of KADID-10k and TID2013, and blank pictures.

Training uses them to teach that damage lowers a score whatever the photo shows; ``smart-iqa benchmark behaviour``
measures whether it does. ``LEVELS`` gives the strengths in the units of each kind, for pictures of about 512x512.
"""

import io
import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Rng = np.random.Generator
Kind = Literal[
    "blur",
    "motion blur",
    "white noise",
    "salt-and-pepper noise",
    "jpeg",
    "jpeg 2000",
    "webp",
    "downscaling",
    "underexposure",
    "overexposure",
]
Blank = Literal["flat", "black", "white", "gradient", "noise", "grey noise"]

LEVELS: Mapping[Kind, tuple[float, float, float, float, float]] = {
    "blur": (0.8, 1.5, 2.5, 4, 7),  # standard deviation in pixels
    "motion blur": (4, 8, 14, 22, 34),  # length in pixels
    "white noise": (8, 16, 28, 46, 75),  # standard deviation of 8-bit values
    "salt-and-pepper noise": (0.004, 0.015, 0.04, 0.09, 0.2),  # share of the pixels
    "jpeg": (40, 24, 14, 8, 4),  # quality
    "jpeg 2000": (30, 60, 110, 180, 300),  # times smaller than raw
    "webp": (40, 20, 9, 3, 0),  # quality
    "downscaling": (1.5, 2.2, 3.3, 5, 8),  # times shorter sides, and enlarged again
    "underexposure": (-0.9, -1.7, -2.5, -3.3, -4.2),  # stops of light
    "overexposure": (0.7, 1.2, 1.8, 2.4, 3.2),  # stops of light
}
"""Strengths of levels 1 to 5, from slight to severe."""
STRONGEST = 5.0
DRAWN = (*LEVELS, *2 * ("underexposure", "overexposure"))
"""Kinds that training draws from. Exposure comes three times as often: it takes the most examples to learn."""


def degrade(pixels_HWC: NDArray[np.uint8], kind: Kind, level: float, rng: Rng) -> NDArray[np.uint8]:
    """Degrade a picture.

    Args:
        pixels_HWC: RGB.
        kind: The kind of degradation.
        level: Its level, 1 to 5; strengths between whole levels are interpolated.
        rng: Source of noise and directions.
    """
    between = np.interp(level, range(1, 6), LEVELS[kind])
    return _APPLY[kind](pixels_HWC, float(between), rng)


def blank(height: int, width: int, kind: Blank, rng: Rng) -> NDArray[np.uint8]:
    """Make a blank picture (height, width, 3): one colour, a gradient or noise."""
    if kind in ("noise", "grey noise"):
        noise = rng.normal(rng.uniform(60, 196), rng.uniform(25, 100), (height, width, 3 if kind == "noise" else 1))
        return np.broadcast_to(_to_bytes(noise), (height, width, 3)).copy()
    if kind == "gradient":
        ends, angle = rng.uniform(0, 256, (2, 3)), rng.uniform(0, 2 * math.pi)
        along_HW = np.cos(angle) * np.linspace(-1, 1, width) + np.sin(angle) * np.linspace(-1, 1, height)[:, None]
        share_HW1 = ((along_HW - along_HW.min()) / np.ptp(along_HW))[..., None]
        return _to_bytes(ends[0] * (1 - share_HW1) + ends[1] * share_HW1)
    colour = {"flat": rng.uniform(0, 256, 3), "black": np.zeros(3), "white": np.full(3, 255.0)}[kind]
    return np.broadcast_to(_to_bytes(colour), (height, width, 3)).copy()


def _blur(pixels_HWC: NDArray[np.uint8], sigma: float, _: Rng) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels_HWC).filter(ImageFilter.GaussianBlur(sigma)))


def _motion_blur(pixels_HWC: NDArray[np.uint8], length: float, rng: Rng) -> NDArray[np.uint8]:
    """Average along a line, by adding up shifted copies."""
    angle, steps = rng.uniform(0, math.pi), max(math.ceil(length), 2)
    reach = math.ceil(length / 2)
    padded = np.pad(pixels_HWC, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    height, width, _ = pixels_HWC.shape
    total = np.zeros(pixels_HWC.shape, np.uint32)
    for along in np.linspace(-length / 2, length / 2, steps):
        down, right = reach + round(along * math.sin(angle)), reach + round(along * math.cos(angle))
        total += padded[down : down + height, right : right + width]
    return (total // steps).astype(np.uint8)


def _white_noise(pixels_HWC: NDArray[np.uint8], sigma: float, rng: Rng) -> NDArray[np.uint8]:
    noise_HWC = rng.standard_normal(pixels_HWC.shape, np.float32)
    return _to_bytes(pixels_HWC + sigma * noise_HWC)


def _salt_and_pepper(pixels_HWC: NDArray[np.uint8], share: float, rng: Rng) -> NDArray[np.uint8]:
    chance_HW = rng.random(pixels_HWC.shape[:2], np.float32)
    noisy_HWC = pixels_HWC.copy()
    noisy_HWC[chance_HW < share] = 0
    noisy_HWC[chance_HW < share / 2] = 255
    return noisy_HWC


def _encoded(pixels_HWC: NDArray[np.uint8], file_format: str, **options: object) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(pixels_HWC).save(file, file_format, **options)
    return np.asarray(Image.open(file).convert("RGB"))


def _downscaled(pixels_HWC: NDArray[np.uint8], factor: float, _: Rng) -> NDArray[np.uint8]:
    height, width, _channels = pixels_HWC.shape
    small = Image.fromarray(pixels_HWC).resize(
        (max(round(width / factor), 1), max(round(height / factor), 1)), Image.Resampling.BILINEAR
    )
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def _exposed(pixels_HWC: NDArray[np.uint8], stops: float, _: Rng) -> NDArray[np.uint8]:
    """More or less light, in linear light, clipped as a sensor clips."""
    values = np.arange(256) / 255
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) * 2**stops
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clip(0, 1) ** (1 / 2.4) - 0.055)
    return _to_bytes(255 * encoded)[pixels_HWC]


def _to_bytes(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return values.round().clip(0, 255).astype(np.uint8)


_APPLY: dict[Kind, Callable[[NDArray[np.uint8], float, Rng], NDArray[np.uint8]]] = {
    "blur": _blur,
    "motion blur": _motion_blur,
    "white noise": _white_noise,
    "salt-and-pepper noise": _salt_and_pepper,
    "jpeg": lambda pixels_HWC, quality, _: _encoded(pixels_HWC, "JPEG", quality=round(quality)),
    "jpeg 2000": lambda pixels_HWC, ratio, _: _encoded(
        pixels_HWC, "JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True
    ),
    "webp": lambda pixels_HWC, quality, _: _encoded(pixels_HWC, "WEBP", quality=round(quality), method=0),
    "downscaling": _downscaled,
    "underexposure": _exposed,
    "overexposure": _exposed,
}
