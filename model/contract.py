"""The scoring contract: how a decoded picture becomes work items, and how raw scores become 0 to 100.

The contract is part of the checkpoint, so training, evaluation, the service and the command line treat pictures alike.
Every score names the ``id`` of its contract.
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

from model import details, images, token_shapes
from model.defects import DEFECTS
from model.domain import Domain
from model.grid import cut, enlarged
from model.images import ImageWarning, Picture
from model.interval import Interval
from model.scale import Scale
from model.views import Columns, Details, Items, Views

VERSION = 1
LATER_FIELDS = ("decoding", "zooms", "grades", "percentiles", "domain", "shapes", "defects", "interval", "description")
"""Fields that were added to version 1 later. They are neither written nor hashed while they have their defaults: older
contracts keep their ids, and older releases refuse only the contracts that they would misread."""
SCALED_MARGIN = 2
"""``scaled`` decoding keeps at least this many times the sides of the resized picture, so that the final resize, and
not the decoder, decides how the picture is smoothed."""
GRADES = ("bad", "poor", "fair", "good", "excellent")
PERCENTILE_STEP = 5
PROBE_SEED = 20
MAX_CROPS = 64
"""Crops of one picture, at most."""
EXTREME_ASPECT = 3.0
"""Pictures with a larger ratio of the sides are unlike those in any training set, and get a warning."""
CLOSE_FROM = 1.5
"""A ``whole`` picture is also looked at closely if its whole view has sides this many times shorter."""
CLOSE_PIXELS = 32_000_000
"""Most pixels that are decoded for that. A larger JPEG or HEIC is decoded at a half or a quarter of its sides."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """How one checkpoint preprocesses pictures, and what its scores mean.

    Raises:
        ValueError: A field has a value that this version does not know.
    """

    version: int = VERSION
    view: Literal["crops", "tokens", "whole"] = "crops"
    """``crops`` cuts squares, ``tokens`` cuts patches of the whole picture at several scales (``model/tokens.py``),
    ``whole`` resizes the picture to one of ``shapes`` and cuts squares at full size from large ones
    (``model/details.py``)."""
    shapes: tuple[tuple[int, int], ...] = ()
    """For ``whole``: widths and heights that pictures are resized to, each to that of the nearest aspect ratio."""
    longer_sides: tuple[int, ...] = ()
    """For ``tokens``: longer sides of the small copies beside the full-size picture, in pixels."""
    kernel: token_shapes.Kernel = "bicubic"
    """For ``tokens``: how the small copies are resized."""
    resize: Literal["fit", "exact", "none"] = "fit"
    """``fit`` shrinks a picture into ``width`` x ``height`` and keeps its aspect ratio, ``exact`` resizes to just that
    size, ``none`` keeps the pixels. For ``crops``, a picture with a side below ``crop_size`` is then enlarged."""
    width: int = 512
    height: int = 512
    decoding: Literal["full", "scaled"] = "full"
    """``scaled`` decodes a JPEG at a half, a quarter or an eighth of its sides, if both stay at least ``SCALED_MARGIN``
    times the length that they are resized to. That is faster, and gives other pixels than ``full``."""
    crop_size: int = 224
    crops: int = 9
    zooms: tuple[float, ...] = (1.0,)
    """For ``crops``: sizes at which the resized picture is cut, as shares of its sides, largest first. The crops are
    split evenly among the sizes, odd ones go to the smaller sizes. No size is smaller than a crop."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    scale: Scale
    slope: float = 1.0
    """The raw score is ``slope`` times the output of the network plus ``intercept``: losses that only compare leave the
    output on an arbitrary scale."""
    intercept: float = 0.0
    grades: tuple[float, ...] = ()
    """Lowest score of each of ``GRADES`` but the first; empty if scores get no grade."""
    percentiles: tuple[float, ...] = ()
    """Percentiles 0, 5, .. 100 of the scores of the training photos; empty if unknown."""
    domain: Domain | None = None
    """Distribution of the training photos; pictures outside it get a warning. None if unknown."""
    defects: tuple[str, ...] = ()
    """Names of the defects that the network finds, in the order of its outputs; empty if it finds none."""
    interval: Interval | None = None
    """How the network's widths become an interval around the score; None if it gives none."""
    description: int = 0
    """How many numbers of the network describe a picture, alike for pictures that are alike; 0 if none do."""

    def __post_init__(self) -> None:
        if self.resize not in ("fit", "exact", "none"):
            raise ValueError(f"contract: unknown resize rule {self.resize!r}")
        if self.decoding not in ("full", "scaled"):
            raise ValueError(f"contract: unknown decoding {self.decoding!r}")
        if self.view not in ("crops", "tokens", "whole"):
            raise ValueError(f"contract: unknown view {self.view!r}")
        if self.kernel not in ("bicubic", "gaussian"):
            raise ValueError(f"contract: unknown kernel {self.kernel!r}")
        if self.view == "tokens":
            self._check_tokens()
        if (self.view == "whole") != bool(self.shapes) or any(min(shape) < 1 for shape in self.shapes):
            raise ValueError(f"contract: shapes are for whole pictures, and these need some, not {self.shapes}")
        if self.description < 0:
            raise ValueError(f"contract: a description has no {self.description} numbers")
        if unknown := {*self.defects} - {*DEFECTS}:
            raise ValueError(f"contract: unknown defect {min(unknown)!r}")
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
        """A short name of the contract: it changes whenever the score of a picture could."""
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
        """Decode a picture at the scale that the contract allows; otherwise like ``images.decode``.

        Raises:
            ImageError: As for ``images.decode``.
        """
        enough = self._enough if self.decoding == "scaled" else None
        return images.decode(data, limits, admit, sha256=sha256, enough=enough, closely=self._closely)

    def _closely(self, width: int, height: int) -> int:
        """Returns the most pixels that may be decoded for a close look at a picture; 0 if it gets none."""
        return CLOSE_PIXELS if self._is_large(width, height) else 0

    def _is_large(self, width: int, height: int) -> bool:
        """Whether a picture of this width and height is looked at closely, beside its whole view."""
        across, down = self.target_size(width, height)
        return self.view == "whole" and width * height > CLOSE_FROM**2 * across * down

    def _enough(self, width: int, height: int) -> tuple[int, int]:
        """Returns the smallest decode size that suffices for a given full size."""
        target = self.target_size(width, height)
        return SCALED_MARGIN * target[0], SCALED_MARGIN * target[1]

    def views(self, picture: Picture, crops: int | None = None) -> Views:
        """Cut the work items of a picture; the same picture always gives the same items.

        Args:
            picture: A picture from ``decode``.
            crops: How many crops, 1 to 64; the contract's count if None. A picture that is too small for that many
                different crops gives fewer. Tokens are always one item; of a whole picture, its whole view counts too.

        Raises:
            ValueError: ``crops`` is out of range.
        """
        count = self.crops if crops is None else crops
        if not 1 <= count <= MAX_CROPS:
            raise ValueError(f"crops must be 1 to {MAX_CROPS}, not {count}")
        pixels_HWC = np.asarray(self.resized(picture))
        return self.cut(pixels_HWC, picture.facts.size, count, self.details(picture, pixels_HWC, count))

    def details(self, picture: Picture, pixels_HWC: NDArray[np.uint8], count: int) -> Details | None:
        """Look closely at a large picture: cut squares from it at full size.

        Args:
            picture: The picture from ``decode``.
            pixels_HWC: Its pixels from ``resized``.
            count: How many crops the picture may have, its whole view among them.

        Returns:
            The squares; None if the picture is small, or too narrow for one.

        Raises:
            ImageError: The picture cannot be decoded at full size.
        """
        size, side = picture.close.size, self.crop_size
        if count < 2 or min(size) < side or not self._is_large(*picture.facts.size):
            return None
        boxes = details.choose(pixels_HWC, size, side, count - 1)
        crops = [np.asarray(image) for image in picture.close.cut(boxes)]
        wide, high = size
        places = ((left / wide, top / high, right / wide, bottom / high) for left, top, right, bottom in boxes)
        return Details(np.stack(crops), tuple(map(enlarged(picture.facts.size), places)))

    def cut(
        self, pixels_HWC: NDArray[np.uint8], original: tuple[int, int], count: int, close: Details | None = None
    ) -> Views:
        """Cut the work items of a picture that has been resized.

        Args:
            pixels_HWC: Pixels of a picture from ``resized``.
            original: Width and height of the upright picture before resizing, in pixels.
            count: How many crops, 1 to 64.
            close: What ``details`` gave for the picture.
        """
        warnings = self._warnings(*original)
        if self.domain is not None and not self.domain.holds(pixels_HWC):
            warnings = (*warnings, ImageWarning.OUT_OF_DOMAIN)
        whole = (0, 0, *original)
        if self.view == "tokens":
            from model import tokens  # imported here because it needs torch, which contracts of crops do without

            cut_TL = tokens.cut(pixels_HWC, self.longer_sides, self.kernel)
            return Views(items=cut_TL[np.newaxis], boxes=(whole,), warnings=warnings)
        if self.view == "whole":
            crops_NHWC, boxes = (None, ()) if close is None else close
            items_NHWC = pixels_HWC[np.newaxis]
            return Views(items=items_NHWC, boxes=(whole, *boxes), warnings=warnings, details=crops_NHWC)
        cut_NHWC, places = cut(pixels_HWC, self.crop_size, self.zooms, count)
        return Views(items=cut_NHWC, boxes=tuple(map(enlarged(original), places)), warnings=warnings)

    def resized(self, picture: Picture) -> Image.Image:
        """Resize a picture to ``target_size``, bilinearly with antialiasing."""
        target = self.target_size(*picture.facts.size)
        if target == picture.image.size:
            return picture.image
        return picture.image.resize(target, Image.Resampling.BILINEAR)

    def _warnings(self, width: int, height: int) -> tuple[ImageWarning, ...]:
        warnings = []
        target = self.target_size(width, height)
        enlarged = target[0] > width or target[1] > height
        if math.prod(target) > width * height if self.view == "whole" else enlarged:
            warnings.append(ImageWarning.UPSCALED_LOW_RESOLUTION)
        if max(width, height) > EXTREME_ASPECT * min(width, height):
            warnings.append(ImageWarning.EXTREME_ASPECT)
        return tuple(warnings)

    def target_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels that a picture of the given width and height is resized to."""
        if self.view == "whole":
            return min(self.shapes, key=lambda shape: abs(math.log(width * shape[1] / (height * shape[0]))))
        if self.resize == "exact":
            return self.width, self.height
        smallest = self.crop_size if self.view == "crops" else 1
        factor = min(self.width / width, self.height / height, 1.0) if self.resize == "fit" else 1.0
        # Shrinking and enlarging are combined into one factor, so that the pixels are resampled once.
        factor = max(factor, smallest / min(width, height)) if min(width, height) * factor < smallest else factor
        return max(round(width * factor), smallest), max(round(height * factor), smallest)

    def item_shapes(self) -> tuple[tuple[int, ...], ...]:
        """All shapes that a work item of this contract can have."""
        square = (self.crop_size, self.crop_size, 3)
        if self.view == "crops":
            return (square,)
        if self.view == "whole":
            return (*((height, width, 3) for width, height in self.shapes), square)
        small = token_shapes.small_length(self.longer_sides)
        most = token_shapes.full_length(token_shapes.count(self.width, self.height))
        least = most if self.resize == "exact" else 0
        return tuple(
            (small + length, token_shapes.LENGTH) for length in token_shapes.FULL_LENGTHS if least <= length <= most
        )

    @property
    def least_item_bytes(self) -> int:
        """Memory of the smallest work item, in bytes."""
        return min(map(self._item_bytes, self.item_shapes()))

    @property
    def most_item_bytes(self) -> int:
        """Memory of the largest work item, in bytes."""
        return max(map(self._item_bytes, self.item_shapes()))

    def _item_bytes(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape) * (4 if self.view == "tokens" else 1)

    def probe(self, count: int, item_shape: tuple[int, ...]) -> Items:
        """Synthetic items of one shape to test engines with: always the same, half of them smooth and half noise."""
        rng = np.random.default_rng(PROBE_SEED)
        if self.view != "tokens":
            crops_NHWC = rng.integers(0, 256, (count, *item_shape), dtype=np.uint8)
            crops_NHWC[::2] = np.sort(crops_NHWC[::2], axis=1)
            return crops_NHWC
        columns = item_shape[0] - token_shapes.small_length(self.longer_sides)
        from model import tokens

        strips = rng.integers(0, 256, (count, token_shapes.PATCH, columns * token_shapes.PATCH, 3), dtype=np.uint8)
        strips[::2] = np.sort(strips[::2], axis=2)
        return np.stack([tokens.cut(strip, self.longer_sides, self.kernel) for strip in strips])

    def columns(self, rows_ND: NDArray[np.floating[Any]]) -> Columns:
        """Split rows of an engine into what they hold, as float64."""
        values_ND = rows_ND.astype(np.float64)
        before_description = values_ND.shape[1] - self.description
        before_defects = before_description - 2 * len(self.defects)
        before_interval = before_defects - (self.interval.columns if self.interval is not None else 0)
        return Columns(
            raw_N=self.raw(values_ND[:, 0]),
            stage_weights_NS=values_ND[:, 1:before_interval],
            interval_NK=values_ND[:, before_interval:before_defects],
            probabilities_ND=values_ND[:, before_defects : before_defects + len(self.defects)],
            severities_ND=values_ND[:, before_defects + len(self.defects) : before_description],
            description_NK=values_ND[:, before_description:],
        )

    def raw(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert outputs of the network to raw scores, on the scale of the training labels."""
        return self.slope * outputs + self.intercept

    def output(self, raw: float) -> float:
        """The output of the network for a raw score."""
        return (raw - self.intercept) / self.slope

    def grade(self, score: float) -> str | None:
        """The word for a score of 0 to 100; None if the contract has no grades."""
        return GRADES[bisect.bisect_right(self.grades, score)] if self.grades else None

    def percentile(self, score: float) -> float | None:
        """Percentage of the training photos with a lower score than this one of 0 to 100; None if unknown."""
        if not self.percentiles:
            return None
        return round(float(np.interp(score, self.percentiles, range(0, 101, PERCENTILE_STEP))), 1)

    def to_dict(self) -> dict[str, Any]:
        """The contract as a JSON object, without ``LATER_FIELDS`` at their defaults."""
        description: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        for name in LATER_FIELDS:
            if getattr(self, name) == getattr(Contract, name):
                del description[name]
        if self.interval is not None and self.interval.spread == Interval.spread:
            # Added later, as those above.
            del description["interval"]["spread"]
        return description

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "Contract":
        """Make a contract from the form that ``to_dict`` gives.

        Raises:
            ValueError: Its version is unknown, or fields are missing, unknown or out of range.
        """
        fields = dict(description)
        if fields.get("version") != VERSION:
            raise ValueError(f"contract version {fields.get('version')!r} is unknown; this release knows {VERSION}")
        try:
            fields["scale"] = Scale(**fields["scale"])
            for name in ("mean", "std", "longer_sides", "zooms", "grades", "percentiles", "defects"):
                if name in fields:
                    fields[name] = tuple(fields[name])
            fields["shapes"] = tuple(map(tuple, fields.get("shapes", ())))
            if fields.get("interval") is not None:
                fields["interval"] = Interval(**{name: _frozen(value) for name, value in fields["interval"].items()})
            if "domain" in fields:
                fields["domain"] = Domain(**{name: _frozen(value) for name, value in fields["domain"].items()})
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise ValueError(f"contract: {error}") from error


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
