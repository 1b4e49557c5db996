"""Random training crops, the same for any order of decoders and after any interruption."""

import math
from collections.abc import Callable, Mapping, Sequence
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
from model.defects import DEFECTS
from model.images import Picture
from training import defects, distortions
from training.datasets import Sample
from training.recipe import Recipe

GOOD_FROM, BEST_FROM = 0.6, 0.8
"""Shares of the pictures below the good and the best ones. Good photos with defects added are taken to have no others,
the best ones untouched to have none."""
HARMLESS = 0.12
"""Share of the pairs that show what is no defect: a sharp subject before a blurred background, lights at night."""
LEVELS = 5
"""Levels, in the sense of the recipe's ``degraded_margin``, of a defect of severity 1."""


class Draw(NamedTuple):
    """One visit to a picture. With the recipe's seed it decides crops, flips, colours and degradations."""

    epoch: int
    picture: int
    visit: int


class Batch(NamedTuple):
    """The tensors of a batch of P pictures.

    Its M items lie in groups of one shape. In their order they are: N labelled items of each picture; D pairs of
    degraded ones; C close looks; B blanks.

    Attributes:
        items: The groups: uint8 (G, H, W, 3), or float32 tokens (G, T, 3075).
        order: For each of the M items, its place among all items of all groups.
        labels: The label of each labelled item's picture (P, N), on the scale of the data set.
        kinds: The kind of each picture (P,): the number of its source among those of the data set, by name.
        origins: For each degraded pair, the picture whose first item it was made from (D,).
        steps: Levels by which each of a pair is worse than the item before it (D, 2).
        close_labels: The label of each close look at an untouched picture (C,); NaN for those of degraded ones.
        severities: Severities of the defects in each item (M, len(DEFECTS)); NaN where they are not known.
    """

    items: tuple[Tensor, ...]
    order: Tensor
    labels: Tensor
    kinds: Tensor
    origins: Tensor
    steps: Tensor
    close_labels: Tensor
    severities: Tensor

    @property
    def parts(self) -> tuple[int, int, int, int]:
        """Numbers of labelled items, of degraded ones, of close looks and of blanks."""
        counts = self.labels.numel(), 2 * len(self.origins), len(self.close_labels)
        return *counts, len(self.order) - sum(counts)


Item = NDArray[np.uint8] | NDArray[np.float32]
_UNKNOWN = np.full(len(DEFECTS), np.nan, np.float32)


class _Shown(NamedTuple):
    """An item, and the severities of the defects in it; NaN where they are not known."""

    item: Item
    severities: NDArray[np.float32] = _UNKNOWN


class _Visit(NamedTuple):
    """What one visit to a picture shows, as in ``Batch``."""

    items: list[_Shown]
    label: float
    kind: int
    degraded: tuple[_Shown, ...] = ()
    steps: tuple[float, float] = (0.0, 0.0)
    close: tuple[_Shown, ...] = ()
    close_label: float = math.nan
    blank: tuple[_Shown, ...] = ()


