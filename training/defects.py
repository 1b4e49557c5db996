"""Photographic defects, added to good photos: what the defect heads of a network learn from.

Each of ``model.defects.DEFECTS`` is added as it comes about: blur, exposure, white balance and noise in linear light,
saturation after that, enlargement and compression last. A severity of 0 is hardly visible, 0.5 is plain to see, 1 ruins
the photo; ``STRENGTHS`` gives all three in units of the defect.
"""

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.fft import next_fast_len as fast_length

from model.defects import DEFECTS

Rng = np.random.Generator
Light = NDArray[np.float32]
"""Linear light of a picture (H, W, 3), 0 to 1."""

STRENGTHS: Mapping[str, tuple[float, float, float]] = {
    "defocus": (0.5, 1.8, 5.0),  # radius of the disc that a point becomes, in pixels
    "motion_blur": (1.5, 5.0, 22.0),  # length of the trace of a point, in pixels
    "noise": (3.0, 12.0, 50.0),  # standard deviation of 8-bit values in middle grey
    "compression": (60.0, 22.0, 4.0),  # quality of a JPEG; other codecs by ``_CODECS``
    "upscaled": (1.0, 1.8, 3.75),  # times fewer details than pixels, along each side
    "underexposed": (0.7, 2.2, 4.6),  # stops of light that are missing
    "overexposed": (0.6, 1.8, 3.4),  # stops of light too much
    "low_contrast": (0.85, 0.5, 0.15),  # share of the contrast that is left
    "colour_cast": (0.3, 1.4, 2.6),  # stops between the channels
    "saturation": (0.4, 1.45, 2.5),  # stops of saturation too much, or too little
}
"""Strengths at severities 0, 0.5 and 1. Pixels are those that the network sees: of a photo of 512x512 whose whole view
is 384x384, two are as long as 1.5 of these."""
IN_PIXELS = frozenset({"defocus", "motion_blur", "upscaled"})
"""Defects whose strengths are lengths in pixels."""
DIRECT = 9
"""Side of a kernel in pixels up to which blur is summed up; with larger ones the Fourier transform is faster."""
WRONG_PIXELS = 0.4
"""Share of noise that is of single wrong pixels, not of a sensor's light."""
MIXED = (0.5, 0.3, 0.2)
"""Chances of one, two and three defects in one picture."""
_ORDER = (
    "defocus",
    "motion_blur",
    "low_contrast",
    "underexposed",
    "overexposed",
    "colour_cast",
    "noise",
    "saturation",
    "upscaled",
    "compression",
)
_RESAMPLING = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)
# Format and chance of a codec, and its quality at JPEG qualities 60, 22 and 4.
_CODECS: tuple[tuple[str, float, tuple[float, float, float]], ...] = (
    ("JPEG", 0.75, (60, 22, 4)),
    ("WEBP", 0.15, (55, 12, 0)),
    ("AVIF", 0.1, (45, 18, 3)),
)
_LINEAR = np.array([v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.arange(256) / 255], "f4")
_FINE = np.arange(65536) / 65535
_ENCODED = np.where(_FINE <= 0.0031308, 12.92 * _FINE, 1.055 * _FINE ** (1 / 2.4) - 0.055).astype("f4")
_GREY = 0.2140
"""Linear light of middle grey, an sRGB value of 127."""
_LUMA = np.array([0.2126, 0.7152, 0.0722], "f4")


def strength(defect: str, severity: float) -> float:
    """The strength of a defect at a severity of 0 to 1: geometric between those of ``STRENGTHS``."""
    return float(np.exp(np.interp(severity, (0, 0.5, 1), np.log(STRENGTHS[defect]))))


def severity(defect: str, strength: float) -> float:
    """The severity of a defect of a strength: the inverse of ``strength``, cut off at 0 and 1."""
    logarithms = np.log(STRENGTHS[defect])
    # Some grow worse as they fall.
    rising = 1 if logarithms[0] < logarithms[-1] else -1
    return float(np.interp(rising * math.log(strength), np.sort(rising * logarithms), (0, 0.5, 1)))


def draw(rng: Rng, chances: Mapping[str, float] | None = None) -> dict[str, float]:
    """Draw the defects of a picture, one to three, each with its severity.

    Args:
        rng: Source of the draws.
        chances: Chances of defects that are likelier than the others, beside 1 for those.
    """
    count = 1 + int(rng.choice(len(MIXED), p=MIXED))
    weights = np.array([(chances or {}).get(name, 1.0) for name in DEFECTS])
    chosen = [str(name) for name in rng.choice(DEFECTS, count, replace=False, p=weights / weights.sum())]
    if {"underexposed", "overexposed"} <= {*chosen}:
        chosen.remove("overexposed")
    return {name: float(rng.uniform(0.05, 1)) for name in chosen}


