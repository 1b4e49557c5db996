import io
from dataclasses import replace

import numpy as np
from PIL import Image

from model.maps.overlay import STAGE_COLOURS, render, shrink
from model.score import CropScore
from model.scorer import Scorer
from tests.conftest import encode, photo


def test_each_side_gets_the_colour_of_its_stage(scorer: Scorer) -> None:
    score = scorer.score(encode(photo(400, 200)))
    left = CropScore(box=(0, 0, 200, 200), score=50, stage_weights=(1, 0, 0, 0))
    right = CropScore(box=(200, 0, 400, 200), score=50, stage_weights=(0, 0, 0, 1))
    data = render(Image.new("RGB", (400, 200), "black"), replace(score, crops=(left, right)))
    drawn = np.asarray(Image.open(io.BytesIO(data)))
    assert drawn.shape == (200, 400, 3)
    np.testing.assert_allclose(drawn[100, 100], STAGE_COLOURS[0] / 2, atol=2)
    np.testing.assert_allclose(drawn[100, 300], STAGE_COLOURS[3] / 2, atol=2)


def test_the_picture_is_small_and_carries_nothing_along(scorer: Scorer) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a private note"
    image = photo(3000, 1500)
    image.info["comment"] = "another"
    data = render(shrink(image), scorer.score(encode(image, exif=exif)))
    drawn = Image.open(io.BytesIO(data))
    assert drawn.size == (1024, 512)
    assert drawn.info == {}
    assert not drawn.getexif()
