from typing import get_args

import numpy as np
import pytest
from PIL import ImageFilter

from tests.conftest import photo
from training import distortions
from training.distortions import Blank, Kind

PIXELS = np.asarray(photo(256, 192).filter(ImageFilter.GaussianBlur(1)))


def damage(kind: Kind, level: float, seed: int = 3) -> float:
    degraded = distortions.degrade(PIXELS, kind, level, np.random.default_rng(seed))
    assert degraded.shape == PIXELS.shape
    assert degraded.dtype == np.uint8
    return float(np.square(degraded.astype(float) - PIXELS).mean())


@pytest.mark.parametrize("kind", get_args(Kind))
def test_damage_grows_with_the_level(kind: Kind) -> None:
    at_levels = [damage(kind, level) for level in range(1, 6)]
    assert at_levels[0] > 0
    assert at_levels == sorted(set(at_levels))
    assert at_levels[1] <= damage(kind, 2.5) <= at_levels[2]


@pytest.mark.parametrize("kind", ["motion blur", "white noise", "salt-and-pepper noise"])
def test_chance_is_the_generators_alone(kind: Kind) -> None:
    assert damage(kind, 3) == damage(kind, 3)
    assert damage(kind, 3) != damage(kind, 3, seed=4)


def test_exposure_changes_light_by_stops() -> None:
    grey = np.full((2, 2, 3), 188, np.uint8)  # half of the light that white gives
    brighter = distortions.degrade(grey, "overexposure", 1, np.random.default_rng(0))
    assert brighter[0, 0, 0] == round(255 * (1.055 * (0.5029 * 2**0.7) ** (1 / 2.4) - 0.055))
    assert (distortions.degrade(grey, "overexposure", 3, np.random.default_rng(0)) == 255).all()
    assert (distortions.degrade(grey * 0, "underexposure", 3, np.random.default_rng(0)) == 0).all()


@pytest.mark.parametrize("kind", get_args(Blank))
def test_blank_pictures(kind: Blank) -> None:
    pixels = distortions.blank(40, 60, kind, np.random.default_rng(1))
    assert pixels.shape == (40, 60, 3)
    assert pixels.dtype == np.uint8
    colours = len(np.unique(pixels.reshape(-1, 3), axis=0))
    assert (colours == 1) == (kind in ("flat", "black", "white"))
    if kind == "grey noise":
        assert (pixels[..., 0] == pixels[..., 2]).all()
