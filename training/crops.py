"""Random training crops, the same for any order of decoders and after any interruption."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from model import tokens
from model.contract import SCALED_MARGIN, Contract
from model.images import Picture
from training import defects, distortions
from training.datasets import Sample
from training.recipe import Recipe

LEVELS = 5
"""Levels, in the sense of the recipe's ``degraded_margin``, of a defect of severity 1."""
DEGRADED_CHANCES = {"noise": 2.0}
"""Chances of defects in degraded crops beside 1 for each other one: noise comes in more than one form."""


class Draw(NamedTuple):
    """One visit to a picture. With the recipe's seed it decides crops, flips, colours and degradations."""

    epoch: int
    picture: int
    visit: int


class Batch(NamedTuple):
    """The tensors of a batch of P pictures.

    Its M items lie in groups of one shape. In their order they are: N labelled items of each picture; D pairs of
    degraded ones; B blanks.

    Attributes:
        items: The groups: uint8 (G, H, W, 3), or float32 tokens (G, T, 3075).
        order: For each of the M items, its place among all items of all groups.
        labels: The label of each labelled item's picture (P, N), on the scale of the data set.
        origins: For each degraded pair, the picture whose first item it was made from (D,).
        steps: Levels by which each of a pair is worse than the item before it (D, 2).
    """

    items: tuple[Tensor, ...]
    order: Tensor
    labels: Tensor
    origins: Tensor
    steps: Tensor

    @property
    def parts(self) -> tuple[int, int, int]:
        """Numbers of labelled items, of degraded ones and of blanks."""
        counts = self.labels.numel(), 2 * len(self.origins)
        return *counts, len(self.order) - sum(counts)


Item = NDArray[np.uint8] | NDArray[np.float32]


class _Visit(NamedTuple):
    """What one visit to a picture shows, as in ``Batch``."""

    items: list[Item]
    label: float
    degraded: tuple[Item, ...] = ()
    steps: tuple[float, float] = (0.0, 0.0)
    blank: tuple[Item, ...] = ()


