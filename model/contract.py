"""The scoring contract: how a decoded picture becomes work items, and how raw scores become 0 to 100.

It travels inside the checkpoint, so that training, evaluation, the service and the command line cannot disagree. Every
answer echoes its ``id``.
"""

import bisect
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model import images, token_shapes
from model.domain import Domain
from model.grid import grid
from model.images import ImageWarning, Picture

VERSION = 1
LATER_FIELDS = ("decoding", "zooms", "grades", "percentiles", "domain")
"""Fields that version 1 was given after it was in use: neither written nor hashed while they hold their default, so
that older contracts keep their ids, and older releases refuse only the contracts that they would misread."""
SCALED_MARGIN = 2
"""The final resize has so many pixels a side for each that it makes, and so decides how the picture is smoothed."""
GRADES = ("bad", "poor", "fair", "good", "excellent")
PERCENTILE_STEP = 5
PROBE_SEED = 20
MAX_CROPS = 64
EXTREME_ASPECT = 3.0
"""From this ratio of the sides on, crops see a picture unlike the ones in any training set."""

Items = NDArray[np.uint8] | NDArray[np.float32]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are exclusive."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The raw scale of a network: the labels of the data set that it was trained on."""

    dataset: str
    min: float
    max: float
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if not self.min < self.max:
            raise ValueError(f"scale: min {self.min} is not below max {self.max}")

    def to_percent(self, raw: float) -> float:
        """Map a raw score to 0 (worst) .. 100 (best), clipped to that range."""
        share = (raw - self.min) / (self.max - self.min)
        return 100 * min(max(share if self.higher_is_better else 1 - share, 0.0), 1.0)

    def spread_to_percent(self, raw: float) -> float:
        """Map a raw difference to points of 100."""
        return 100 * raw / (self.max - self.min)


@dataclass(frozen=True, kw_only=True)
class Views:
    """The work items of one picture.

    Attributes:
        items: (N, size, size, 3) uint8 RGB crops, or (1, T, 3075) float32 tokens of the whole picture.
        boxes: Where each item lies in the upright picture, in its own pixels.
        warnings: What making them did to the picture.
    """

    items: Items
    boxes: tuple[Box, ...]
    warnings: tuple[ImageWarning, ...]


