"""What the default checkpoint answers: defects that are there, none that are not, and intervals."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.defects import DEFECTS
from model.scorer import Scorer
from tests.conftest import ROOT
from training import defects

EXAMPLES = sorted((ROOT / "examples").glob("*.jpg"))
FLAGGED = 0.5


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer.load(ROOT / "checkpoints" / "default", precision="fp32")


@pytest.fixture(scope="module")
def photos() -> list[NDArray[np.uint8]]:
    return [np.asarray(Image.open(file).convert("RGB")) for file in EXAMPLES]


@pytest.fixture(scope="module")
def sheet(photos: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """A picture of 12 megapixels with detail in its pixels: photos side by side, shrunk by a half."""
    tiles = [np.asarray(Image.fromarray(photo).resize((250, 250), Image.Resampling.LANCZOS)) for photo in photos]
    return np.concatenate(
        [np.concatenate([tiles[(row + column) % len(tiles)] for column in range(16)], axis=1) for row in range(12)]
    )


def severities(scorer: Scorer, picture: NDArray[np.uint8] | bytes) -> dict[str, float]:
    return {name: defect.severity for name, defect in scorer.score(picture).defects.items()}


def test_good_photos_have_no_defects(scorer: Scorer, photos: list[NDArray[np.uint8]]) -> None:
    for file, photo in zip(EXAMPLES, photos, strict=True):
        assert max(severities(scorer, photo).values()) < FLAGGED, file


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found_and_named(scorer: Scorer, photos: list[NDArray[np.uint8]], name: str) -> None:
    named = found = 0
    for place, photo in enumerate(photos):
        added = defects.add(photo, {name: 0.8}, np.random.default_rng(place), pixel=max(photo.shape[:2]) / 400)
        measured = severities(scorer, added)
        found += measured[name] >= FLAGGED
        named += max(measured, key=lambda one: measured[one]) == name
    # A night that is brightened is hardly overexposed.
    assert named >= 3
    assert found >= 2


def test_a_blurred_background_and_a_night_are_no_defects(scorer: Scorer, photos: list[NDArray[np.uint8]]) -> None:
    *days, night = photos
    for seed in range(3):
        for photo in photos:
            assert severities(scorer, defects.shallow(photo, np.random.default_rng(seed)))["defocus"] < 0.2
        for photo in days:
            assert severities(scorer, defects.night(photo, np.random.default_rng(seed)))["underexposed"] < FLAGGED
    assert severities(scorer, night)["underexposed"] < FLAGGED


@pytest.mark.parametrize(("name", "strength"), [("defocus", 2.0), ("noise", 20.0)])
def test_what_large_photos_hide_is_found(scorer: Scorer, sheet: NDArray[np.uint8], name: str, strength: float) -> None:
    assert sheet.shape == (3000, 4000, 3)
    # These draw noise of a sensor, not single wrong pixels.
    spoilt = defects.add(sheet, {name: defects.severity(name, strength)}, np.random.default_rng(1))
    untouched, found = (scorer.score(jpeg(pixels)) for pixels in (sheet, spoilt))
    assert untouched.defects[name].severity < FLAGGED
    assert found.defects[name].severity >= FLAGGED
    assert found.defects[name].close
    assert abs(found.score - untouched.score) < 5, "shrunk, it is hardly seen"


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92)
    return file.getvalue()


def test_intervals_hold_the_score_and_are_wider_for_what_is_no_photo(
    scorer: Scorer, photos: list[NDArray[np.uint8]]
) -> None:
    widths = []
    for picture in (*photos, np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)):
        score = scorer.score(picture)
        assert score.interval is not None
        assert score.interval.low <= score.score <= score.interval.high
        widths.append(score.interval.high - score.interval.low)
    *usual, noise = widths
    assert noise > max(usual)
