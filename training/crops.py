"""Random training crops, reproducible for any order of workers and after any interruption."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from model import tokens
from model.contract import Contract
from training.datasets import Sample
from training.recipe import Recipe


class Draw(NamedTuple):
    """One visit to a picture; with the recipe's seed it decides what the picture gives."""

    epoch: int
    picture: int
    visit: int


class RandomCrops(Dataset[tuple[Tensor, Tensor]]):
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
        """The epoch's pictures in random order: steps of accumulated batches of draws.

        Args:
            epoch: Its number.
            processes: Batches are at least so large; fewer draws at the end of the epoch are left out.
        """
        recipe = self.recipe
        draws = [Draw(epoch, picture, visit) for picture in range(len(self.samples)) for visit in range(recipe.visits)]
        order = np.random.default_rng((recipe.seed, epoch)).permutation(len(draws))
        size = recipe.batch_pictures // recipe.accumulate
        batches = [[draws[place] for place in order[start : start + size]] for start in range(0, len(order), size)]
        if len(batches[-1]) < processes:
            batches.pop()
        return [batches[start : start + recipe.accumulate] for start in range(0, len(batches), recipe.accumulate)]

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """Cut one picture: uint8 crops (count, H, W, 3), or tokens (1, T, 3075); and its label repeated (count,)."""
        sample = self.samples[draw.picture]
        image = self.contract.resized(self.contract.decode(sample.path.read_bytes()))
        rng = np.random.default_rng((self.recipe.seed, draw.epoch, draw.picture, draw.visit))
        image = self._jittered(image, rng)
        if self.contract.view == "tokens":
            image = ImageOps.mirror(image) if self.recipe.flip and rng.random() < 0.5 else image
            tokens_TL = tokens.cut(np.asarray(image), self.contract.longer_sides, self.contract.kernel)
            return torch.from_numpy(tokens_TL).unsqueeze(0), torch.full((1,), sample.mos)
        pixels_HWC = np.asarray(image)
        crops_NHWC = np.stack([self._crop(pixels_HWC, rng) for _ in range(self.recipe.crops_per_picture)])
        return torch.from_numpy(crops_NHWC), torch.full((len(crops_NHWC),), sample.mos)

    def _crop(self, pixels_HWC: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        size = self.contract.crop_size
        height, width, _ = pixels_HWC.shape
        top, left = rng.integers(0, height - size + 1), rng.integers(0, width - size + 1)
        crop_HWC = pixels_HWC[top : top + size, left : left + size]
        crop_HWC = crop_HWC[:, ::-1] if self.recipe.flip and rng.random() < 0.5 else crop_HWC
        return crop_HWC[::-1] if self.recipe.vertical_flip and rng.random() < 0.5 else crop_HWC

    def _jittered(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        if self.recipe.color_jitter:
            for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                image = kind(image).enhance(1 + self.recipe.color_jitter * rng.uniform(-1, 1))
        return image


def collate(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Stack what pictures gave: items (P, N, ...) and labels (P, N); shorter sequences of tokens get padding."""
    longest = max(items.shape[1] for items, _ in samples)
    if samples[0][0].ndim == 3:
        samples = [(F.pad(items, (0, 0, 0, longest - items.shape[1])), labels) for items, labels in samples]
    items, labels = default_collate(samples)
    return items, labels
