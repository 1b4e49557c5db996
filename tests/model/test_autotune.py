import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.checkpoint import load
from model.inference import autotune
from model.inference.autotune import Setting
from model.inference.engine import Engine
from model.views import Items

pytestmark = pytest.mark.usefixtures("all_batch_shapes")


@pytest.fixture
def engine(checkpoint_folder: str) -> Iterator[Engine]:
    threads = torch.get_num_threads()
    loaded = load(checkpoint_folder)
    engine = Engine(loaded.network, loaded.contract, device="cpu", precision="fp32", shapes=(1, 2))
    engine.warm()
    yield engine
    torch.set_num_threads(threads)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The threads and batches that were measured, by made-up seconds instead of a stopwatch.

    The first one is the largest batch, by which the number of rounds is chosen.
    """
    rates = {(1, 1): 10.0, (1, 2): 10.3, (2, 1): 15.0, (2, 2): 30.0}
    asked: list[tuple[int, int]] = []

    def seconds(_: Engine, items: Items) -> float:
        asked.append((torch.get_num_threads(), len(items)))
        # Whatever else runs here may slow down all but one of the turns.
        slowed = 1 if asked.count(asked[-1]) == autotune.ROUNDS else 5
        return slowed * len(items) / rates[asked[-1]]

    monkeypatch.setattr(autotune, "_thread_counts", lambda: [1, 2])
    monkeypatch.setattr(autotune, "_seconds", seconds)
    monkeypatch.setattr(autotune, "BUDGET_SECONDS", 60.0)
    return asked


def test_takes_what_is_fastest(engine: Engine, asked: list[tuple[int, int]], tmp_path: Path) -> None:
    assert autotune.autotune(engine, "d", folder=tmp_path) == Setting(threads=2, cap=2)
    assert (torch.get_num_threads(), engine.cap) == (2, 2)
    assert asked[1:] == [(1, 1), (1, 2), (2, 1), (2, 2)] * autotune.ROUNDS


def test_a_batch_that_gains_next_to_nothing_stays_small(
    engine: Engine, asked: list[tuple[int, int]], tmp_path: Path
) -> None:
    assert autotune.autotune(engine, "d", threads=1, folder=tmp_path) == Setting(threads=1, cap=1)
    assert engine.shapes == (1,)
    assert set(asked[1:]) == {(1, 1), (1, 2)}


def test_remembers(engine: Engine, asked: list[tuple[int, int]], tmp_path: Path) -> None:
    setting = autotune.autotune(engine, "d", folder=tmp_path / "new")
    measured = len(asked)
    assert autotune.autotune(engine, "d", folder=tmp_path / "new") == setting
    assert len(asked) == measured > 0
    autotune.autotune(engine, "another checkpoint", threads=1, folder=tmp_path / "new")
    assert len(asked) > measured


@pytest.mark.parametrize("content", ["", "[]", "{", '{"key": [99, 2]}', '{"key": [1, 3]}', '{"key": ["1", 2]}'])
def test_a_damaged_memory_is_measured_anew(
    engine: Engine,
    asked: list[tuple[int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str,
) -> None:
    monkeypatch.setattr(autotune, "_key", lambda *_: "key")
    (tmp_path / autotune.FILE).write_text(content)
    assert autotune.autotune(engine, "d", folder=tmp_path) == Setting(threads=2, cap=2)
    assert asked
    assert json.loads((tmp_path / autotune.FILE).read_text())["key"] == [2, 2]


def test_a_folder_that_cannot_be_written(engine: Engine, asked: list[tuple[int, int]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert autotune.autotune(engine, "d", folder=tmp_path / "file") == Setting(threads=2, cap=2)
    assert asked


def test_threads_that_change_a_score_are_not_taken(
    engine: Engine, asked: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, usual = engine.predict, torch.get_num_threads()

    def moved(items: Items) -> NDArray[np.float32]:
        return predict(items) + np.float32(torch.get_num_threads() == 2 != usual)

    torch.set_num_threads(1)
    usual = 1
    monkeypatch.setattr(engine, "predict", moved)
    assert autotune.autotune(engine, "d", folder=tmp_path).threads == 1
    assert set(asked[1:]) == {(1, 1), (1, 2)}


def test_the_score_is_the_same_with_any_threads_and_batches(engine: Engine, tmp_path: Path) -> None:
    crops_NHWC = np.random.default_rng(1).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    rows: Sequence[NDArray[np.float32]] = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        rows = [*rows, engine.predict(crops_NHWC)]
    autotune.autotune(engine, "d", folder=tmp_path)
    rows = [*rows, engine.predict(crops_NHWC)]
    assert all(np.array_equal(row, rows[0]) for row in rows)


def test_slow_networks_are_measured_fewer_times(
    engine: Engine, asked: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The largest batch takes a third of a second with two threads, so that a round is taken to take 1.3 seconds.
    torch.set_num_threads(2)
    monkeypatch.setattr(autotune, "BUDGET_SECONDS", 2.5)
    assert autotune.autotune(engine, "d", folder=tmp_path) == Setting(threads=2, cap=2)
    assert asked[1:] == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_networks_that_are_too_slow_are_not_measured_and_not_remembered(
    engine: Engine, asked: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotune, "BUDGET_SECONDS", 0.0)
    assert autotune.autotune(engine, "d", folder=tmp_path) == Setting(torch.get_num_threads(), 2)
    assert autotune.autotune(engine, "d", threads=1, folder=tmp_path) == Setting(1, 2)
    assert len(asked) == 2
    assert not list(tmp_path.iterdir())


def test_a_user_without_a_home_has_no_cache(
    engine: Engine, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with caplog.at_level("INFO", logger="smart_iqa.engine"):
        assert autotune.autotune(engine, "d") == Setting(threads=2, cap=2)
    assert asked
    assert "XDG_CACHE_HOME" in caplog.text
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert autotune.cache_folder() == Path("/caches/smart-iqa")
