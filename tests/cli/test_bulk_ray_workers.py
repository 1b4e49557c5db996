"""What processes of a cluster do with pieces, in this process."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from cli.bulk import job as jobs
from cli.bulk import listing, ray_workers
from cli.bulk.collect import Collector
from cli.bulk.local import LocalScorer
from cli.bulk.stores import Store
from model import checkpoint, golden
from model.contract import Contract
from model.crop_rounds import Crops
from model.networks.musiq import Musiq, MusiqConfig
from model.scale import Scale
from model.scorer import Scorer
from tests.conftest import encode, photo


@pytest.fixture(scope="module")
def whole_pictures(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """Work items of its contract are tokens, not crops."""
    torch.manual_seed(0)
    scale = Scale(dataset="made-up", min=0.0, max=100.0)
    contract = Contract(view="tokens", longer_sides=(64,), crops=1, width=224, height=224, scale=scale)
    network = Musiq(MusiqConfig(width=48, depth=1, heads=4, hidden=64))
    folder = tmp_path_factory.mktemp("musiq") / "musiq"
    checkpoint.save(folder, network, name="musiq", contract=contract, card="# Random weights\n")
    golden.write(Scorer.load(folder, device="cpu", precision="fp32"))
    return Scorer.load(folder, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def whole_views(whole_folder: Path) -> Scorer:
    """It describes pictures, so photos can be picked from."""
    return Scorer.load(whole_folder, device="cpu", precision="fp32")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for place in range(5):
        (folder / f"{place}.jpg").write_bytes(encode(photo(300 + 50 * place, 240, place)))
    (folder / "2a.jpg").write_bytes(b"broken")
    (folder / "3.jpg").write_bytes(encode(photo(900, 250).convert("L")))
    return folder


@pytest.mark.parametrize("way", ["together", "apart"])
@pytest.mark.parametrize(
    ("fixture", "crops"), [("scorer", 3), ("scorer", "auto"), ("whole_pictures", 1), ("whole_views", 3)]
)
def test_rows_are_those_of_one_process(
    fixture: str,
    crops: Crops,
    way: str,
    photos: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scorer: Scorer = request.getfixturevalue(fixture)
    monkeypatch.setattr(ray_workers, "load", lambda *_: scorer)
    monkeypatch.setattr(ray_workers, "BLOCK_PICTURES", 2)
    job = jobs.begin(Store(str(tmp_path / "out")), {"inputs": [str(photos)]}, listing.units([str(photos)], 4))
    keep = fixture == "whole_views"
    expected = dict(LocalScorer(scorer, crops, photos=keep).tables(job, range(job.units), lambda *_: None))
    assert ("photo" in expected[0].column_names) == keep
    pieces = [(1, 0, 2), (0, 1, 4), (0, 0, 1)]
    batch = pa.Table.from_pylist([{"unit": unit, "first": first, "last": last} for unit, first, last in pieces])
    blocks: list[Any]
    if way == "together":
        blocks = list(ray_workers.DecodeAndScore(None, job, crops, "cpu", "fp32", None, keep)(batch))
    else:
        decoded = list(ray_workers.decode(batch, job, scorer.checkpoint.contract, crops, keep))
        assert [len(block) for block in decoded] == [2, 2, 2]
        engine = ray_workers.ScoreDecoded(None, crops, "cpu", "fp32", None, keep)
        blocks = [engine(block) for block in decoded]
    collector = Collector(job.units, lambda *_: None)
    assert {number: table for block in blocks for number, table in collector.add(block)} == expected
    assert [error is None for error in expected[0]["error"].to_pylist()] == [True, True, True, False]
    assert any("extreme_aspect" in warnings for warnings in expected[1]["warnings"].to_pylist())


def test_blocks_of_crops_are_bounded_in_bytes(
    photos: Path, scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_workers, "BLOCK_BYTES", 1)
    job = jobs.begin(Store(str(tmp_path / "out")), {"inputs": [str(photos)]}, listing.units([str(photos)], 4))
    batch = pa.Table.from_pylist([{"unit": 1, "first": 0, "last": None}])
    assert [len(block) for block in ray_workers.decode(batch, job, scorer.checkpoint.contract, 1)] == [1, 1]
