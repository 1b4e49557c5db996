from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.contract import LATER_FIELDS, MAX_CROPS, SCALED_MARGIN, Contract
from model.grid import grid
from model.images import ImageWarning, Picture, from_image
from model.scale import Scale
from tests.conftest import encode, photo

sides = st.integers(224, 2000)


@given(sides, sides, st.integers(1, MAX_CROPS))
def test_grid_stays_inside_and_never_repeats(width: int, height: int, count: int) -> None:
    corners = grid(width, height, 224, count)
    assert 1 <= len(corners) <= count
    assert len(set(corners)) == len(corners)
    assert all(0 <= left <= width - 224 and 0 <= top <= height - 224 for left, top in corners)
    assert corners == grid(width, height, 224, count)
    if width - 224 >= MAX_CROPS and height - 224 >= MAX_CROPS:
        assert len(corners) == count


@given(sides, sides, st.integers(4, MAX_CROPS))
def test_grid_reaches_every_edge(width: int, height: int, count: int) -> None:
    lefts, tops = zip(*grid(width, height, 224, count), strict=True)
    assert (min(lefts), max(lefts)) == (0, width - 224)
    assert (min(tops), max(tops)) == (0, height - 224)


@given(sides, sides, st.sampled_from([4, 6, 8, 9, 16, 25]))
def test_grid_is_as_fair_to_the_bottom_as_to_the_top(width: int, height: int, count: int) -> None:
    corners = grid(width, height, 224, count)
    rows = sorted({top for _, top in corners})
    lengths = [sum(top == row for _, top in corners) for row in rows]
    if count % len(rows) == 0 or len(rows) % 2 == 1:
        assert lengths == lengths[::-1]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, [(144, 80)]),
        (2, [(0, 80), (288, 80)]),
        (4, [(0, 0), (288, 0), (0, 160), (288, 160)]),
        (5, [(0, 0), (288, 0), (0, 160), (144, 160), (288, 160)]),
    ],
)
def test_grid_by_hand(count: int, expected: list[tuple[int, int]]) -> None:
    assert grid(512, 384, 224, count) == expected


def test_grid_of_eight_leaves_one_out_of_the_middle_row() -> None:
    tops = [top for _, top in grid(512, 512, 224, 8)]
    assert tops == [0, 0, 0, 144, 144, 288, 288, 288]


def test_a_picture_of_one_crop_gives_one_crop() -> None:
    assert grid(224, 224, 224, 25) == [(0, 0)]
    assert len(grid(225, 225, 224, 25)) == 4


def picture(width: int, height: int) -> Picture:
    return from_image(photo(width, height))


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((512, 512), (512, 512)),
        ((4000, 3000), (512, 384)),
        ((3000, 4000), (384, 512)),
        ((300, 400), (300, 400)),
        ((2000, 500), (896, 224)),
        ((160, 120), (299, 224)),
        ((100, 100), (224, 224)),
    ],
)
def test_fit(contract: Contract, size: tuple[int, int], resized: tuple[int, int]) -> None:
    shown = picture(*size)
    warnings = contract.views(shown).warnings
    assert contract.resized(shown).size == resized
    assert (ImageWarning.UPSCALED_LOW_RESOLUTION in warnings) == (resized > size)
    assert (ImageWarning.EXTREME_ASPECT in warnings) == (size == (2000, 500))


def test_exact_and_none(contract: Contract) -> None:
    exact = replace(contract, resize="exact", width=384, height=512)
    assert exact.resized(picture(1024, 768)).size == (384, 512)
    native = replace(contract, resize="none")
    assert native.resized(picture(1024, 768)).size == (1024, 768)
    assert native.resized(picture(100, 400)).size == (224, 896)


def test_views_are_crops_of_the_picture(contract: Contract) -> None:
    shown = picture(512, 400)
    views = contract.views(shown, crops=5)
    assert views.items.shape == (5, 224, 224, 3)
    assert views.items.dtype == np.uint8
    pixels = np.asarray(shown.image)
    for crop, (left, top, right, bottom) in zip(views.items, views.boxes, strict=True):
        assert np.array_equal(crop, pixels[top:bottom, left:right])


def test_boxes_are_in_the_pictures_own_pixels(contract: Contract) -> None:
    views = contract.views(picture(1024, 768), crops=4)
    assert views.boxes[0][:2] == (0, 0)
    assert views.boxes[-1][2:] == (1024, 768)


@pytest.mark.parametrize("crops", [0, -1, 65])
def test_crop_counts_out_of_range(contract: Contract, crops: int) -> None:
    with pytest.raises(ValueError, match="1 to 64"):
        contract.views(picture(300, 300), crops=crops)


