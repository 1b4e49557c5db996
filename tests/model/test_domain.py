from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from model import domain
from model.contract import GRADES, Contract
from model.domain import Domain
from model.images import ImageWarning, from_image
from tests.conftest import photo


def grainy(seed: int, width: int = 120, height: int = 96) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A picture with shades and a little noise, as a camera makes it."""
    rng = np.random.default_rng(seed)
    smooth = photo(width, height, seed=seed).filter(ImageFilter.GaussianBlur(rng.uniform(1, 3)))
    return (np.asarray(smooth) + rng.normal(0, rng.uniform(1, 4), (height, width, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def fitted() -> Domain:
    found = domain.fit([domain.statistics(grainy(seed)) for seed in range(300)])
    assert found is not None
    return found


def test_statistics_by_hand() -> None:
    # Luma 0 and 2 by turns in a row, all rows alike.
    stripes = np.zeros((8, 10, 3), np.uint8)
    stripes[:, 1::2] = 2
    found = dict(zip(("flat", "grain", "edges", "step"), domain.statistics(stripes), strict=False))
    # Half of the steps, half of the steps, none of them, as log odds.
    assert found["flat"] == 0
    assert found["grain"] == 0
    assert found["edges"] == pytest.approx(np.log(0.003 / 1.003))
    assert found["step"] == pytest.approx(np.log((2 + 0) / 2 + 0.05))


def test_few_of_the_same_kind_are_outside_and_other_pictures_are(fitted: Domain) -> None:
    others = [grainy(seed) for seed in range(1000, 1200)]
    assert np.mean([fitted.holds(pixels) for pixels in others]) > 0.95
    drawing = Image.new("RGB", (120, 96), "white")
    ImageDraw.Draw(drawing).ellipse((20, 20, 80, 70), fill="red", outline="black")
    noise = np.random.default_rng(0).integers(0, 256, (96, 120, 3), dtype=np.uint8)
    for pixels in (np.asarray(drawing), noise, np.zeros((96, 120, 3), np.uint8)):
        assert not fitted.holds(pixels)


def test_tiny_pictures_can_be_described() -> None:
    assert np.isfinite(domain.statistics(np.zeros((1, 1, 3), np.uint8))).all()


def test_too_few_photos_say_nothing() -> None:
    assert domain.fit([domain.statistics(grainy(0))] * (domain.LEAST - 1)) is None


def test_a_contract_warns_of_pictures_unlike_the_training_photos(fitted: Domain, contract: Contract) -> None:
    strict = replace(contract, domain=fitted)
    assert strict.id != contract.id
    assert Contract.from_dict(strict.to_dict()) == strict
    flat = from_image(Image.new("RGB", (300, 300), "grey"))
    assert ImageWarning.OUT_OF_DOMAIN in strict.views(flat).warnings
    assert ImageWarning.OUT_OF_DOMAIN not in contract.views(flat).warnings
    usual = from_image(Image.fromarray(grainy(5, 300, 300)))
    assert ImageWarning.OUT_OF_DOMAIN not in replace(contract, domain=replace(fitted, limit=1e9)).views(usual).warnings


@pytest.mark.parametrize(
    "change", [{"limit": 0.0}, {"mean": (0.0,) * 11}, {"whitening": (1.0,) * 77}, {"mean": (float("nan"),) * 12}]
)
def test_broken_domains_are_refused(fitted: Domain, contract: Contract, change: dict[str, object]) -> None:
    fields = replace(contract, domain=fitted).to_dict()
    with pytest.raises(ValueError, match="domain"):
        Contract.from_dict({**fields, "domain": {**fields["domain"], **change}})


def test_grades_and_percentiles(contract: Contract) -> None:
    assert contract.grade(50) is None
    assert contract.percentile(50) is None
    graded = replace(contract, grades=(20.0, 40.0, 60.0, 80.0), percentiles=tuple(range(0, 101, 5)))
    scores = (0, 19.9999, 20, 59, 60, 100)
    assert [graded.grade(score) for score in scores] == ["bad", "bad", "poor", "fair", "good", "excellent"]
    assert {graded.grade(score) for score in range(100)} == set(GRADES)
    assert [graded.percentile(score) for score in (0, 50, 52.5, 100)] == [0, 50, 52.5, 100]
    assert Contract.from_dict(graded.to_dict()) == graded
    for grades in ((20.0, 40.0), (40.0, 20.0, 60.0, 80.0)):
        with pytest.raises(ValueError, match="grades must be 4 growing scores"):
            replace(contract, grades=grades)
    with pytest.raises(ValueError, match="percentiles must be 21 growing scores"):
        replace(contract, percentiles=(1.0, 2.0))
