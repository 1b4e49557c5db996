"""Random training crops, reproducible for any order of workers and after any interruption."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from model import images
from model.contract import Contract
from training.datasets import Sample


class RandomCrops(Dataset[tuple[Tensor, Tensor]]):
    """Random, randomly mirrored crops of resized pictures.

    What a picture gives depends on the seed, the epoch and its index alone.

    Args:
        samples: The pictures.
        contract: Gives the resize rule and the crop size.
        count: Crops per picture.
        seed: Seed of the run.
    """

    def __init__(self, samples: list[Sample], contract: Contract, *, count: int, seed: int) -> None:
        self.samples = samples
        self.contract = contract
        self.count = count
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Cut one picture: uint8 crops (count, H, W, 3) and its label repeated (count,)."""
        sample = self.samples[index]
        image, _ = self.contract.resized(images.decode(sample.path.read_bytes()).image)
        pixels_HWC = np.asarray(image)
        rng = np.random.default_rng((self.seed, self.epoch, index))
        crops_NHWC = np.stack([self._crop(pixels_HWC, rng) for _ in range(self.count)])
        return torch.from_numpy(crops_NHWC), torch.full((self.count,), sample.mos)

    def _crop(self, pixels_HWC: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        size = self.contract.crop_size
        height, width, _ = pixels_HWC.shape
        top, left = rng.integers(0, height - size + 1), rng.integers(0, width - size + 1)
        crop_HWC = pixels_HWC[top : top + size, left : left + size]
        return crop_HWC[:, ::-1] if rng.random() < 0.5 else crop_HWC
