"""Defects that are added to photos."""

import numpy as np
import pytest

from model.defects import DEFECTS
from tests.conftest import photo
from training import defects

PIXELS = np.asarray(photo(192, 160, seed=1))


def add(name: str, severity: float, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return defects.add(PIXELS, {name: severity}, np.random.default_rng(seed))


def test_every_defect_has_a_strength() -> None:
    assert tuple(defects.STRENGTHS) == DEFECTS
    for name, (least, middle, most) in defects.STRENGTHS.items():
        assert defects.strength(name, 0) == pytest.approx(least)
        assert defects.strength(name, 0.5) == pytest.approx(middle)
        assert defects.strength(name, 1) == pytest.approx(most)
        for severity in (0.0, 0.2, 0.5, 0.9, 1.0):
            assert defects.severity(name, defects.strength(name, severity)) == pytest.approx(severity)


@pytest.mark.parametrize("name", DEFECTS)
def test_more_of_a_defect_is_farther_from_the_photo(name: str) -> None:
    def distance(severity: float) -> float:
        draws = [add(name, severity, seed).astype(float) - PIXELS for seed in range(6)]
        return float(np.mean([np.square(draw).mean() for draw in draws]))

    assert 0 < distance(0.1) < distance(0.5) < distance(1)


@pytest.mark.parametrize("name", DEFECTS)
def test_the_same_seed_adds_the_same(name: str) -> None:
    assert np.array_equal(add(name, 0.6, 3), add(name, 0.6, 3))
    assert add(name, 0.6, 3).shape == PIXELS.shape


def test_defocus_blurs_alike_in_all_directions_and_motion_does_not() -> None:
    dot = np.zeros((65, 65, 3), np.uint8)
    dot[32, 32] = 255

    def extents(name: str, seed: int) -> tuple[float, float]:
        light_HW = defects.add(dot, {name: 0.8}, np.random.default_rng(seed))[..., 0].astype(float) ** 2.2
        y, x = np.nonzero(light_HW > 0.1 * light_HW.max())
        low, high = np.sort(np.linalg.eigvalsh(np.cov(np.stack([x, y]))))
        return float(low), float(high)

    for seed in range(5):
        low, high = extents("defocus", seed)
        assert high < 1.6 * low
        low, high = extents("motion_blur", seed)
        assert high > 3 * low


def test_blur_keeps_the_light() -> None:
    for name in ("defocus", "motion_blur"):
        before, after = (one.astype(float) ** 2.2 for one in (PIXELS, add(name, 1.0)))
        assert after.mean() == pytest.approx(before.mean(), rel=0.05)


def test_exposure_is_in_stops_of_light() -> None:
    grey = np.full((8, 8, 3), 127, np.uint8)
    darker = defects.add(grey, {"underexposed": 0.5}, np.random.default_rng(0))
    quarter = defects.encode(np.full((1, 1, 3), 0.2122 / 2**2.2, "f4"))
    assert int(quarter[0, 0, 0]) == pytest.approx(int(darker[0, 0, 0]), abs=1)
    assert (defects.add(grey, {"overexposed": 1.0}, np.random.default_rng(0)) == 255).all()


def test_noise_has_its_strength_in_middle_grey() -> None:
    grey = np.full((96, 96, 3), 127, np.uint8)
    for severity in (0.25, 0.5):
        noisy = defects.add(grey, {"noise": severity}, np.random.default_rng(1)).astype(float)
        assert (noisy - 127).std() == pytest.approx(defects.strength("noise", severity), rel=0.15)


def test_mixtures_are_of_one_to_three() -> None:
    rng = np.random.default_rng(0)
    drawn = [defects.draw(rng) for _ in range(300)]
    assert {len(one) for one in drawn} == {1, 2, 3}
    assert {name for one in drawn for name in one} == set(DEFECTS)
    assert not any({"underexposed", "overexposed"} <= set(one) for one in drawn)
    assert all(0 < severity <= 1 for one in drawn for severity in one.values())
    likelier = [defects.draw(rng, {"noise": 9.0}) for _ in range(300)]
    assert sum("noise" in one for one in likelier) > 150 > 2 * sum("noise" in one for one in drawn) > 0


def test_what_is_no_defect_keeps_what_matters() -> None:
    for seed in range(4):
        sharp = defects.shallow(PIXELS, np.random.default_rng(seed)).astype(float)
        kept = (np.abs(sharp - PIXELS).max(axis=-1) <= 2).mean()
        assert 0.05 < kept < 0.9, "a part of the picture is as sharp as it was, another is not"
        dark = defects.night(PIXELS, np.random.default_rng(seed))
        assert dark.mean() < 0.8 * PIXELS.mean()
        assert dark.max() >= 200, "lights stay bright"


def test_a_cast_is_not_hidden_by_pale_colours() -> None:
    for seed in range(8):
        both = defects.add(PIXELS, {"colour_cast": 0.8, "saturation": 0.5}, np.random.default_rng(seed)).astype(float)
        alone = defects.add(PIXELS, {"colour_cast": 0.8}, np.random.default_rng(seed)).astype(float)
        assert np.ptp(both, axis=-1).mean() > np.ptp(alone, axis=-1).mean()