def add(
    pixels_HWC: NDArray[np.uint8], severities: Mapping[str, float], rng: Rng, *, pixel: float = 1.0
) -> NDArray[np.uint8]:
    """Add defects to a picture.

    Args:
        pixels_HWC: RGB.
        severities: The defects to add, each with its severity of 0 to 1.
        rng: Source of noise, directions and codecs. Defects that are drawn alike at two severities differ in those
            alone.
        pixel: How many pixels of the picture are as long as one of those that the network will see.
    """

    def of(name: str) -> float:
        return strength(name, severities[name]) * (pixel if name in IN_PIXELS else 1)

    light_HWC = _LINEAR[pixels_HWC]
    seeds = dict(zip(_ORDER, rng.integers(2**32, size=len(_ORDER)), strict=True))
    for name in _ORDER[:7]:
        if name in severities:
            own = np.random.default_rng(seeds[name])
            light_HWC = _IN_LIGHT[name](light_HWC, of(name), own)
    image = Image.fromarray(encode(light_HWC))
    for name in _ORDER[7:]:
        if name in severities:
            own = np.random.default_rng(seeds[name])
            # What has hardly any colours shows no cast.
            add = _too_colourful if name == "saturation" and "colour_cast" in severities else _IN_PIXELS[name]
            image = add(image, of(name), own)
    return np.asarray(image)


def shallow(pixels_HWC: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """A picture with a sharp subject before a blurred background: no defect."""
    height, width, _ = pixels_HWC.shape
    y, x = np.mgrid[0:height, 0:width].astype("f4")
    across, down = rng.uniform(0.2, 0.45) * width, rng.uniform(0.25, 0.55) * height
    middle = rng.uniform(0.3, 0.7) * width, rng.uniform(0.35, 0.75) * height
    distance_HW = np.hypot((x - middle[0]) / across, (y - middle[1]) / down)
    sharp_HW1 = np.clip((1.15 - distance_HW) / 0.3, 0, 1)[..., None]
    light_HWC = _LINEAR[pixels_HWC]
    blurred_HWC = _defocused(light_HWC, rng.uniform(2, 9), rng)
    return encode(light_HWC * sharp_HW1 + blurred_HWC * (1 - sharp_HW1))


def night(pixels_HWC: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """A dark picture whose lights are as bright as they were: no defect."""
    light_HWC = _LINEAR[pixels_HWC]
    luma_HW = light_HWC @ _LUMA
    low, high = np.quantile(luma_HW[::4, ::4], [rng.uniform(0.8, 0.93), 0.995])
    lights_HW1 = np.clip((luma_HW - low) / max(high - low, 1e-3), 0, 1)[..., None] ** 2
    lit_HWC = light_HWC * min(0.9 / max(float(high), 1e-3), 4.0)
    return encode(light_HWC * 2 ** -rng.uniform(1.5, 4) * (1 - lights_HW1) + lit_HWC * lights_HW1)


def at_full_size(image: Image.Image, rng: Rng) -> NDArray[np.uint8]:
    """A picture as cameras store it: by its pixels softer and noisier than one that was shrunk, and compressed well."""
    softer = _enlarged(image, rng.uniform(1.0, 1.3), rng) if rng.random() < 0.7 else image
    light_HWC = _noisy(_LINEAR[np.asarray(softer)], rng.uniform(0.1, 3.5), rng)
    return np.asarray(_encoded(Image.fromarray(encode(light_HWC)), "JPEG", rng.uniform(82, 97), rng))


def encode(light_HWC: Light) -> NDArray[np.uint8]:
    """8-bit sRGB of linear light, clipped as a sensor clips."""
    encoded = _ENCODED[(light_HWC.clip(0, 1) * 65535).astype(np.uint16)]
    return (encoded * 255 + 0.5).astype(np.uint8)


def _defocused(light_HWC: Light, radius: float, rng: Rng) -> Light:
    """Blur by the image of the aperture: a disc, or a rounded polygon of its blades."""
    reach = math.ceil(radius) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype("f4")
    blades, turn = rng.integers(5, 9), rng.uniform(0, 2 * math.pi)
    sector = 2 * math.pi / blades
    angle = (np.arctan2(y, x) + turn) % sector - sector / 2
    polygon = np.hypot(x, y) * np.cos(angle) / math.cos(sector / 2) ** 0.5
    distance = np.hypot(x, y) if rng.random() < 0.5 else polygon
    return _convolved(light_HWC, np.clip(radius + 0.5 - distance, 0, 1))


def _moved(light_HWC: Light, length: float, rng: Rng) -> Light:
    """Blur along the trace of a shaking hand: a line that bends and is passed at changing speed."""
    steps = max(4 * math.ceil(length), 16)
    heading = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, rng.choice([0.0, 0.02, 0.12]), steps))
    speed = np.exp(np.cumsum(rng.normal(0, rng.choice([0.0, 0.1]), steps)))
    path = np.cumsum(np.stack([np.sin(heading), np.cos(heading)]) * speed / speed.sum(), axis=1) * length
    path -= (path.max(axis=1, keepdims=True) + path.min(axis=1, keepdims=True)) / 2
    reach = math.ceil(np.abs(path).max()) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), "f4")
    down, right = np.floor(path).astype(int)
    for one, other in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = np.abs(1 - one - (path[0] - down)) * np.abs(1 - other - (path[1] - right))
        np.add.at(kernel, (down + one + reach, right + other + reach), share)
    return _convolved(light_HWC, kernel)


