"""Crops in rounds: their order, when they are enough, and that every way to score a picture agrees."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from model import crop_rounds, images
from model.contract import Contract
from model.crop_rounds import AUTO, FIRST_ROUND, TOLERANCE, CropRounds, spread_out
from model.grid import grid
from model.images.facts import Box
from model.scale import Scale
from model.score import QualityScore
from model.scorer import Scorer
from tests.conftest import EXAMPLES, photo

SIDE = 224
sizes = st.integers(SIDE, 700)
counts = st.integers(1, 30)


def boxes_of(width: int, height: int, count: int) -> tuple[Box, ...]:
    return tuple((left, top, left + SIDE, top + SIDE) for left, top in grid(width, height, SIDE, count))


def started(contract: Contract, count: int, crops: crop_rounds.Crops | None = AUTO) -> CropRounds:
    picture = images.from_image(Image.new("RGB", (512, 512)))
    return CropRounds(contract.views(picture, count), contract, crops)


def gone_through(rounds: CropRounds, rows_ND: NDArray[np.float32]) -> list[int]:
    """Answer each round with the next rows; gives how many crops had been scored after each."""
    ends = [0]
    while (items := rounds.items) is not None:
        ends.append(ends[-1] + len(items))
        rounds.add(rows_ND[ends[-2] : ends[-1]])
    return ends[1:]


@pytest.fixture(scope="module")
def sixteen(sixteen_crops: Path) -> Scorer:
    return Scorer.load(sixteen_crops, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def varied() -> Image.Image:
    """A photo, half of it lost in noise."""
    image = Image.open(EXAMPLES[0]).convert("RGB").resize((512, 512))
    noise = np.random.default_rng(0).integers(0, 256, (512, 256, 3), dtype=np.uint8)
    image.paste(Image.fromarray(noise), (256, 0))
    return image


def test_order_by_hand() -> None:
    # Rows of three and of four: the middles of the edges, and a windmill.
    assert spread_out(boxes_of(512, 512, 9))[:FIRST_ROUND] == (1, 3, 5, 7)
    assert spread_out(boxes_of(512, 512, 16))[:FIRST_ROUND] == (1, 7, 8, 14)
    assert spread_out(boxes_of(SIDE, SIDE, 16)) == (0,)


@settings(deadline=None)
@given(sizes, sizes, counts)
def test_every_crop_comes_once(width: int, height: int, count: int) -> None:
    boxes = boxes_of(width, height, count)
    order = spread_out(boxes)
    assert sorted(order) == list(range(len(boxes)))
    crop_rounds.spread_out.cache_clear()
    assert spread_out(boxes) == order


@settings(deadline=None)
@given(sizes, sizes, st.integers(5, 12))
def test_no_first_round_stands_better_for_all(width: int, height: int, count: int) -> None:
    boxes = boxes_of(width, height, count)
    similar = np.array([[_overlap(one, other) for other in boxes] for one in boxes])

    def discrepancy(chosen: tuple[int, ...]) -> float:
        weights = np.full(len(boxes), -1 / len(boxes))
        weights[list(chosen)] += 1 / len(chosen)
        return float(weights @ similar @ weights)

    first = min(FIRST_ROUND, len(boxes))
    least = min(map(discrepancy, combinations(range(len(boxes)), first)))
    assert discrepancy(spread_out(boxes)[:first]) == pytest.approx(least, abs=1e-9)


def _overlap(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0) * max(down, 0) / SIDE**2


@settings(deadline=None)
@given(counts, st.floats(0, 0.3), st.integers(0, 2**32 - 1))
def test_rounds_go_on_until_they_are_sure(count: int, spread: float, seed: int) -> None:
    contract = Contract(crops=count, scale=Scale(dataset="made-up", min=1.0, max=5.0))
    rows_ND = np.random.default_rng(seed).normal(3, spread, (count, 1)).astype(np.float32)
    rounds = started(contract, count)
    # A picture of this size has room for as many crops as were asked for.
    assert rounds.count == count
    ends = gone_through(rounds, rows_ND)
    assert ends == [min(FIRST_ROUND * 2**power, count) for power in range(len(ends))]
    for end in ends:
        stderr = 100 / 4 * rows_ND[:end, 0].astype(float).std(ddof=1) / end**0.5 if end > 1 else 0
        assert (end == ends[-1]) == (stderr <= TOLERANCE or end == count)


@settings(deadline=None)
@given(counts, st.integers(0, 2**32 - 1))
def test_rounds_cut_the_plan_and_nothing_else(count: int, seed: int) -> None:
    contract = Contract(crops=count, scale=Scale(dataset="made-up", min=1.0, max=5.0))
    picture = images.from_image(photo(512, 512))
    views = contract.views(picture, count)
    row_of = {crop.tobytes(): place for place, crop in enumerate(views.items)}
    rounds = CropRounds(views, contract, AUTO)
    shown = []
    # Rows that are not sure of anything, each with the place of its crop in the plan.
    signs = np.random.default_rng(seed).permutation(count) % 2
    while (items := rounds.items) is not None:
        places = [row_of[crop.tobytes()] for crop in items]
        shown += places
        rounds.add(np.array([[100 * signs[place], place] for place in places], np.float32))
    rows_ND, boxes = rounds.scored()
    assert tuple(shown) == spread_out(views.boxes)[: len(shown)]
    assert rows_ND[:, 1].tolist() == sorted(shown)
    assert boxes == tuple(views.boxes[place] for place in sorted(shown))


def test_any_other_plan_is_one_round(contract: Contract) -> None:
    rows_ND = np.arange(9, dtype=np.float32).reshape(9, 1)
    for crops in (9, None):
        rounds = started(contract, 9, crops)
        assert gone_through(rounds, rows_ND) == [9]
        assert np.array_equal(rounds.scored()[0], rows_ND)


def test_the_scale_decides_what_is_sure() -> None:
    rows_ND = np.array([[0], [1], [0], [1]] * 4, np.float32)
    # Standard errors of 0.289, 0.189 and 0.129.
    for width, slope, ends in ((5.0, 1.0, [4, 8, 16]), (10.0, 1.0, [4, 8]), (100.0, 1.0, [4]), (100.0, -10.0, [4, 8])):
        scale = Scale(dataset="made-up", min=0.0, max=width, higher_is_better=False)
        contract = Contract(crops=16, scale=scale, slope=slope)
        assert gone_through(started(contract, 16), rows_ND) == ends


def test_flat_pictures_end_early_and_varied_ones_do_not(sixteen: Scorer, varied: Image.Image) -> None:
    flat = sixteen.score(Image.new("RGB", (640, 480), (90, 120, 150)), AUTO)
    assert (len(flat.crops), flat.stderr) == (FIRST_ROUND, 0)
    whole = sixteen.score(varied, AUTO)
    assert whole == sixteen.score(varied)
    assert len(whole.crops) == sixteen.checkpoint.contract.crops
    # Hardly larger than a crop.
    assert sixteen.score(Image.new("RGB", (225, 224)), AUTO) == sixteen.score(Image.new("RGB", (225, 224)))


def test_company_changes_nothing(sixteen: Scorer, varied: Image.Image, tmp_path: Path) -> None:
    file = tmp_path / "broken.jpg"
    file.write_bytes(b"no picture")
    varied.save(tmp_path / "varied.png")
    sources = [EXAMPLES[0], file, tmp_path / "varied.png", *EXAMPLES, tmp_path / "varied.png"]
    scored = dict(sixteen.score_many(sources, AUTO))
    assert isinstance(scored.pop(file), images.UnsupportedFormat)
    counts = set()
    for source, result in scored.items():
        assert isinstance(result, QualityScore)
        assert result == sixteen.score(source, AUTO)
        whole = sixteen.score(source)
        assert {crop.box: crop for crop in whole.crops}.items() >= {crop.box: crop for crop in result.crops}.items()
        counts.add(len(result.crops))
    assert counts >= {FIRST_ROUND, 16}
