from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from model.contract import Contract
from tests.conftest import encode, photo
from training.crops import Draw, RandomCrops
from training.datasets import Sample
from training.recipe import Recipe

RECIPE = Recipe(network="smart-mobile", dataset="csv", crops_per_picture=3, batch_pictures=4, seed=1)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("pictures")
    made = []
    for index in range(10):
        file = folder / f"{index}.png"
        file.write_bytes(encode(photo(seed=index), "PNG"))
        made.append(Sample(path=file, name=file.name, mos=index / 10, group=file.name))
    return made


def test_what_a_picture_gives_depends_on_seed_and_draw_alone(samples: list[Sample], contract: Contract) -> None:
    crops = RandomCrops(samples, contract, RECIPE)
    first, labels = crops[Draw(1, 4, 0)]
    assert first.shape == (3, 224, 224, 3)
    assert labels.tolist() == pytest.approx([0.4] * 3)
    crops[Draw(1, 9, 0)]
    assert torch.equal(first, crops[Draw(1, 4, 0)][0])
    assert not torch.equal(first, crops[Draw(2, 4, 0)][0])
    assert not torch.equal(first, crops[Draw(1, 4, 1)][0])
    assert not torch.equal(first, RandomCrops(samples, contract, replace(RECIPE, seed=2))[Draw(1, 4, 0)][0])


def test_an_epoch_visits_every_picture(samples: list[Sample], contract: Contract) -> None:
    crops = RandomCrops(samples, contract, replace(RECIPE, visits=2, accumulate=2))
    steps = crops.steps(epoch=3)
    assert [[len(batch) for batch in step] for step in steps] == [[2, 2]] * 5
    draws = [draw for step in steps for batch in step for draw in batch]
    assert sorted(draws) == [Draw(3, picture, visit) for picture in range(10) for visit in range(2)]
    assert crops.steps(epoch=3) == steps
    assert crops.steps(epoch=4) != steps


def test_what_is_left_at_the_end_must_reach_every_process(samples: list[Sample], contract: Contract) -> None:
    crops = RandomCrops(samples, contract, RECIPE)
    assert [len(step[0]) for step in crops.steps(1)] == [4, 4, 2]
    assert [len(step[0]) for step in crops.steps(1, processes=2)] == [4, 4, 2]
    assert [len(step[0]) for step in crops.steps(1, processes=4)] == [4, 4]


def test_crops_are_cut_from_the_picture_and_mirrored_by_chance(samples: list[Sample], contract: Contract) -> None:
    pixels = np.asarray(Image.open(samples[0].path))
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (224, 224, 3))[:, :, 0]
    corners = windows[:, :, 0, 0]

    def is_cut(crop_HWC: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bool:
        where = np.argwhere((corners == crop_HWC[0, 0]).all(axis=-1))
        return any(np.array_equal(windows[y, x], crop_HWC) for y, x in where)

    many = RandomCrops(samples, contract, replace(RECIPE, crops_per_picture=24))[Draw(1, 0, 0)][0].numpy()
    as_is = [is_cut(crop) for crop in many]
    assert 4 <= sum(as_is) <= 20
    assert all(is_cut(crop[:, ::-1]) for crop, found in zip(many, as_is, strict=True) if not found)
    never = RandomCrops(samples, contract, replace(RECIPE, crops_per_picture=24, flip=False))[Draw(1, 0, 0)][0].numpy()
    assert all(is_cut(crop) for crop in never)


def test_colour_jitter_is_off_unless_asked_for(samples: list[Sample], contract: Contract) -> None:
    plain = RandomCrops(samples, contract, RECIPE)[Draw(1, 0, 0)][0].float()
    jittered = RandomCrops(samples, contract, replace(RECIPE, color_jitter=0.4))
    first = jittered[Draw(1, 0, 0)][0].float()
    assert abs(first.mean() - plain.mean()) > 1
    assert torch.equal(first, jittered[Draw(1, 0, 0)][0].float())