class RandomCrops(Dataset[_Visit]):
    """Random crops of resized pictures, by ``Draw``.

    Args:
        samples: The pictures.
        contract: Gives the resize rule and the crop size.
        recipe: Gives the seed, the crops per picture and the augmentation.

    Attributes:
        sources: The sources of the pictures, in the order of ``Batch.kinds``.
    """

    def __init__(self, samples: list[Sample], contract: Contract, recipe: Recipe) -> None:
        self.samples = samples
        self.contract = contract
        self.recipe = recipe
        self.sources = sorted({sample.source for sample in samples})
        self._kinds = {source: number for number, source in enumerate(self.sources)}
        labels = [sample.mos for sample in samples]
        self._good, self._best = (float(np.quantile(labels, share)) for share in (GOOD_FROM, BEST_FROM))

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
        """Show one picture: its items, and by chance degraded ones, a close look, a blank."""
        sample = self.samples[draw.picture]
        rng = np.random.default_rng((self.recipe.seed, draw.epoch, draw.picture, draw.visit))
        picture = self.contract.decode(sample.path.read_bytes())
        if self.contract.view == "whole":
            return self._whole(picture, sample, rng)
        image = self._jittered(self.contract.resized(picture), rng)
        if self.contract.view == "tokens":
            image = ImageOps.mirror(image) if self.recipe.flip and rng.random() < 0.5 else image
            tokens_TL = tokens.cut(np.asarray(image), self.contract.longer_sides, self.contract.kernel)
            return self._visit([_Shown(tokens_TL)], sample, rng)
        first_HWC, *others = (self._crop(image, rng) for _ in range(self.recipe.crops_per_picture))
        visit = self._visit([_Shown(first_HWC), *map(_Shown, others)], sample, rng)
        if self.recipe.degraded and rng.random() < self.recipe.degraded:
            visit = self._with_degraded(visit, first_HWC, lambda pixels_HWC: pixels_HWC, sample, rng)
        return self._with_blank(visit, rng)

    def _whole(self, picture: Picture, sample: Sample, rng: np.random.Generator) -> _Visit:
        recipe = self.recipe
        image = self._jittered(self._large_view(picture), rng)
        known = np.where(sample.mos >= self._best, np.float32(0), _UNKNOWN)
        parts = [self._part(image, rng) for _ in range(recipe.crops_per_picture)]
        visit = self._visit([_Shown(self._view(part), known) for part in parts], sample, rng)
        if recipe.degraded and rng.random() < recipe.degraded:
            visit = self._with_degraded(visit, np.asarray(parts[0]), self._view, sample, rng)
        if recipe.close and rng.random() < recipe.close:
            pixels_HWC = self._close(picture, rng)
            if rng.random() < 0.5:
                visit = visit._replace(close=(_Shown(pixels_HWC, known),), close_label=visit.label)
            else:
                drawn = defects.draw(rng)
                shown = _Shown(defects.add(pixels_HWC, drawn, rng), self._severities(drawn, sample))
                visit = visit._replace(close=(shown,))
        return self._with_blank(visit, rng)

    def _visit(self, items: list[_Shown], sample: Sample, rng: np.random.Generator) -> _Visit:
        return _Visit(items, self._label(sample, rng), self._kinds[sample.source])

    def _label(self, sample: Sample, rng: np.random.Generator) -> float:
        if not self.recipe.label_noise:
            return sample.mos
        scale = self.contract.scale
        return sample.mos + self.recipe.label_noise * (scale.max - scale.min) * rng.standard_normal()

    def _with_degraded(
        self,
        visit: _Visit,
        pixels_HWC: NDArray[np.uint8],
        view: Callable[[NDArray[np.uint8]], Item],
        sample: Sample,
        rng: np.random.Generator,
    ) -> _Visit:
        """Add a pair of items: defects at part of their severities, and at all of it."""
        harmless = rng.random() < HARMLESS
        drawn = {} if harmless else defects.draw(rng)
        if harmless:
            make = defects.shallow if rng.random() < 0.7 else defects.night
            pixels_HWC = make(pixels_HWC, rng)
        share = rng.uniform(0.2, 0.8)
        # The same noise in both, so that more of it is worse wherever it falls.
        seed = rng.integers(2**32)
        shown = []
        for part in (share, 1.0):
            severities = {name: part * severity for name, severity in drawn.items()}
            degraded_HWC = defects.add(pixels_HWC, severities, np.random.default_rng(seed))
            shown.append(_Shown(view(degraded_HWC), self._severities(severities, sample)))
        levels = LEVELS * sum(drawn.values())
        return visit._replace(degraded=tuple(shown), steps=(share * levels, (1 - share) * levels))

    def _with_blank(self, visit: _Visit, rng: np.random.Generator) -> _Visit:
        if not self.recipe.blank or rng.random() >= self.recipe.blank:
            return visit
        kind = rng.choice(get_args(distortions.Blank))
        height, width, _ = self.contract.item_shapes()[0]
        return visit._replace(blank=(_Shown(distortions.blank(height, width, kind, rng)),))

    def _severities(self, drawn: Mapping[str, float], sample: Sample) -> NDArray[np.float32]:
        """What is known of the defects of a picture that some were added to."""
        known = np.where(sample.mos >= self._good, np.float32(0), _UNKNOWN)
        for name, severity in drawn.items():
            known[DEFECTS.index(name)] = severity
        return known

    def _large_view(self, picture: Picture) -> Image.Image:
        """The picture at no more than the size that scaled decoding keeps: large enough to degrade."""
        target = self.contract.target_size(*picture.facts.size)
        most = tuple(min(SCALED_MARGIN * one, own) for one, own in zip(target, picture.image.size, strict=True))
        image = picture.image
        return image if most == image.size else image.resize((most[0], most[1]), Image.Resampling.BILINEAR)

    def _part(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Most of a picture, perhaps mirrored: each side shortened to one of the contract's zooms at least."""
        least = self.contract.zooms[-1]
        width, height = (round(side * rng.uniform(least, 1.0)) if least < 1 else side for side in image.size)
        left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
        part = image.crop((left, top, left + width, top + height))
        return ImageOps.mirror(part) if self.recipe.flip and rng.random() < 0.5 else part

    def _view(self, pixels: Image.Image | NDArray[np.uint8]) -> NDArray[np.uint8]:
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        target = self.contract.target_size(*image.size)
        return np.asarray(image.resize(target, Image.Resampling.BILINEAR))

    def _close(self, picture: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A square of the picture at full size; enlarged where the picture is smaller."""
        size, (width, height) = self.contract.crop_size, picture.close.size
        side = min(size, width, height)
        left, top = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
        (image,) = picture.close.cut([(left, top, left + side, top + side)])
        image = ImageOps.mirror(image) if self.recipe.flip and rng.random() < 0.5 else image
        return np.asarray(image if side == size else image.resize((size, size), Image.Resampling.BILINEAR))

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


def collate(visits: Sequence[_Visit]) -> Batch:
    """Stack visits into a batch; shorter sequences of tokens are padded with zeros."""
    shown = [
        *(one for visit in visits for one in visit.items),
        *(one for visit in visits for one in visit.degraded),
        *(one for visit in visits for one in visit.close),
        *(one for visit in visits for one in visit.blank),
    ]
    items = [torch.from_numpy(np.array(one.item)) for one in shown]
    if items[0].ndim == 2:
        longest = max(len(one) for one in items)
        items = [F.pad(one, (0, 0, 0, longest - len(one))) for one in items]
    groups: dict[torch.Size, list[int]] = {}
    for place, one in enumerate(items):
        groups.setdefault(one.shape, []).append(place)
    grouped = torch.tensor([place for places in groups.values() for place in places])
    closely = [visit for visit in visits if visit.close]
    origins = [place for place, visit in enumerate(visits) if visit.degraded]
    return Batch(
        items=tuple(torch.stack([items[place] for place in places]) for places in groups.values()),
        order=grouped.argsort(),
        labels=torch.tensor([[visit.label] * len(visit.items) for visit in visits]),
        kinds=torch.tensor([visit.kind for visit in visits]),
        origins=torch.tensor(origins, dtype=torch.int64),
        steps=torch.tensor([visits[place].steps for place in origins]).reshape(-1, 2),
        close_labels=torch.tensor([visit.close_label for visit in closely]),
        severities=torch.from_numpy(np.stack([one.severities for one in shown])),
    )
