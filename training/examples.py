"""What the head for defects learns from: photos with defects added, and photos with none, as the network sees them."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps
from torch.utils.data import Dataset

from model import details
from model.contract import Contract
from model.defects import DEFECTS
from training import defects
from training.crops import large_view, whole_view
from training.datasets import Sample

GOOD, BEST = 0.4, 0.2
"""Shares of the photos, by their labels: defects are added to good ones, and the best ones untouched have none."""
UNTOUCHED, HARMLESS = 0.12, 0.08
"""Shares of the examples without defects: untouched photos, and such as look as if they had one."""
CLOSE = 0.45
"""Share of the examples that are close looks at a photo."""
CLOSE_PIXEL = 0.6
"""Length of blur in a close look beside that of the same severity in a whole view: its pixels are looked at singly."""
CLOSE_CHANCES = {"defocus": 4.0, "noise": 2.0}
"""Chances of defects in a close look beside 1 for each other one: what large photos hide most is missed focus."""
CLOSE_CHOICES = 2
"""A close look is one of so many squares, the most telling ones."""


Kind = Literal["untouched", "harmless", "defects"]


class _Plan(NamedTuple):
    sample: Sample
    kind: Kind
    severities: Mapping[str, float]
    closely: bool
    seed: int


class Examples(Dataset[NDArray[np.uint8]]):
    """Examples by number, the same for any order of decoders.

    Args:
        samples: Photos whose labels can be compared with each other.
        contract: The contract of whole views that they are seen by.
        count: How many examples.
        seed: Seed of all draws.

    Attributes:
        severities_ND: Severity of each of ``DEFECTS`` in each example, 0 for those that it has not, fp32.
        photos: The name of the photo that each is made of.
    """

    def __init__(self, samples: Sequence[Sample], contract: Contract, count: int, seed: int) -> None:
        falling = sorted(samples, key=lambda sample: -sample.mos)
        good, best = (falling[: max(round(share * len(falling)), 1)] for share in (GOOD, BEST))
        rng = np.random.default_rng(seed)
        self._plans = []
        for _ in range(count):
            chance, closely = rng.random(), bool(rng.random() < CLOSE)
            kind: Kind = (
                "untouched" if chance < UNTOUCHED else "harmless" if chance < UNTOUCHED + HARMLESS else "defects"
            )
            photos = best if kind == "untouched" else good
            sample = photos[rng.integers(len(photos))]
            severities = defects.draw(rng, CLOSE_CHANCES if closely else None) if kind == "defects" else {}
            self._plans.append(_Plan(sample, kind, severities, closely, int(rng.integers(2**32))))
        rows = [[plan.severities.get(name, 0) for name in DEFECTS] for plan in self._plans]
        self.severities_ND = np.array(rows, np.float32)
        self.photos = [plan.sample.name for plan in self._plans]
        self._contract = contract

    def __len__(self) -> int:
        return len(self._plans)

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        """Make an example: a work item, (H, W, 3)."""
        plan = self._plans[number]
        rng = np.random.default_rng(plan.seed)
        image, pixel = large_view(self._contract, self._contract.decode(plan.sample.path.read_bytes()))
        image = ImageOps.mirror(image) if rng.random() < 0.5 else image
        closely = plan.closely and min(image.size) >= self._contract.crop_size
        pixels_HWC = defects.at_full_size(image, rng) if closely else np.asarray(image)
        if plan.kind == "harmless":
            pixels_HWC = (defects.shallow if rng.random() < 0.7 else defects.night)(pixels_HWC, rng)
        pixels_HWC = defects.add(pixels_HWC, plan.severities, rng, pixel=CLOSE_PIXEL if closely else pixel)
        view_HWC = whole_view(self._contract, pixels_HWC)
        if not closely:
            return view_HWC
        height, width, _ = pixels_HWC.shape
        boxes = details.choose(view_HWC, (width, height), self._contract.crop_size, CLOSE_CHOICES)
        left, top, right, bottom = boxes[rng.integers(len(boxes))]
        return np.ascontiguousarray(pixels_HWC[top:bottom, left:right])
