"""Random training crops, the same for any order of decoders and after any interruption."""

from collections.abc import Sequence
from typing import NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from model import tokens
from model.contract import Contract
from training import distortions
from training.datasets import Sample
from training.recipe import Recipe


class Draw(NamedTuple):
    """One visit to a picture. With the recipe's seed it decides crops, flips, colours and degradations."""

    epoch: int
    picture: int
    visit: int


class Batch(NamedTuple):
    """The tensors of a batch of P pictures.

    Attributes:
        items: N of each picture (P, N, ...): uint8 crops (..., H, W, 3), or float32 tokens (..., T, 3075).
        labels: The label of each item's picture (P, N), on the scale of the data set.
        degraded: The first crop of some pictures, degraded and degraded more (D, 2, H, W, 3).
        origins: Numbers of those pictures in the batch (D,).
        steps: Levels by which each of ``degraded`` is worse than the crop before it (D, 2).
        blanks: Blank crops (B, H, W, 3).
    """

    items: Tensor
    labels: Tensor
    degraded: Tensor
    origins: Tensor
    steps: Tensor
    blanks: Tensor


class _Visit(NamedTuple):
    """The tensors of one visit to a picture, as in ``Batch``."""

    items: Tensor
    label: float
    degraded: Tensor | None = None
    steps: tuple[float, float] = (0.0, 0.0)
    blank: Tensor | None = None


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
        """Cut one picture: uint8 crops (count, H, W, 3), or tokens (1, T, 3075)."""
        sample = self.samples[draw.picture]
        image = self.contract.resized(self.contract.decode(sample.path.read_bytes()))
        rng = np.random.default_rng((self.recipe.seed, draw.epoch, draw.picture, draw.visit))
        image = self._jittered(image, rng)
        if self.contract.view == "tokens":
            image = ImageOps.mirror(image) if self.recipe.flip and rng.random() < 0.5 else image
            tokens_TL = tokens.cut(np.asarray(image), self.contract.longer_sides, self.contract.kernel)
            return _Visit(torch.from_numpy(tokens_TL).unsqueeze(0), self._label(sample, rng))
        crops_NHWC = np.stack([self._crop(image, rng) for _ in range(self.recipe.crops_per_picture)])
        visit = _Visit(torch.from_numpy(crops_NHWC), self._label(sample, rng))
        if self.recipe.degraded and rng.random() < self.recipe.degraded:
            degraded, steps = self._degraded(crops_NHWC[0], rng)
            visit = visit._replace(degraded=torch.from_numpy(degraded), steps=steps)
        if self.recipe.blank and rng.random() < self.recipe.blank:
            kind = rng.choice(get_args(distortions.Blank))
            size = self.contract.crop_size
            visit = visit._replace(blank=torch.from_numpy(distortions.blank(size, size, kind, rng)))
        return visit

    def _label(self, sample: Sample, rng: np.random.Generator) -> float:
        if not self.recipe.label_noise:
            return sample.mos
        scale = self.contract.scale
        return sample.mos + self.recipe.label_noise * (scale.max - scale.min) * rng.standard_normal()

    def _degraded(
        self, crop_HWC: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], tuple[float, float]]:
        kind = rng.choice(distortions.DRAWN)
        weak, strong = sorted(rng.uniform(1, distortions.STRONGEST, 2))
        # The same noise in both, so that more of it is worse wherever it falls.
        seed = rng.integers(2**32)
        pair = [distortions.degrade(crop_HWC, kind, level, np.random.default_rng(seed)) for level in (weak, strong)]
        return np.stack(pair), (weak, strong - weak)

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
    longest = max(visit.items.shape[1] for visit in visits)
    items = [visit.items for visit in visits]
    if items[0].ndim == 3:
        items = [F.pad(one, (0, 0, 0, longest - one.shape[1])) for one in items]
    items_PN = torch.stack(items)
    _, count, *shape = items_PN.shape
    origins = [place for place, visit in enumerate(visits) if visit.degraded is not None]
    blanks = [visit.blank for visit in visits if visit.blank is not None]
    degraded = [visit.degraded for visit in visits if visit.degraded is not None]
    return Batch(
        items=items_PN,
        labels=torch.tensor([[visit.label] * count for visit in visits]),
        degraded=torch.stack(degraded) if degraded else items_PN.new_empty((0, 2, *shape)),
        origins=torch.tensor(origins, dtype=torch.int64),
        steps=torch.tensor([visits[place].steps for place in origins]).reshape(-1, 2),
        blanks=torch.stack(blanks) if blanks else items_PN.new_empty((0, *shape)),
    )
