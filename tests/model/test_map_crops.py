"""Where map crops lie, what the map of their scores shows, and where stages are active."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from model import checkpoint
from model.contract import Contract
from model.inference.engine import Engine
from model.maps import map_crops
from model.maps.map_crops import Layout, MapCrops
from model.maps.overlay import ACTIVITY_COLOURS, render_activity
from model.networks import registry
from model.options import DEFAULT_CHECKPOINT
from model.scale import Scale
from model.scorer import Scorer
from tests.conftest import EXAMPLES, encode, photo

SCALE = Scale(dataset="made-up", min=0, max=1)
CONTRACTS = {
    "near": Contract(width=384, height=384, crop_size=320, crops=4, decoding="scaled", scale=SCALE),
    "far": Contract(scale=SCALE),
    "exact": Contract(resize="exact", width=512, height=384, scale=SCALE),
    "none": Contract(resize="none", scale=SCALE),
}
SIZES = [(600, 400), (4000, 3000), (3000, 4000), (3000, 3000), (3000, 1000), (6000, 300), (300, 6000), (100, 60)]


@pytest.fixture(scope="module")
def trained() -> Scorer:
    return Scorer.load(device="cpu", precision="fp32")


@pytest.mark.parametrize("name", CONTRACTS)
@pytest.mark.parametrize("size", SIZES)
def test_map_crops_cover_every_picture_and_are_few(name: str, size: tuple[int, int]) -> None:
    contract = CONTRACTS[name]
    where = map_crops.layout(contract, *size)
    assert len(where.lefts) * len(where.tops) <= map_crops.MAX_CROPS
    for starts, length in ((where.lefts, where.width), (where.tops, where.height)):
        assert starts[0] == 0
        assert starts[-1] + contract.crop_size == length
        assert max(np.diff(starts), default=0) <= contract.crop_size
    for side, base, own in zip(where[:2], contract.target_size(*size), size, strict=True):
        assert side <= max(base, min(2 * base, own + 1))


def test_a_large_picture_is_looked_at_twice_as_closely() -> None:
    where = map_crops.layout(CONTRACTS["near"], 4000, 3000)
    assert where == Layout(854, 640, (0, 133, 267, 400, 534), (0, 160, 320), 320)


def test_jpegs_that_are_decoded_smaller_have_all_that_map_crops_need() -> None:
    contract = CONTRACTS["near"]
    for size in ((2400, 1600), (1700, 1300), (1300, 2600)):
        picture = contract.decode(encode(Image.radial_gradient("L").resize(size)))
        copy = map_crops.resized(picture, contract)
        assert picture.image.width >= copy.width
        assert picture.image.height >= copy.height
        assert copy.size == map_crops.layout(contract, *size)[:2]


def scored(values: list[list[float]], original: tuple[int, int], contract: Contract) -> "np.ndarray[tuple[int, int]]":
    where = map_crops.layout(contract, *original)
    assert (len(where.tops), len(where.lefts)) == np.shape(values)
    rows = np.array(values, np.float32).reshape(-1, 1)
    made = MapCrops(items=np.zeros((len(rows), 1, 1, 3), np.uint8), layout=where, original=original)
    drawn = made.score_map(rows, contract)
    assert np.shape(drawn.scores) == (drawn.rows, drawn.columns)
    return np.array(drawn.scores)


def test_a_map_by_hand() -> None:
    # Crops of 224 in 448x224 lie half a crop apart: their scores stand at a quarter, a half and three quarters.
    drawn = scored([[0.2, 0.6, 0.4]], (448, 224), CONTRACTS["far"])
    assert drawn.shape == (16, 32)
    assert (drawn == drawn[0]).all()
    centres = (np.arange(32) + 0.5) / 32
    np.testing.assert_allclose(drawn[0], np.interp(centres, [0.25, 0.5, 0.75], [20, 60, 40]), atol=0.01)


def test_map_crops_far_apart_leave_no_holes() -> None:
    # 24 map crops in a strip of 20 crops.
    values = np.linspace(0, 1, 24)
    drawn = scored([values.tolist()], (6400, 320), CONTRACTS["near"])
    assert drawn.shape == (2, 32)
    where = map_crops.layout(CONTRACTS["near"], 6400, 320)
    middles = (np.array(where.lefts) + 160) / 6400
    centres = (np.arange(32) + 0.5) / 32
    np.testing.assert_allclose(drawn[0], 100 * np.interp(centres, middles, values), atol=0.1)


def test_a_map_has_the_shape_of_the_picture_whatever_the_contract_makes_of_it() -> None:
    for original, shape in (((900, 300), (11, 32)), ((300, 900), (32, 11)), ((700, 700), (32, 32))):
        where = map_crops.layout(CONTRACTS["exact"], *original)
        values = np.full((len(where.tops), len(where.lefts)), 0.5).tolist()
        drawn = scored(values, original, CONTRACTS["exact"])
        assert drawn.shape == shape
        assert (drawn == 50).all()


def test_a_scale_where_less_is_better_is_turned_round() -> None:
    scale = Scale(dataset="dmos", min=0, max=10, higher_is_better=False)
    contract = dataclasses.replace(CONTRACTS["far"], scale=scale, slope=2.0, intercept=1.0)
    assert (scored([[3.0]], (224, 224), contract) == 30).all()


def test_a_blurred_half_and_a_noisy_corner_are_seen(trained: Scorer) -> None:
    (rocket,) = (Image.open(file).convert("RGB") for file in EXAMPLES if file.stem == "rocket")
    width, height = rocket.size
    plain = np.array(trained.map(rocket).scores)
    blurred = rocket.copy()
    blurred.paste(rocket.crop((0, 0, width // 2, height)).filter(ImageFilter.GaussianBlur(8)))
    changed = np.array(trained.map(blurred).scores) - plain
    assert changed[:, :10].mean() < -30
    assert abs(changed[:, 26:]).max() < 3

    noisy = np.asarray(rocket).astype(np.int16)
    corner = noisy[height // 2 :, : width // 3]
    corner += np.random.default_rng(0).normal(0, 60, corner.shape).astype(np.int16)
    changed = np.array(trained.map(Image.fromarray(noisy.clip(0, 255).astype(np.uint8))).scores) - plain
    assert changed[16:, :8].mean() < -5
    assert abs(changed[:, 26:]).max() < 3


def test_map_crops_have_no_part_in_the_score(trained: Scorer) -> None:
    before = trained.score(EXAMPLES[0])
    first, second = trained.map(EXAMPLES[0]), trained.map(EXAMPLES[0])
    assert first == second
    assert trained.score(EXAMPLES[0]) == before


def test_a_stage_is_active_where_there_is_something_to_see(scorer: Scorer) -> None:
    pixels = np.full((300, 420, 3), 90, np.uint8)
    pixels[:80, :80] = np.random.default_rng(0).integers(0, 256, (80, 80, 3))
    lightness = [
        np.asarray(Image.open(io.BytesIO(scorer.overlay(pixels, stage))).convert("L")).astype(float)
        for stage in (1, 2, 3, 4)
    ]
    assert all(drawn.shape == (300, 420) for drawn in lightness)
    assert len({drawn.tobytes() for drawn in lightness}) == 4
    assert lightness[0][:60, :60].mean() > lightness[0][150:, 200:].mean() + 40
    with pytest.raises(ValueError, match="1 to 4, not 5"):
        scorer.overlay(pixels, 5)


def test_an_activity_map_is_drawn_in_its_colours_and_carries_nothing_along() -> None:
    image = Image.new("RGB", (64, 32), "white")
    image.info["comment"] = "private"
    activity = np.linspace(0, 1, 64, dtype=np.float32)[None].repeat(32, axis=0)
    drawn = Image.open(io.BytesIO(render_activity(image, activity)))
    assert (drawn.format, drawn.size, drawn.info) == ("PNG", (64, 32), {})
    for column, colour in ((0, ACTIVITY_COLOURS[0]), (63, ACTIVITY_COLOURS[-1])):
        np.testing.assert_allclose(np.asarray(drawn)[16, column], 0.6 * colour + 0.4 * 255, atol=2)


def test_without_stages_or_local_scores() -> None:
    network = registry.build("musiq", width=48, depth=1, heads=4, hidden=64)
    view = registry.view("musiq", width=48, depth=1, heads=4, hidden=64)
    contract = dataclasses.replace(CONTRACTS["far"], **view, crops=1)
    config = dataclasses.replace(checkpoint.inspect(DEFAULT_CHECKPOINT)[0], name="whole", contract=contract)
    loaded = dataclasses.replace(checkpoint.load(DEFAULT_CHECKPOINT), config=config, network=network)
    whole = Scorer(loaded, Engine(network, contract, device="cpu", precision="fp32"))
    for ask, words in (
        (lambda: whole.map(photo()), "no local scores"),
        (lambda: whole.overlay(photo()), "does not weigh"),
        (lambda: whole.overlay(photo(), 1), "no stages"),
    ):
        with pytest.raises(ValueError, match=words):
            ask()
