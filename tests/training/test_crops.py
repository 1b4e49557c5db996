from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from model.contract import Contract
from tests.conftest import encode, photo
from training.crops import Draw, RandomCrops, collate
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
    first = crops[Draw(1, 4, 0)].items
    assert first.shape == (3, 224, 224, 3)
    assert crops[Draw(1, 4, 0)].label == pytest.approx(0.4)
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


def test_noise_of_labels(samples: list[Sample], contract: Contract) -> None:
    crops = RandomCrops(samples, contract, replace(RECIPE, label_noise=0.05))
    labels = np.array([crops[Draw(epoch, 4, 0)].label for epoch in range(200)])
    scale = contract.scale
    assert labels.mean() == pytest.approx(0.4, abs=0.015 * (scale.max - scale.min))
    assert labels.std() == pytest.approx(0.05 * (scale.max - scale.min), rel=0.2)
    assert crops[Draw(7, 4, 0)].label == labels[7]


def test_degraded_crops_and_blanks(samples: list[Sample], contract: Contract) -> None:
    crops = RandomCrops(samples, contract, replace(RECIPE, degraded=0.5, blank=0.3))
    visits = [crops[Draw(epoch, picture, 0)] for epoch in range(4) for picture in range(10)]
    plain = RandomCrops(samples, contract, RECIPE)
    assert torch.equal(visits[0].items, plain[Draw(0, 0, 0)].items)
    assert 8 <= sum(visit.degraded is not None for visit in visits) <= 32
    assert 3 <= sum(visit.blank is not None for visit in visits) <= 25
    for visit in visits:
        if visit.degraded is not None:
            error = [(one.float() - visit.items[0].float()).square().mean() for one in visit.degraded]
            assert 0 < error[0] <= error[1]
            assert 1 <= visit.steps[0] <= sum(visit.steps) <= 5
    batch = collate(visits)
    assert batch.items.shape == (40, 3, 224, 224, 3)
    assert batch.labels.tolist()[1] == pytest.approx([0.1] * 3)
    assert batch.degraded.shape == (len(batch.origins), 2, 224, 224, 3)
    assert batch.steps.shape == (len(batch.origins), 2)
    assert len(batch.blanks) == sum(visit.blank is not None for visit in visits)
    for place, pair in zip(batch.origins, batch.degraded, strict=True):
        degraded = visits[place].degraded
        assert degraded is not None
        assert torch.equal(pair, degraded)


def test_a_batch_without_degraded_crops(samples: list[Sample], contract: Contract) -> None:
    crops = RandomCrops(samples, contract, RECIPE)
    batch = collate([crops[Draw(1, 0, 0)], crops[Draw(1, 1, 0)]])
    assert batch.degraded.shape == (0, 2, 224, 224, 3)
    assert batch.blanks.shape == (0, 224, 224, 3)
    assert batch.steps.shape == (0, 2)


def test_crops_of_random_sizes(samples: list[Sample], contract: Contract) -> None:
    recipe = replace(RECIPE, crops_per_picture=16, flip=False, zooms=(1.0, 0.5))
    crops = RandomCrops(samples, replace(contract, zooms=recipe.zooms), recipe)
    items = crops[Draw(1, 0, 0)].items
    assert items.shape == (16, 224, 224, 3)
    assert torch.equal(items, crops[Draw(1, 0, 0)].items)
    # Shrunk crops have lost fine detail: noise says by how much each was.
    detail = (items[:, :, 1:].float() - items[:, :, :-1].float()).abs().mean(dim=(1, 2, 3))
    plain = RandomCrops(samples, contract, replace(recipe, zooms=(1.0,)))[Draw(1, 0, 0)].items
    as_is = (plain[:, :, 1:].float() - plain[:, :, :-1].float()).abs().mean(dim=(1, 2, 3))
    assert detail.mean() < 0.8 * as_is.mean()