def _convolved(light_HWC: Light, kernel: NDArray[np.floating[Any]]) -> Light:
    height, width, _ = light_HWC.shape
    reach = len(kernel) // 2
    weight = torch.from_numpy((kernel / kernel.sum()).astype("f4"))
    light = torch.from_numpy(light_HWC).permute(2, 0, 1)[None]
    padded = F.pad(light, (reach,) * 4, mode="replicate")[0]
    if len(kernel) <= DIRECT:
        convolved = F.conv2d(padded[None], weight.expand(3, 1, *kernel.shape), groups=3)[0]
    else:
        size = (fast_length(height + 2 * reach), fast_length(width + 2 * reach))
        product = torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(weight.flip(0, 1), s=size)
        convolved = torch.fft.irfft2(product, s=size)[:, 2 * reach :, 2 * reach :][:, :height, :width]
    return convolved.permute(1, 2, 0).contiguous().numpy()


def _hazy(light_HWC: Light, left: float, rng: Rng) -> Light:
    """A veil of one tone over the picture, in encoded values, as haze and flare look."""
    pixels_HWC = _ENCODED[(light_HWC.clip(0, 1) * 65535).astype(np.uint16)]
    veil = pixels_HWC.mean(axis=(0, 1)) if rng.random() < 0.4 else rng.uniform(0.45, 0.95) + rng.normal(0, 0.02, 3)
    return _LINEAR[((left * pixels_HWC + (1 - left) * veil).clip(0, 1) * 255 + 0.5).astype(np.uint8)]


def _cast(light_HWC: Light, stops: float, rng: Rng) -> Light:
    """Gains of the channels as of a wrong white balance: mostly between blue and amber, less between green and pink."""
    angle = rng.choice([0.0, math.pi]) + rng.normal(0, 0.5)
    warm, green = stops * math.cos(angle) / 2, stops * math.sin(angle) / 2
    gains = 2.0 ** np.array([warm - green / 2, green, -warm - green / 2], "f4")
    balanced: Light = light_HWC * (gains / (gains @ _LUMA)).astype("f4")
    return balanced


def _noisy(light_HWC: Light, sigma: float, rng: Rng) -> Light:
    """Photon noise and read noise of a sensor, on its own or smeared as demosaicing does it."""
    slope = 1.055 / 2.4 * _GREY ** (1 / 2.4 - 1)
    in_grey = sigma / 255 / slope
    photons = rng.uniform(0.3, 1.0)
    variance_HWC = in_grey**2 * (photons * light_HWC / _GREY + (1 - photons))
    noise_HWC = rng.standard_normal(light_HWC.shape, "f4")
    if rng.random() < 0.3:
        noise_HWC = np.repeat(noise_HWC[..., :1], 3, axis=-1)
    if rng.random() < 0.5:
        spread = rng.uniform(0.4, 0.9)
        kernel = np.outer(weights := np.exp(-0.5 * (np.arange(-2, 3) / spread) ** 2), weights)
        noise_HWC = _convolved(noise_HWC, kernel)
        noise_HWC /= noise_HWC[::4, ::4].std()
    noisy: Light = light_HWC + np.sqrt(variance_HWC) * noise_HWC
    return noisy


