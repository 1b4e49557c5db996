"""Whole pictures with close looks, through decoding, contract, engine and scorer."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from model import checkpoint
from model.contract import CLOSE_PIXELS, Contract
from model.defects import DEFECTS, LOCAL_DEFECTS
from model.images import decode, from_image
from model.maps.activations import stage_activations
from model.scorer import Scorer
from tests import heif
from tests.conftest import WHOLE, encode, photo


@pytest.fixture(scope="module")
def scorer(whole_folder: Path) -> Scorer:
    return Scorer.load(whole_folder, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def whole(contract: Contract) -> Contract:
    return replace(contract, **WHOLE)


@pytest.mark.parametrize(
    ("size", "shape"),
    [((500, 500), (256, 256)), ((900, 600), (320, 192)), ((400, 1000), (192, 320)), ((300, 330), (256, 256))],
)
def test_the_nearest_shape_is_taken(size: tuple[int, int], shape: tuple[int, int], whole: Contract) -> None:
    views = whole.views(from_image(photo(*size)))
    assert views.items.shape == (1, *shape[::-1], 3)
    assert views.boxes[0] == (0, 0, *size)
    assert whole.id.startswith("whole-v1-")
    assert Contract.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole


def test_only_large_pictures_are_looked_at_closely(whole: Contract) -> None:
    assert whole.views(from_image(photo(380, 380))).details is None
    views = whole.views(from_image(photo(800, 800)))
    assert views.details is not None
    assert views.details.shape == (2, 128, 128, 3)
    assert len(views.boxes) == 3
    assert whole.views(from_image(photo(800, 800)), 1).details is None
    # A strip is too narrow for a square.
    assert whole.views(from_image(photo(1500, 100))).details is None


def test_squares_are_the_pictures_own_pixels(whole: Contract) -> None:
    picture = from_image(photo(1000, 700, seed=3))
    views = whole.views(picture, 5)
    assert views.details is not None
    for (left, top, right, bottom), crop_HWC in zip(views.boxes[1:], views.details, strict=True):
        assert np.array_equal(np.asarray(picture.image)[top:bottom, left:right], crop_HWC)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_squares_of_a_turned_jpeg_are_upright(orientation: int, whole: Contract) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo(2400, 1600, seed=5), quality=95, exif=exif)
    picture = whole.decode(data)
    assert picture.image.size[0] < picture.facts.width, "decoded at a smaller scale"
    full_HWC = np.asarray(decode(data).image)
    assert picture.close.size == picture.facts.size == full_HWC.shape[1::-1]
    views = whole.views(picture)
    assert views.details is not None
    for (left, top, right, bottom), crop_HWC in zip(views.boxes[1:], views.details, strict=True):
        assert np.array_equal(full_HWC[top:bottom, left:right], crop_HWC)


@pytest.mark.parametrize("encoding", [(), (heif.nclx(1, 8),)])
def test_squares_of_a_heic_are_its_own_pixels(encoding: tuple[bytes, ...], whole: Contract) -> None:
    """Also of one of ten bits in linear light."""
    data = heif.single(list(encoding), source=heif.plain("deep"))
    whole = replace(whole, shapes=((16, 16),), crop_size=16)
    picture = whole.decode(data)
    full_HWC = np.asarray(decode(data).image)
    assert picture.close.size == full_HWC.shape[1::-1]
    (crop,) = picture.close.cut([(8, 4, 24, 20)])
    assert np.array_equal(np.asarray(crop), full_HWC[4:20, 8:24])


def test_colours_of_squares_are_converted(whole: Contract) -> None:
    data = encode(photo(2400, 1600, seed=6).convert("CMYK"), quality=95)
    picture = whole.decode(data)
    full_HWC = np.asarray(decode(data).image)
    (crop,) = picture.close.cut([(100, 200, 228, 328)])
    assert np.array_equal(np.asarray(crop), full_HWC[200:328, 100:228])


def test_huge_pictures_are_decoded_smaller_for_a_close_look(whole: Contract) -> None:
    side = 8000
    assert side * side > CLOSE_PIXELS
    data = encode(Image.new("RGB", (side, side), "teal"))
    picture = whole.decode(data)
    assert picture.close.size == (side // 2, side // 2)
    views = whole.views(picture)
    assert views.details is not None
    # Boxes are in pixels of the picture itself.
    left, top, right, bottom = views.boxes[1]
    assert (right - left, bottom - top) == (256, 256)


def test_the_score_is_that_of_the_whole_view(scorer: Scorer) -> None:
    picture = photo(900, 800, seed=4)
    alone, closely = scorer.score(picture, 1), scorer.score(picture)
    assert len(alone.crops) == 1
    assert len(closely.crops) == 3
    assert alone.score == closely.score == closely.crops[0].score
    assert alone.interval == closely.interval
    assert closely.std is None
    assert closely.stderr is None
    assert set(closely.defects) == set(DEFECTS)
    told = closely.to_dict()
    assert told["crops"] == 3
    assert told["interval"]["low"] <= told["score"] <= told["interval"]["high"]
    assert told["defects"]["noise"].keys() == {"severity", "probability", "close"}


def test_company_changes_nothing(scorer: Scorer) -> None:
    pictures = [photo(width, height, seed=width) for width, height in ((900, 800), (300, 300), (1000, 500), (260, 280))]
    together = {id(picture): result for picture, result in scorer.score_many(pictures)}
    for picture in pictures:
        assert together[id(picture)] == scorer.score(picture)


def test_a_close_look_adds_what_it_finds(scorer: Scorer) -> None:
    """Of sharpness the sharpest square counts, of noise the worst; neither makes less of what the whole view shows."""
    result, alone = scorer.score(photo(900, 800, seed=4)), scorer.score(photo(900, 800, seed=4), 1)
    for name, defect in result.defects.items():
        assert defect.severity >= alone.defects[name].severity
        # Both are rounded: a little more may look the same.
        assert defect.close or defect.severity == alone.defects[name].severity


def test_a_map_has_the_local_defects(scorer: Scorer) -> None:
    score_map = scorer.map(photo(900, 800))
    assert set(score_map.defects) == set(LOCAL_DEFECTS)
    for cells in score_map.defects.values():
        assert len(cells) == score_map.rows
        assert all(len(row) == score_map.columns and all(0 <= one <= 1 for one in row) for row in cells)
    assert score_map.to_dict()["defects"].keys() == score_map.defects.keys()


def test_outside_the_domain_intervals_are_wider(whole_folder: Path, scorer: Scorer) -> None:
    from model import domain

    photos = [photo(300, 300, seed=seed).filter(ImageFilter.GaussianBlur(1)) for seed in range(domain.LEAST)]
    own = domain.fit([domain.statistics(np.asarray(one)) for one in photos])
    loaded = checkpoint.load(whole_folder)
    narrow = replace(loaded, config=replace(loaded.config, contract=replace(loaded.contract, domain=own)))
    flat = Image.new("RGB", (300, 300), "teal")
    known, unknown = scorer.score(flat), Scorer(narrow, scorer.engine).score(flat)
    assert "out_of_domain" in unknown.warnings
    assert known.interval is not None
    assert unknown.interval is not None
    assert known.score == unknown.score
    assert unknown.interval.high - unknown.interval.low >= known.interval.high - known.interval.low


def test_contracts_that_do_not_fit_together_are_refused(contract: Contract) -> None:
    with pytest.raises(ValueError, match="shapes"):
        replace(contract, view="whole")
    with pytest.raises(ValueError, match="shapes"):
        replace(contract, shapes=((64, 64),))
    with pytest.raises(ValueError, match="unknown defect 'red eyes'"):
        replace(contract, defects=("red eyes",))


def test_the_activity_of_stages_is_mapped(whole_folder: Path, scorer: Scorer) -> None:
    for stage in (None, 1, 4):
        drawn = Image.open(io.BytesIO(scorer.overlay(photo(500, 400), stage)))
        assert (drawn.format, drawn.size) == ("PNG", (500, 400))
    copy, maps = stage_activations(checkpoint.load(whole_folder), from_image(photo(500, 400)))
    assert [activity_HW.shape for activity_HW in maps] == [copy.size[::-1]] * 4