def test_round_trip_and_id(contract: Contract) -> None:
    again = Contract.from_dict(contract.to_dict())
    assert again == contract
    assert again.id == contract.id
    assert replace(contract, crops=9).id != contract.id
    assert contract.id.startswith("crops-v1-")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "version 2 is unknown"),
        ({"version": None}, "version None is unknown"),
        ({"resize": "squash"}, "resize"),
        ({"decoding": "eighth"}, "decoding"),
        ({"crops": 0}, "crops"),
        ({"crop_size": 1024}, "smaller than a crop"),
        ({"std": [0.2, 0.2, 0.0]}, "std"),
        ({"colour": "p3"}, "colour"),
        ({"scale": {"dataset": "x", "min": 1, "max": 1}}, "not below"),
        ({"scale": None}, "contract"),
    ],
)
def test_unknown_contracts_are_refused(contract: Contract, change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Contract.from_dict({**contract.to_dict(), **change})


def test_scale() -> None:
    scale = Scale(dataset="x", min=1, max=5)
    assert [scale.to_percent(raw) for raw in (1, 3, 5, 0, 9)] == [0, 50, 100, 0, 100]
    assert scale.spread_to_percent(0.4) == pytest.approx(10)
    worse_up = Scale(dataset="dmos", min=0, max=10, higher_is_better=False)
    assert worse_up.to_percent(2.5) == 75


def test_contracts_from_before_keep_their_ids(contract: Contract) -> None:
    before = Contract(crops=16, scale=Scale(dataset="biq2021", min=0.0, max=1.0))
    assert before.id == "crops-v1-747ccbc51968"
    assert not set(LATER_FIELDS) & set(contract.to_dict())


def test_later_fields_are_part_of_the_id_once_they_are_used(contract: Contract) -> None:
    scaled = replace(contract, decoding="scaled")
    assert scaled.to_dict() == {**contract.to_dict(), "decoding": "scaled"}
    assert Contract.from_dict(scaled.to_dict()) == scaled
    assert scaled.id != contract.id


@pytest.mark.parametrize("size", [(2400, 1800), (1800, 2400), (2401, 1003), (1600, 1200), (400, 300), (200, 150)])
@pytest.mark.parametrize("rule", [{}, {"resize": "exact", "width": 300, "height": 500}, {"resize": "none"}], ids=str)
def test_scaled_decoding_shows_the_same_picture(
    contract: Contract, size: tuple[int, int], rule: dict[str, Any]
) -> None:
    full = replace(contract, **rule)
    scaled = replace(full, decoding="scaled")
    data = encode(photo(*size), quality=95)
    whole, picture = full.decode(data), scaled.decode(data)
    assert picture.facts == whole.facts
    width, height = full.target_size(*size)
    smaller = picture.image.size != size
    assert smaller == (size[0] >= 4 * width and size[1] >= 4 * height)
    if smaller:
        assert picture.image.width >= SCALED_MARGIN * width
        assert picture.image.height >= SCALED_MARGIN * height
    expected, views = full.views(whole), scaled.views(picture)
    assert (views.boxes, views.warnings) == (expected.boxes, expected.warnings)
    difference = np.abs(views.items.astype(int) - expected.items)
    assert difference.mean() < 2
    assert smaller or not difference.any()


def test_zooms_cut_a_picture_at_several_sizes(contract: Contract) -> None:
    zoomed = replace(contract, zooms=(1.0, 0.6))
    picture = from_image(photo(1024, 768))
    views = zoomed.views(picture, 9)
    assert views.items.shape == (9, 224, 224, 3)
    # The picture is 512x384, and then 307x230: a crop sees 448 and 747 pixels of the original's width.
    assert [right - left for left, _, right, _ in views.boxes] == [448] * 4 + [747] * 5
    assert np.array_equal(views.items[:4], contract.views(picture, 4).items)
    assert max(bottom for _, _, _, bottom in views.boxes) == 768
    assert zoomed.id != contract.id
    assert Contract.from_dict(zoomed.to_dict()) == zoomed
    assert [box[2] - box[0] for box in zoomed.views(picture, 1).boxes] == [747]


def test_a_picture_hardly_larger_than_a_crop_is_not_shrunk_below_it(contract: Contract) -> None:
    small = from_image(photo(224, 224))
    assert len(replace(contract, zooms=(1.0, 0.6, 0.5)).views(small, 9).boxes) == 1
    flat = from_image(photo(400, 224))
    assert all(bottom == 224 for _, _, _, bottom in replace(contract, zooms=(1.0, 0.6)).views(flat, 4).boxes)


@pytest.mark.parametrize("zooms", [(), (0.6, 1.0), (1.0, 1.0), (1.2, 1.0), (1.0, 0.0), (1.0, -0.5)])
def test_zooms_must_fall_from_one(contract: Contract, zooms: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="zooms must fall"):
        replace(contract, zooms=zooms)


def test_crops_of_an_enlarged_picture_differ_also_where_their_boxes_do_not(contract: Contract) -> None:
    # 32x33 becomes 224x231: seven rows of crops, of which several round to the same pixels of the original.
    views = contract.views(from_image(photo(32, 33)), 8)
    assert len(views.items) == len(grid(224, 231, 224, 8)) == 8
    assert len(set(views.boxes)) < 8
