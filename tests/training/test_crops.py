from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from model.contract import Contract
from tests.conftest import encode, photo
from training.crops import Draw, RandomCrops, collate, large_view
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


def items(crops: RandomCrops, draw: Draw) -> Tensor:
    """The labelled items of a visit."""
    return torch.from_numpy(np.stack(crops[draw].items))


def test_what_a_picture_gives_depends_on_seed_and_draw_alone(samples: list[Sample], contract: Contract) -> None:
    crops = RandomCrops(samples, contract, RECIPE)
    first = items(crops, Draw(1, 4, 0))
    assert first.shape == (3, 224, 224, 3)
    assert crops[Draw(1, 4, 0)].label == pytest.approx(0.4)
    crops[Draw(1, 9, 0)]
    assert torch.equal(first, items(crops, Draw(1, 4, 0)))
    assert not torch.equal(first, items(crops, Draw(2, 4, 0)))
    assert not torch.equal(first, items(crops, Draw(1, 4, 1)))
    assert not torch.equal(first, items(RandomCrops(samples, contract, replace(RECIPE, seed=2)), Draw(1, 4, 0)))


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

    many = items(RandomCrops(samples, contract, replace(RECIPE, crops_per_picture=24)), Draw(1, 0, 0)).numpy()
    as_is = [is_cut(crop) for crop in many]
    assert 4 <= sum(as_is) <= 20
    assert all(is_cut(crop[:, ::-1]) for crop, found in zip(many, as_is, strict=True) if not found)
    never = RandomCrops(samples, contract, replace(RECIPE, crops_per_picture=24, flip=False))
    assert all(is_cut(crop) for crop in items(never, Draw(1, 0, 0)).numpy())


def test_colour_jitter_is_off_unless_asked_for(samples: list[Sample], contract: Contract) -> None:
    plain = items(RandomCrops(samples, contract, RECIPE), Draw(1, 0, 0)).float()
    jittered = RandomCrops(samples, contract, replace(RECIPE, color_jitter=0.4))
    first = items(jittered, Draw(1, 0, 0)).float()
    assert abs(first.mean() - plain.mean()) > 1
    assert torch.equal(first, items(jittered, Draw(1, 0, 0)).float())


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
    assert np.array_equal(visits[0].items[0], plain[Draw(0, 0, 0)].items[0])
    assert 8 <= sum(bool(visit.degraded) for visit in visits) <= 32
    assert 3 <= sum(bool(visit.blank) for visit in visits) <= 25
    for visit in visits:
        if visit.degraded:
            weak, strong = visit.degraded
            assert not np.array_equal(weak, strong)
            assert 0 < visit.steps[0] < 0.81 * sum(visit.steps)
    batch = collate(visits)
    labelled, degraded, blanks = batch.parts
    assert (labelled, degraded) == (120, 2 * len(batch.origins))
    assert blanks == sum(bool(visit.blank) for visit in visits)
    assert batch.labels.tolist()[1] == pytest.approx([0.1] * 3)
    assert batch.steps.shape == (len(batch.origins), 2)
    shown = torch.cat(list(batch.items))[batch.order]
    assert np.array_equal(shown[0], visits[0].items[0])
    first = visits[batch.origins[0]]
    assert np.array_equal(shown[labelled + 1], first.degraded[1])


def test_a_batch_without_degraded_crops(samples: list[Sample], contract: Contract) -> None:
    crops = RandomCrops(samples, contract, RECIPE)
    batch = collate([crops[Draw(1, 0, 0)], crops[Draw(1, 1, 0)]])
    assert batch.parts == (6, 0, 0)
    assert batch.steps.shape == (0, 2)


def test_whole_pictures_are_shown_in_their_shapes(samples: list[Sample], contract: Contract) -> None:
    whole = replace(contract, view="whole", shapes=((256, 256), (320, 192)), crop_size=128, zooms=(1.0, 0.6))
    recipe = replace(RECIPE, shapes=whole.shapes, crops_per_picture=1, degraded=0.5, blank=0.3, zooms=whole.zooms)
    crops = RandomCrops(samples, whole, recipe)
    visits = [crops[Draw(epoch, picture, 0)] for epoch in range(6) for picture in range(10)]
    batch = collate(visits)
    labelled, degraded, blanks = batch.parts
    assert labelled == 60
    assert degraded > 0
    assert blanks > 0
    assert {tuple(group.shape[1:]) for group in batch.items} == {(256, 256, 3), (192, 320, 3)}
    assert sorted(batch.order.tolist()) == list(range(len(batch.order)))
    flat = [one for group in batch.items for one in group]
    for place, visit in enumerate(visits):
        assert np.array_equal(flat[batch.order[place]], visit.items[0])


def test_lengths_of_defects_are_in_pixels_of_the_whole_view(contract: Contract) -> None:
    whole = replace(contract, view="whole", shapes=((256, 256),), crop_size=128, decoding="scaled")
    for side, expected in ((256, 256), (384, 384), (1000, 512)):
        image, pixel = large_view(whole, whole.decode(encode(photo(side, side, seed=1), "PNG")))
        assert image.size == (expected, expected)
        assert pixel == pytest.approx(expected / 256)


def test_crops_of_random_sizes(samples: list[Sample], contract: Contract) -> None:
    recipe = replace(RECIPE, crops_per_picture=16, flip=False, zooms=(1.0, 0.5))
    crops = RandomCrops(samples, replace(contract, zooms=recipe.zooms), recipe)
    cut = items(crops, Draw(1, 0, 0))
    assert cut.shape == (16, 224, 224, 3)
    assert torch.equal(cut, items(crops, Draw(1, 0, 0)))
    # Shrunk crops have lost fine detail: noise says by how much each was.
    detail = (cut[:, :, 1:].float() - cut[:, :, :-1].float()).abs().mean(dim=(1, 2, 3))
    plain = items(RandomCrops(samples, contract, replace(recipe, zooms=(1.0,))), Draw(1, 0, 0))
    as_is = (plain[:, :, 1:].float() - plain[:, :, :-1].float()).abs().mean(dim=(1, 2, 3))
    assert detail.mean() < 0.8 * as_is.mean()
