"""Networks that see whole pictures as tokens, through contract, engine and scorer."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model import checkpoint, golden, images, token_shapes
from model.contract import Contract
from model.networks.musiq import Musiq, MusiqConfig
from model.scale import Scale
from model.scorer import Scorer
from tests.conftest import encode, photo

SCALE = Scale(dataset="made-up", min=0.0, max=100.0)


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Contract(view="tokens", longer_sides=(224, 384), crops=1, width=512, height=512, scale=SCALE)


@pytest.fixture(scope="module")
def scorer(contract: Contract, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    torch.manual_seed(0)
    network = Musiq(MusiqConfig(width=48, depth=1, heads=4, hidden=64))
    torch.nn.init.normal_(network.head.weight)
    torch.nn.init.constant_(network.head.bias, 50.0)
    folder = tmp_path_factory.mktemp("musiq") / "musiq"
    checkpoint.save(folder, network, name="musiq", contract=contract, card="# Random weights\n")
    golden.write(Scorer.load(folder, device="cpu", precision="fp32"))
    return Scorer.load(folder, device="cpu", precision="fp32")


def test_one_item_of_the_whole_picture(contract: Contract) -> None:
    picture = images.decode(encode(photo(900, 600)))
    views = contract.views(picture, 16)
    # Shrunk to fit 512x512: 512x341.
    assert views.items.shape == (1, 49 + 144 + 256, token_shapes.LENGTH)
    assert views.boxes == ((0, 0, 900, 600),)
    assert contract.id.startswith("tokens-v1-")
    assert Contract.from_dict(contract.to_dict()) == contract


def test_a_small_picture_keeps_its_pixels(contract: Contract) -> None:
    views = contract.views(images.decode(encode(photo(100, 60))))
    assert views.items.shape == (1, 49 + 144 + 64, token_shapes.LENGTH)
    assert views.warnings == ()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"crops": 2}, "crops must be 1, not 2"),
        ({"resize": "none"}, "at most 2304 patches, not none"),
        ({"width": 4096, "height": 4096}, "not fit to 4096x4096"),
        ({"view": "tiles"}, "unknown view"),
    ],
)
def test_contracts_that_cannot_be(fields: dict[str, object], words: str) -> None:
    usual: dict[str, object] = {"view": "tokens", "crops": 1, "width": 512, "height": 512, "scale": SCALE}
    with pytest.raises(ValueError, match=words):
        Contract(**{**usual, **fields})  # type: ignore[arg-type]


def test_every_shape_that_a_picture_can_have_is_warmed(contract: Contract, scorer: Scorer) -> None:
    assert scorer.engine.reproducible
    for width, height in ((40, 40), (512, 40), (512, 300), (512, 512)):
        items = contract.views(images.decode(encode(photo(width, height)))).items
        assert items.shape[1:] in scorer.engine.item_shapes


def test_a_picture_scores_the_same_in_any_company(scorer: Scorer, tmp_path: Path) -> None:
    files = []
    for index, (width, height) in enumerate([(512, 384), (300, 200), (512, 384), (64, 500), (900, 900)]):
        files.append(tmp_path / f"{index}.jpg")
        files[-1].write_bytes(encode(photo(width, height, seed=index)))
    alone = [scorer.score(file) for file in files]
    together = [result for _, result in scorer.score_many(files)]
    assert together == alone
    assert len({score.score for score in alone}) == 5
    assert all(score.std is None and len(score.crops) == 1 and score.stage_weights is None for score in alone)


def test_golden_scores(scorer: Scorer) -> None:
    assert golden.verify(scorer)


def test_rows_are_the_networks_own(scorer: Scorer, contract: Contract) -> None:
    items = contract.views(images.decode(encode(photo(300, 200)))).items
    with torch.inference_mode():
        expected = scorer.checkpoint.network(torch.from_numpy(items)).score
    np.testing.assert_allclose(scorer.engine.predict(items)[:, 0], expected.numpy(), rtol=1e-5)
