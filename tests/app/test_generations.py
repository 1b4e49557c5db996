"""Which models are kept, and the batcher's part in it."""

import asyncio
import dataclasses
import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.batching.submission import Submission
from app.models.loading import LoadedModel
from app.scoring.service import Generations
from tests.app.conftest import served
from tests.app.fakes import FakeEngine, crops, rows_of, until
from tests.app.test_batcher import FAR, Bench, on_loop


@pytest.fixture
def models(checkpoint_folder: Path) -> list[LoadedModel]:
    return [served(checkpoint_folder, FakeEngine(), name=name) for name in "abc"]


def test_a_model_goes_when_the_last_request_that_may_know_it_has_ended(models: list[LoadedModel]) -> None:
    a, b, c = models
    gone: list[str] = []
    generations = Generations(gone.extend)
    assert generations.current == {}
    generations.replace({"a": a})
    with ExitStack() as early, ExitStack() as late:
        early.enter_context(generations.hold())
        generations.replace({"a": a, "b": b})
        late.enter_context(generations.hold())
        generations.replace({"c": c})
        assert generations.current == {"c": c}
        late.close()
        assert gone == [], "the early request may have looked for its model late"
        early.close()
        assert gone == [a.key, b.key]


def test_the_stages_of_a_model_go_with_it(models: list[LoadedModel]) -> None:
    stages: Any = [FakeEngine()]
    a, b = dataclasses.replace(models[0], stage_engines=stages, stage_shapes=((1, 1),)), models[1]
    gone: list[str] = []
    generations = Generations(gone.extend)
    generations.replace({"a": a})
    generations.replace({"b": b})
    assert gone == [a.key, a.stages_key]


def test_a_model_that_comes_back_stays(models: list[LoadedModel]) -> None:
    a, b, _ = models
    gone: list[str] = []
    generations = Generations(gone.extend)
    generations.replace({"a": a})
    with generations.hold():
        generations.replace({"b": b})
        generations.replace({"a": a})
    assert gone == [b.key]


def test_keys_name_the_digest(models: list[LoadedModel]) -> None:
    assert models[0].key == f"a@{models[0].digest}"


@on_loop
async def test_a_further_engine_is_used_and_forgotten(bench: Bench) -> None:
    engine = FakeEngine()
    bench.batcher.put_engine("n", [engine])
    answer = await bench.batcher.submit(Submission(key="n", items=crops(1, 2), deadline=FAR))
    assert np.array_equal(answer.rows_ND, rows_of([1, 2]))
    bench.batcher.drop_engine("n")
    assert set(bench.batcher._engines) == {"m"}
    gone = weakref.ref(engine)
    del engine
    await until(lambda: gone() is None)


@on_loop
async def test_an_engine_is_kept_until_its_jobs_are_done(bench: Bench) -> None:
    held = await bench.hold()
    bench.batcher.put_engine("n", [FakeEngine()])
    task = asyncio.ensure_future(bench.batcher.submit(Submission(key="n", items=crops(1), deadline=FAR)))
    await asyncio.sleep(0)
    bench.batcher.drop_engine("n")
    assert "n" in bench.batcher._engines
    bench.engine.gate.set()
    assert np.array_equal((await task).rows_ND, rows_of([1]))
    await held
    assert set(bench.batcher._engines) == {"m"}


@on_loop
async def test_an_engine_can_come_back_before_it_is_gone(bench: Bench) -> None:
    held = await bench.hold()
    bench.batcher.drop_engine("m")
    bench.batcher.put_engine("m", [bench.engine])
    bench.engine.gate.set()
    await held
    assert set(bench.batcher._engines) == {"m"}
    await bench.submit(1)