class RandomCrops(Dataset[_Visit]):
    """Random crops of resized pictures, by ``Draw``.

    Args:
        samples: The pictures.
        contract: Gives the resize rule and the crop size.
        recipe: Gives the seed, the crops per picture and the augmentation.
    """

    def __init__(self, samples: list[Sample], contract: Contract, recipe: Recipe) -> None:
        self.samples = samples
        self.contract = contract
        self.recipe = recipe

    def steps(self, epoch: int, *, processes: int = 1) -> list[list[list[Draw]]]:
        """Draw the order of an epoch's visits: steps of accumulated batches of draws.

        Args:
            epoch: Number of the epoch.
            processes: Number of processes that share a batch; a last batch with fewer draws is left out.
        """
        recipe = self.recipe
        draws = [Draw(epoch, picture, visit) for picture in range(len(self.samples)) for visit in range(recipe.visits)]
        order = np.random.default_rng((recipe.seed, epoch)).permutation(len(draws))
        size = recipe.batch_pictures // recipe.accumulate
        batches = [[draws[place] for place in order[start : start + size]] for start in range(0, len(order), size)]
        if len(batches[-1]) < processes:
            batches.pop()
        return [batches[start : start + recipe.accumulate] for start in range(0, len(batches), recipe.accumulate)]

    def __getitem__(self, draw: Draw) -> _Visit:
        """Show one picture: its items, and by chance degraded ones and a blank."""
        sample = self.samples[draw.picture]
        rng = np.random.default_rng((self.recipe.seed, draw.epoch, draw.picture, draw.visit))
        picture = self.contract.decode(sample.path.read_bytes())
        if self.contract.view == "whole":
            return self._whole(picture, sample, rng)
        image = self._jittered(self.contract.resized(picture), rng)
        if self.contract.view == "tokens":
            image = ImageOps.mirror(image) if self.recipe.flip and rng.random() < 0.5 else image
            tokens_TL = tokens.cut(np.asarray(image), self.contract.longer_sides, self.contract.kernel)
            return _Visit([tokens_TL], self._label(sample, rng))
        crops = [self._crop(image, rng) for _ in range(self.recipe.crops_per_picture)]
        visit = _Visit([*crops], self._label(sample, rng))
        if self.recipe.degraded and rng.random() < self.recipe.degraded:
            visit = self._with_degraded(visit, crops[0], 1.0, lambda pixels_HWC: pixels_HWC, rng)
        return self._with_blank(visit, rng)

    def _whole(self, picture: Picture, sample: Sample, rng: np.random.Generator) -> _Visit:
        large, pixel = large_view(self.contract, picture)
        image = self._jittered(large, rng)
        parts = [self._part(image, rng) for _ in range(self.recipe.crops_per_picture)]
        view = partial(whole_view, self.contract)
        visit = _Visit([view(part) for part in parts], self._label(sample, rng))
        if self.recipe.degraded and rng.random() < self.recipe.degraded:
            visit = self._with_degraded(visit, np.asarray(parts[0]), pixel, view, rng)
        return self._with_blank(visit, rng)

    def _label(self, sample: Sample, rng: np.random.Generator) -> float:
        if not self.recipe.label_noise:
            return sample.mos
        scale = self.contract.scale
        return sample.mos + self.recipe.label_noise * (scale.max - scale.min) * rng.standard_normal()

    def _with_degraded(
        self,
        visit: _Visit,
        pixels_HWC: NDArray[np.uint8],
        pixel: float,
        view: Callable[[NDArray[np.uint8]], Item],
        rng: np.random.Generator,
    ) -> _Visit:
        """Add a pair of items: defects at part of their severities, and at all of it."""
        drawn = defects.draw(rng, DEGRADED_CHANCES)
        share = rng.uniform(0.2, 0.8)
        # The same noise in both, so that more of it is worse wherever it falls.
        seed = rng.integers(2**32)
        pair = []
        for part in (share, 1.0):
            severities = {name: part * severity for name, severity in drawn.items()}
            own = np.random.default_rng(seed)
            pair.append(view(defects.add(pixels_HWC, severities, own, pixel=pixel)))
        levels = LEVELS * sum(drawn.values())
        return visit._replace(degraded=tuple(pair), steps=(share * levels, (1 - share) * levels))

    def _with_blank(self, visit: _Visit, rng: np.random.Generator) -> _Visit:
        if not self.recipe.blank or rng.random() >= self.recipe.blank:
            return visit
        kind = rng.choice(get_args(distortions.Blank))
        height, width, _ = self.contract.item_shapes()[0]
        return visit._replace(blank=(distortions.blank(height, width, kind, rng),))

    def _part(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Most of a picture, perhaps mirrored: each side shortened to one of the contract's zooms at least."""
        least = self.contract.zooms[-1]
        width, height = (round(side * rng.uniform(least, 1.0)) if least < 1 else side for side in image.size)
        left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
        part = image.crop((left, top, left + width, top + height))
        return ImageOps.mirror(part) if self.recipe.flip and rng.random() < 0.5 else part

    def _crop(self, image: Image.Image, rng: np.random.Generator) -> NDArray[np.uint8]:
        size = self.contract.crop_size
        # Side of the square that is cut out: the crop's, or larger and then shrunk to the crop's.
        window = min(round(size / self._zoom(rng)), *image.size)
        top, left = int(rng.integers(image.height - window + 1)), int(rng.integers(image.width - window + 1))
        cut = image.crop((left, top, left + window, top + window))
        crop_HWC = np.asarray(cut if window == size else cut.resize((size, size), Image.Resampling.BILINEAR))
        crop_HWC = crop_HWC[:, ::-1] if self.recipe.flip and rng.random() < 0.5 else crop_HWC
        return crop_HWC[::-1] if self.recipe.vertical_flip and rng.random() < 0.5 else crop_HWC

    def _zoom(self, rng: np.random.Generator) -> float:
        largest, smallest = self.contract.zooms[0], self.contract.zooms[-1]
        return largest if largest == smallest else float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))

    def _jittered(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        if self.recipe.color_jitter:
            for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                image = kind(image).enhance(1 + self.recipe.color_jitter * rng.uniform(-1, 1))
        return image


def large_view(contract: Contract, picture: Picture) -> tuple[Image.Image, float]:
    """A picture of a contract of whole views, large enough to add defects to.

    Returns:
        The picture at no more than the size that scaled decoding keeps, and how many of its pixels are as long as one
        of the whole view.
    """
    target = contract.target_size(*picture.facts.size)
    image = picture.image
    most = tuple(min(SCALED_MARGIN * one, own) for one, own in zip(target, image.size, strict=True))
    large = image if most == image.size else image.resize((most[0], most[1]), Image.Resampling.BILINEAR)
    return large, math.sqrt(math.prod(large.size) / math.prod(target))


def whole_view(contract: Contract, pixels: Image.Image | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The whole view of a picture of any size, (H, W, 3)."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    return np.array(image.resize(contract.target_size(*image.size), Image.Resampling.BILINEAR))


def collate(visits: Sequence[_Visit]) -> Batch:
    """Stack visits into a batch; shorter sequences of tokens are padded with zeros."""
    shown = [
        *(one for visit in visits for one in visit.items),
        *(one for visit in visits for one in visit.degraded),
        *(one for visit in visits for one in visit.blank),
    ]
    items = [torch.from_numpy(np.array(one)) for one in shown]
    if items[0].ndim == 2:
        longest = max(len(one) for one in items)
        items = [F.pad(one, (0, 0, 0, longest - len(one))) for one in items]
    groups: dict[torch.Size, list[int]] = {}
    for place, one in enumerate(items):
        groups.setdefault(one.shape, []).append(place)
    grouped = torch.tensor([place for places in groups.values() for place in places])
    origins = [place for place, visit in enumerate(visits) if visit.degraded]
    return Batch(
        items=tuple(torch.stack([items[place] for place in places]) for places in groups.values()),
        order=grouped.argsort(),
        labels=torch.tensor([[visit.label] * len(visit.items) for visit in visits]),
        origins=torch.tensor(origins, dtype=torch.int64),
        steps=torch.tensor([visits[place].steps for place in origins]).reshape(-1, 2),
    )
