"""Where a large picture is looked at closely."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import details


def test_what_is_sharp_is_looked_at() -> None:
    view_HWC = np.full((90, 160, 3), 128, np.uint8)
    view_HWC[50:70, 100:130] = np.random.default_rng(0).integers(0, 256, (20, 30, 3))
    (box,) = details.choose(view_HWC, (1600, 900), 200, 1)
    left, top, right, bottom = box
    assert (right - left, bottom - top) == (200, 200)
    assert 1000 - 100 <= left <= 1300 - 100
    assert 500 - 100 <= top <= 700 - 100


def test_squares_lie_apart_and_the_same_everywhere() -> None:
    view_HWC = np.random.default_rng(1).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    boxes = details.choose(view_HWC, (4000, 3000), 256, 4)
    assert boxes == details.choose(view_HWC.copy(), (4000, 3000), 256, 4)
    assert len(boxes) == 4
    corners = np.array(boxes)[:, :2]
    for place, corner in enumerate(corners):
        for other in corners[:place]:
            assert np.abs(corner - other).max() >= 4000 // details.APART


def test_a_picture_without_room_gives_fewer() -> None:
    view_HWC = np.zeros((64, 64, 3), np.uint8)
    assert details.choose(view_HWC, (256, 256), 256, 5) == [(0, 0, 256, 256)]


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(64, 3000),
    height=st.integers(64, 3000),
    count=st.integers(1, 8),
    rows=st.integers(2, 80),
    columns=st.integers(2, 80),
)
def test_squares_are_inside(width: int, height: int, count: int, rows: int, columns: int) -> None:
    view_HWC = np.random.default_rng(rows).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    boxes = details.choose(view_HWC, (width, height), 64, count)
    assert 1 <= len(boxes) <= count
    assert len(set(boxes)) == len(boxes)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert (right - left, bottom - top) == (64, 64)


@pytest.mark.parametrize("size", [(64, 2000), (2000, 64)])
def test_a_strip_is_as_narrow_as_a_square(size: tuple[int, int]) -> None:
    view_HWC = np.random.default_rng(2).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    assert len(details.choose(view_HWC, size, 64, 3)) == 3