@dataclass(frozen=True, kw_only=True)
class Contract:
    """How one checkpoint looks at pictures.

    Raises:
        ValueError: A field is outside what this version knows.
    """

    version: int = VERSION
    view: Literal["crops", "tokens"] = "crops"
    """``crops`` cuts squares, ``tokens`` the whole picture into patches at several scales (``model/tokens.py``)."""
    longer_sides: tuple[int, ...] = ()
    """For ``tokens``: longer sides of the small copies that are seen beside the picture."""
    kernel: token_shapes.Kernel = "bicubic"
    """For ``tokens``: how the small copies are resized."""
    resize: Literal["fit", "exact", "none"] = "fit"
    """``fit`` shrinks a picture into ``width`` x ``height`` and keeps its aspect ratio, ``exact`` resizes to just
    that size, ``none`` keeps the pixels. Whatever the rule, sides shorter than a crop are then enlarged to it (for
    ``tokens`` they are not)."""
    width: int = 512
    height: int = 512
    decoding: Literal["full", "scaled"] = "full"
    """``scaled`` decodes a JPEG at a half, a quarter or an eighth of its sides, as long as both keep ``SCALED_MARGIN``
    times the length that they are resized to: faster, and other pixels."""
    crop_size: int = 224
    crops: int = 9
    zooms: tuple[float, ...] = (1.0,)
    """For ``crops``: sizes at which the resized picture is cut, as shares of its sides, largest first. Crops are shared
    out evenly, odd ones to the smaller sizes. None gets smaller than a crop."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    scale: Scale
    slope: float = 1.0
    """The network's output times ``slope`` plus ``intercept`` is the raw score: losses that only compare leave the
    output on a scale of its own."""
    intercept: float = 0.0
    grades: tuple[float, ...] = ()
    """Scores from which on a picture is called by each of ``GRADES`` but the first; empty if it is not."""
    percentiles: tuple[float, ...] = ()
    """Scores that 0, 5, .. 100 % of the training photos reach at most; empty if unknown."""
    domain: Domain | None = None
    """What the training photos are like; unlike ones get a warning."""

    def __post_init__(self) -> None:
        if self.resize not in ("fit", "exact", "none"):
            raise ValueError(f"contract: unknown resize rule {self.resize!r}")
        if self.decoding not in ("full", "scaled"):
            raise ValueError(f"contract: unknown decoding {self.decoding!r}")
        if self.view not in ("crops", "tokens"):
            raise ValueError(f"contract: unknown view {self.view!r}")
        if self.kernel not in ("bicubic", "gaussian"):
            raise ValueError(f"contract: unknown kernel {self.kernel!r}")
        if self.view == "tokens":
            self._check_tokens()
        if not 1 <= self.crops <= MAX_CROPS:
            raise ValueError(f"contract: crops must be 1 to {MAX_CROPS}, not {self.crops}")
        if self.crop_size < 1 or min(self.width, self.height) < self.crop_size:
            raise ValueError(f"contract: {self.width}x{self.height} is smaller than a crop of {self.crop_size}")
        falling = list(self.zooms) == sorted({*self.zooms}, reverse=True)
        if not self.zooms or not falling or not 0 < self.zooms[-1] <= self.zooms[0] <= 1:
            raise ValueError(f"contract: zooms must fall, from 1 at most, not {self.zooms}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError("contract: mean and std need three values each, std above 0")
        self._check_meaning()
        if not (math.isfinite(self.slope) and math.isfinite(self.intercept) and self.slope):
            raise ValueError(f"contract: slope {self.slope} and intercept {self.intercept} cannot make a score")

    def _check_meaning(self) -> None:
        for name, values, count in (
            ("grades", self.grades, len(GRADES) - 1),
            ("percentiles", self.percentiles, 100 // PERCENTILE_STEP + 1),
        ):
            if values and (len(values) != count or list(values) != sorted(values)):
                raise ValueError(f"contract: {name} must be {count} growing scores")

    def _check_tokens(self) -> None:
        if self.crops != 1:
            raise ValueError(f"contract: tokens are of the whole picture, so crops must be 1, not {self.crops}")
        if self.resize == "none" or token_shapes.full_length(token_shapes.count(self.width, self.height)) == 0:
            raise ValueError(
                f"contract: tokens need a resize rule that leaves at most {token_shapes.FULL_LENGTHS[-1]} patches, "
                f"not {self.resize} to {self.width}x{self.height}"
            )

    @property
    def id(self) -> str:
        """A short name that differs whenever a score could."""
        canonical = json.dumps(self.to_dict(), sort_keys=True)
        return f"{self.view}-v{self.version}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"

    def decode(
        self,
        data: bytes,
        limits: images.Limits | None = None,
        admit: Callable[[int], object] | None = None,
        *,
        sha256: str | None = None,
    ) -> Picture:
        """Decode a picture with as many pixels as the contract looks at; otherwise like ``images.decode``.

        Raises:
            ImageError: As there.
        """
        enough = self._enough if self.decoding == "scaled" else None
        return images.decode(data, limits, admit, sha256=sha256, enough=enough)

    def _enough(self, width: int, height: int) -> tuple[int, int]:
        target = self.target_size(width, height)
        return SCALED_MARGIN * target[0], SCALED_MARGIN * target[1]

    def views(self, picture: Picture, crops: int | None = None) -> Views:
        """Cut the work items of a picture, the same ones every time.

        Args:
            picture: From ``decode``.
            crops: How many crops, 1 to 64; the contract's own count if None. A picture too small to hold that many
                different ones gives fewer, and tokens are always one item.

        Raises:
            ValueError: ``crops`` is out of range.
        """
        count = self.crops if crops is None else crops
        if not 1 <= count <= MAX_CROPS:
            raise ValueError(f"crops must be 1 to {MAX_CROPS}, not {count}")
        return self.cut(np.asarray(self.resized(picture)), picture.facts.size, count)

    def cut(self, pixels_HWC: NDArray[np.uint8], original: tuple[int, int], count: int) -> Views:
        """Cut the work items of a picture that has been resized.

        Args:
            pixels_HWC: Of a picture from ``resized``.
            original: Width and height of the picture that was sent, in pixels.
            count: How many crops, 1 to 64.
        """
        warnings = self._warnings(*original)
        if self.domain is not None and not self.domain.holds(pixels_HWC):
            warnings = (*warnings, ImageWarning.OUT_OF_DOMAIN)
        if self.view == "tokens":
            from model import tokens  # it needs torch, which contracts of crops do without

            whole = (0, 0, *original)
            cut_TL = tokens.cut(pixels_HWC, self.longer_sides, self.kernel)
            return Views(items=cut_TL[np.newaxis], boxes=(whole,), warnings=warnings)
        size = self.crop_size
        height, width, _ = pixels_HWC.shape
        sizes = self._zoomed_sizes(width, height)[-count:]
        crops: list[NDArray[np.uint8]] = []
        boxes: list[Box] = []
        for place, (across, down) in enumerate(sizes):
            zoomed_HWC = _resize(pixels_HWC, across, down)
            share = (count + place) // len(sizes)
            for left, top in grid(across, down, size, share):
                crops.append(zoomed_HWC[top : top + size, left : left + size])
                box = (left, top, left + size, top + size)
                boxes.append(_enlarged(box, original[0] / across, original[1] / down))
        return Views(items=np.stack(crops), boxes=tuple(boxes), warnings=warnings)

    def _zoomed_sizes(self, width: int, height: int) -> list[tuple[int, int]]:
        """Widths and heights at which a resized picture is cut, each once."""
        least = self.crop_size / min(width, height)
        factors = [max(zoom, least) for zoom in self.zooms]
        sizes = [(max(round(width * one), self.crop_size), max(round(height * one), self.crop_size)) for one in factors]
        return list(dict.fromkeys(sizes))

    def resized(self, picture: Picture) -> Image.Image:
        """Resize a picture by the contract's rule, bilinear with antialiasing."""
        target = self.target_size(*picture.facts.size)
        if target == picture.image.size:
            return picture.image
        return picture.image.resize(target, Image.Resampling.BILINEAR)

    def _warnings(self, width: int, height: int) -> tuple[ImageWarning, ...]:
        warnings = []
        target = self.target_size(width, height)
        if target[0] > width or target[1] > height:
            warnings.append(ImageWarning.UPSCALED_LOW_RESOLUTION)
        if max(width, height) > EXTREME_ASPECT * min(width, height):
            warnings.append(ImageWarning.EXTREME_ASPECT)
        return tuple(warnings)

    def target_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels that a picture of some size is resized to."""
        if self.resize == "exact":
            return self.width, self.height
        smallest = self.crop_size if self.view == "crops" else 1
        factor = min(self.width / width, self.height / height, 1.0) if self.resize == "fit" else 1.0
        # Enlarging follows shrinking as one factor: the pixels are resampled once, from the original.
        factor = max(factor, smallest / min(width, height)) if min(width, height) * factor < smallest else factor
        return max(round(width * factor), smallest), max(round(height * factor), smallest)

    def item_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes that one work item can have."""
        if self.view == "crops":
            return ((self.crop_size, self.crop_size, 3),)
        small = token_shapes.small_length(self.longer_sides)
        most = token_shapes.full_length(token_shapes.count(self.width, self.height))
        least = most if self.resize == "exact" else 0
        return tuple(
            (small + length, token_shapes.LENGTH) for length in token_shapes.FULL_LENGTHS if least <= length <= most
        )

    @property
    def least_item_bytes(self) -> int:
        """Memory that a work item takes at least."""
        return min(map(self._item_bytes, self.item_shapes()))

    @property
    def most_item_bytes(self) -> int:
        """Memory that a work item takes at most."""
        return max(map(self._item_bytes, self.item_shapes()))

    def _item_bytes(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape) * (1 if self.view == "crops" else 4)

    def probe(self, count: int, item_shape: tuple[int, ...]) -> Items:
        """Made-up items of one shape, the same ones every time, half of them smooth and half noise."""
        rng = np.random.default_rng(PROBE_SEED)
        if self.view == "crops":
            crops_NHWC = rng.integers(0, 256, (count, *item_shape), dtype=np.uint8)
            crops_NHWC[::2] = np.sort(crops_NHWC[::2], axis=1)
            return crops_NHWC
        columns = item_shape[0] - token_shapes.small_length(self.longer_sides)
        from model import tokens

        strips = rng.integers(0, 256, (count, token_shapes.PATCH, columns * token_shapes.PATCH, 3), dtype=np.uint8)
        strips[::2] = np.sort(strips[::2], axis=2)
        return np.stack([tokens.cut(strip, self.longer_sides, self.kernel) for strip in strips])

    def raw(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn outputs of the network into raw scores, on the scale of the training labels."""
        return self.slope * outputs + self.intercept

    def grade(self, score: float) -> str | None:
        """The word for a score of 0 to 100, or None."""
        return GRADES[bisect.bisect_right(self.grades, score)] if self.grades else None

    def percentile(self, score: float) -> float | None:
        """How many of 100 training photos score lower than a score of 0 to 100, or None."""
        if not self.percentiles:
            return None
        return round(float(np.interp(score, self.percentiles, range(0, 101, PERCENTILE_STEP))), 1)

    def to_dict(self) -> dict[str, Any]:
        """Describe the contract as JSON can hold it, without ``LATER_FIELDS`` at their defaults."""
        description: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        for name in LATER_FIELDS:
            if getattr(self, name) == getattr(Contract, name):
                del description[name]
        return description

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "Contract":
        """Read a contract from ``to_dict``'s form.

        Raises:
            ValueError: Its version is unknown, or fields are missing, unknown or out of range.
        """
        fields = dict(description)
        if fields.get("version") != VERSION:
            raise ValueError(f"contract version {fields.get('version')!r} is unknown; this release knows {VERSION}")
        try:
            fields["scale"] = Scale(**fields["scale"])
            for name in ("mean", "std", "longer_sides", "zooms", "grades", "percentiles"):
                if name in fields:
                    fields[name] = tuple(fields[name])
            if "domain" in fields:
                fields["domain"] = Domain(**{name: _frozen(value) for name, value in fields["domain"].items()})
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise ValueError(f"contract: {error}") from error


def _resize(pixels_HWC: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    if pixels_HWC.shape[:2] == (height, width):
        return pixels_HWC
    return np.asarray(Image.fromarray(pixels_HWC).resize((width, height), Image.Resampling.BILINEAR))


def _enlarged(box: Box, across: float, down: float) -> Box:
    left, top, right, bottom = box
    return round(left * across), round(top * down), round(right * across), round(bottom * down)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