def _noisy_or_wrong(light_HWC: Light, sigma: float, rng: Rng) -> Light:
    return (_with_wrong_pixels if rng.random() < WRONG_PIXELS else _noisy)(light_HWC, sigma, rng)


def _with_wrong_pixels(light_HWC: Light, sigma: float, rng: Rng) -> Light:
    """Single pixels, or single values of them, black or white: as many as give middle grey that deviation."""
    height, width, _ = light_HWC.shape
    chance_HWC = rng.random((height, width, 3 if rng.random() < 0.3 else 1), "f4")
    share = min((sigma / 127.5) ** 2, 1.0)
    white = share * (1.0 if rng.random() < 0.25 else 0.5)
    return np.where(chance_HWC < white, np.float32(1), np.where(chance_HWC < share, np.float32(0), light_HWC))


def _too_colourful(image: Image.Image, stops: float, _: Rng) -> Image.Image:
    return _saturated(image, stops)


def _too_colourful_or_pale(image: Image.Image, stops: float, rng: Rng) -> Image.Image:
    return _saturated(image, stops if rng.random() < 0.5 else -1.6 * stops)


def _saturated(image: Image.Image, stops: float) -> Image.Image:
    factor = 2**stops
    pixels_HWC = np.asarray(image).astype("f4")
    grey_HW1 = (pixels_HWC @ _LUMA)[..., None]
    return Image.fromarray((grey_HW1 + factor * (pixels_HWC - grey_HW1)).round().clip(0, 255).astype(np.uint8))


def _enlarged(image: Image.Image, factor: float, rng: Rng) -> Image.Image:
    """Shrink and enlarge again, in one step or two, and perhaps sharpen what came out."""
    width, height = image.size
    factor = max(factor, 1.05)
    small = (max(round(width / factor), 8), max(round(height / factor), 8))
    shrunk = image.resize(small, rng.choice([Image.Resampling.BOX, *_RESAMPLING[:2]]))
    if rng.random() < 0.3:
        between = tuple(round(math.sqrt(one * full)) for one, full in zip(small, image.size, strict=True))
        shrunk = shrunk.resize((between[0], between[1]), rng.choice(_RESAMPLING))
    large = shrunk.resize(image.size, rng.choice(_RESAMPLING))
    if rng.random() < 0.25:
        return large.filter(ImageFilter.UnsharpMask(factor / 2, int(rng.uniform(30, 90)), 2))
    return large


def _compressed(image: Image.Image, quality: float, rng: Rng) -> Image.Image:
    """Encode, perhaps after a milder encoding on another grid of blocks."""
    if rng.random() < 0.25:
        left, top = (int(one) for one in rng.integers(1, 8, 2))
        shifted = Image.new("RGB", (image.width + left, image.height + top))
        shifted.paste(image.resize(shifted.size))
        shifted.paste(image, (left, top))
        milder = _encoded(shifted, "JPEG", min(quality * rng.uniform(1.2, 2.5), 90), rng)
        image = milder.crop((left, top, *shifted.size))
    place = rng.choice(len(_CODECS), p=[chance for _, chance, _ in _CODECS])
    codec, _, qualities = _CODECS[place]
    falling = STRENGTHS["compression"][::-1]
    return _encoded(image, codec, float(np.interp(quality, falling, qualities[::-1])), rng)


def _encoded(image: Image.Image, codec: str, quality: float, rng: Rng) -> Image.Image:
    options: dict[str, Any] = {"JPEG": {"subsampling": int(rng.choice([0, 2, 2]))}, "WEBP": {"method": 0}}.get(
        codec, {"speed": 10}
    )
    file = io.BytesIO()
    image.save(file, codec, quality=round(quality), **options)
    return Image.open(file).convert("RGB")


_IN_LIGHT: Mapping[str, Callable[[Light, float, Rng], Light]] = {
    "defocus": _defocused,
    "motion_blur": _moved,
    "low_contrast": _hazy,
    "underexposed": lambda light_HWC, stops, _: light_HWC * np.float32(2**-stops),
    "overexposed": lambda light_HWC, stops, _: light_HWC * np.float32(2**stops),
    "colour_cast": _cast,
    "noise": _noisy_or_wrong,
}
_IN_PIXELS: Mapping[str, Callable[[Image.Image, float, Rng], Image.Image]] = {
    "saturation": _too_colourful_or_pale,
    "upscaled": _enlarged,
    "compression": _compressed,
}
