import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.checkpoint import load
from model.contract import Contract
from model.inference.engine import DeviceBroken, Engine, mean_std, normalise
from model.networks import registry
from model.scale import Scale
from model.scorer import Scorer
from model.views import Items

pytestmark = pytest.mark.usefixtures("all_batch_shapes")


@pytest.fixture(scope="module")
def crops_NHWC() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (11, 224, 224, 3), dtype=np.uint8)


def test_a_crop_scores_the_same_in_any_company(scorer: Scorer, crops_NHWC: NDArray[np.uint8]) -> None:
    engine = scorer.engine
    alone = np.concatenate([engine.run([crop[None]]) for crop in crops_NHWC])
    assert np.array_equal(engine.predict(crops_NHWC), alone)
    for size in range(1, engine.cap + 1):
        assert np.array_equal(engine.run([crops_NHWC[:size]]), alone[:size])
    mixed = engine.run([crops_NHWC[4:6], crops_NHWC[9:10], crops_NHWC[0:3]])
    assert np.array_equal(mixed, alone[[4, 5, 9, 0, 1, 2]])


def test_only_shapes_that_agree_are_admitted(scorer: Scorer) -> None:
    assert scorer.engine.reproducible
    assert scorer.engine.shapes[-1] == scorer.engine.cap


def test_a_shape_that_disagrees_is_dropped(contract: Contract) -> None:
    class SizeDependent(torch.nn.Module):
        """Answers differ where fewer than four crops come together."""

        def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, None]:
            return crops.mean(dim=(1, 2, 3)) + (len(crops) < 4), None

    engine = Engine(SizeDependent(), contract, device="cpu", shapes=(1, 2, 4, 8))
    engine.warm()
    assert engine.shapes == (4, 8)


def test_rows_are_the_networks_own(scorer: Scorer, checkpoint_folder: str, crops_NHWC: NDArray[np.uint8]) -> None:
    loaded = load(checkpoint_folder)
    normalised = torch.from_numpy(crops_NHWC).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (loaded.contract.mean, loaded.contract.std))
    with torch.inference_mode():
        score, weights, *_ = loaded.network((normalised - mean) / std)
    rows = scorer.engine.predict(crops_NHWC)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows[:, 0], score.numpy(), atol=1e-4)
    np.testing.assert_allclose(rows[:, 1:], weights.numpy(), atol=1e-5)


def test_networks_without_stage_weights_give_one_column(contract: Contract, crops_NHWC: NDArray[np.uint8]) -> None:
    engine = Engine(registry.build("smart-mobile-no-attention"), contract, device="cpu")
    assert engine.predict(crops_NHWC[:2]).shape == (2, 1)


def test_normalise(contract: Contract) -> None:
    crops = torch.full((1, 2, 2, 3), 255, dtype=torch.uint8)
    expected = (1 - torch.tensor(contract.mean)) / torch.tensor(contract.std)
    torch.testing.assert_close(normalise(crops, mean_std(contract, "cpu"))[0, :, 0, 0], expected)


def test_too_many_crops_are_our_mistake(scorer: Scorer) -> None:
    too_many = np.zeros((scorer.engine.cap + 1, 224, 224, 3), np.uint8)
    with pytest.raises(AssertionError):
        scorer.engine.run([too_many])


def test_bf16_is_close(checkpoint_folder: str, scorer: Scorer, crops_NHWC: NDArray[np.uint8]) -> None:
    engine = Engine.of(load(checkpoint_folder), device="cpu", precision="bf16")
    assert engine.precision == "bf16"
    np.testing.assert_allclose(engine.predict(crops_NHWC), scorer.engine.predict(crops_NHWC), atol=0.1)


def test_precision_by_rule(monkeypatch: pytest.MonkeyPatch, contract: Contract) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    monkeypatch.setattr("model.inference.linear.has_bf16", lambda: True)
    linear, depthwise = torch.nn.Linear(2, 2), torch.nn.Conv2d(4, 4, 3, groups=4)
    assert Engine(linear, contract, device="cpu").precision == "bf16"
    assert Engine(depthwise, contract, device="cpu").precision == "fp32"
    assert Engine(depthwise, contract, device="cpu", precision="bf16").precision == "bf16"
    monkeypatch.setattr("model.inference.linear.has_bf16", lambda: False)
    assert Engine(linear, contract, device="cpu").precision == "fp32"
    assert Engine(linear, contract, device="cpu", precision="bf16").precision == "bf16"
    monkeypatch.setattr("model.inference.linear.has_bf16", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert Engine(linear, contract, device="cpu").precision == "fp32"


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells what happens without CUDA")
def test_a_device_that_is_not_there(contract: Contract) -> None:
    assert Engine(torch.nn.Linear(2, 2), contract).device == "cpu"
    with pytest.raises(ValueError, match="no usable CUDA"):
        Engine(torch.nn.Linear(2, 2), contract, device="cuda")


def test_a_twin_shares_the_weights_and_gives_the_same_rows(contract: Contract, crops_NHWC: NDArray[np.uint8]) -> None:
    engine = Engine(registry.build("smart-mobile"), contract, device="cpu", precision="fp32", shapes=(2, 4))
    engine.warm()
    twin = engine.twin()
    assert twin._network is engine._network
    assert twin._staging.data_ptr() != engine._staging.data_ptr()
    assert (twin.device, twin.precision, twin.shapes) == (engine.device, engine.precision, engine.shapes)
    with ThreadPoolExecutor(2) as pool:
        first, second = [pool.submit(one.predict, crops_NHWC) for one in (engine, twin)]
        assert np.array_equal(first.result(), second.result())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_twin_on_a_gpu_computes_the_same_at_the_same_time(
    checkpoint_folder: str, crops_NHWC: NDArray[np.uint8]
) -> None:
    engine = Engine.of(load(checkpoint_folder), device="cuda:0")
    twin = engine.twin()
    assert engine._stream != twin._stream
    alone = engine.predict(crops_NHWC)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            futures = [pool.submit(one.predict, crops_NHWC) for one in (engine, twin)]
            assert all(np.array_equal(future.result(), alone) for future in futures)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_is_reproducible_and_agrees_with_the_cpu(
    checkpoint_folder: str, scorer: Scorer, crops_NHWC: NDArray[np.uint8]
) -> None:
    engine = Engine.of(load(checkpoint_folder), device="cuda", precision="fp32")
    assert engine.reproducible
    np.testing.assert_allclose(engine.predict(crops_NHWC), scorer.engine.predict(crops_NHWC), atol=1e-3)


def short_of_memory(engine: Engine, most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let batches above a size run out of memory; the sizes that were tried."""
    tried: list[int] = []
    run_at = engine._run_at

    def run(shape: int, parts: Sequence[Items]) -> NDArray[np.float32]:
        tried.append(shape)
        if shape > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run_at(shape, parts)

    monkeypatch.setattr(engine, "_run_at", run)
    return tried


def test_memory_that_runs_out_halves_batches_for_a_while(
    scorer: Scorer, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(scorer.checkpoint.network, contract, device="cpu", precision="fp32", shapes=(2, 4, 8))
    items = contract.probe(8, (224, 224, 3))
    expected = engine.run([items])
    tried = short_of_memory(engine, 4, monkeypatch)
    np.testing.assert_allclose(engine.run([items[:5], items[5:]]), expected, rtol=1e-5)
    assert tried == [8, 4, 4]
    assert engine.cap == 4
    # A batch that was formed before is still taken.
    assert len(engine.run([items])) == 8
    monkeypatch.undo()
    monkeypatch.setattr("model.inference.engine.RECOVERY_BATCHES", 6)
    tried = short_of_memory(engine, 8, monkeypatch)
    while engine.cap == 4:
        engine.run([items[:2]])
    assert len(tried) < 6
    engine.run([items])
    assert tried[-1] == 8


def test_memory_that_is_too_little_for_one_item_is_an_error(
    scorer: Scorer, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(scorer.checkpoint.network, contract, device="cpu", precision="fp32", shapes=(2, 4))
    tried = short_of_memory(engine, 0, monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        engine.run([contract.probe(4, (224, 224, 3))])
    assert tried == [4, 2]


def test_a_broken_device_is_no_ordinary_error(
    scorer: Scorer, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(scorer.checkpoint.network, contract, device="cpu", precision="fp32", shapes=(2,))

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(engine, "_run_at", fail)
    monkeypatch.setattr(engine, "_kind", "cuda")
    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    with pytest.raises(DeviceBroken):
        engine.run([contract.probe(2, (224, 224, 3))])
    # A batch that fails on a device that lives is an error like any other.
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    with pytest.raises(RuntimeError, match="device-side"):
        engine.run([contract.probe(2, (224, 224, 3))])


@pytest.mark.parametrize(
    ("count", "shapes"),
    [(1, [1]), (3, [2, 1]), (7, [8]), (9, [8, 1]), (11, [8, 2, 1]), (12, [8, 4]), (13, [16]), (16, [16])],
)
def test_what_would_be_mostly_padding_is_cut(contract: Contract, count: int, shapes: list[int]) -> None:
    network = Watched()
    engine = Engine(network, contract, device="cpu", precision="fp32", shapes=(1, 2, 4, 8, 16))
    probe = contract.probe(count, (224, 224, 3))
    met: list[int] = []
    run_at = engine._run_at

    def watch(shape: int, parts: Sequence[Items]) -> NDArray[np.float32]:
        met.append(shape)
        return run_at(shape, parts)

    engine._run_at = watch  # type: ignore[method-assign]
    rows = engine.run([probe[:1], probe[1:]]) if count > 1 else engine.run([probe])
    assert met == shapes
    alone = np.concatenate([run_at(1, [item[None]]) for item in probe])
    np.testing.assert_allclose(rows, alone, rtol=1e-5)


class Watched(torch.nn.Module):
    """Notes the shapes that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __deepcopy__(self, memo: object) -> "Watched":
        return self

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, None]:
        self.seen.add(tuple(inputs.shape))
        return inputs.flatten(1).mean(dim=1), None


TOKENS = {"view": "tokens", "crops": 1, "longer_sides": (224,)}


@pytest.mark.parametrize("fields", [{"crop_size": 8, "width": 8, "height": 8}, TOKENS], ids=["crops", "tokens"])
def test_triton_8141_no_network_meets_a_shape_that_was_not_warmed(fields: dict[str, Any]) -> None:
    """Whatever is asked, in any order, and also when memory runs out in between."""
    contract = Contract(**{"scale": Scale(dataset="made-up", min=0.0, max=1.0), **fields})
    network = Watched()
    engine = Engine(network, contract, device="cpu", precision="fp32", shapes=(2, 3, 5))
    engine.warm()
    warmed = frozenset(network.seen)
    assert len({shape[1:] for shape in warmed}) == len(set(engine.item_shapes))
    probes = {shape: contract.probe(5, shape) for shape in engine.item_shapes}
    run_at = engine._run_at
    step = st.tuples(st.sampled_from(engine.item_shapes), st.lists(st.integers(1, 5), min_size=1), st.integers(2, 9))

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.lists(step, min_size=1, max_size=8))
    def ask(steps: list[tuple[tuple[int, ...], list[int], int]]) -> None:
        for item_shape, sizes, most in steps:

            def run(shape: int, parts: Sequence[Items], most: int = most) -> NDArray[np.float32]:
                if shape > most:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return run_at(shape, parts)

            engine._run_at = run  # type: ignore[method-assign]
            for stop in range(1, len(sizes) + 1):
                if sum(sizes[:stop]) <= engine.cap:
                    engine.run([probes[item_shape][:size] for size in sizes[:stop]])
            assert network.seen <= warmed

    ask()


@pytest.mark.parametrize("used", ["the parent's scorer", "one of its own"])
def test_a_process_forked_after_scoring_raises_instead_of_waiting(
    scorer: Scorer, checkpoint_folder: str, crops_NHWC: NDArray[np.uint8], used: str
) -> None:
    def score() -> object:
        mine = scorer if used == "the parent's scorer" else Scorer.load(checkpoint_folder, device="cpu")
        return mine.engine.predict(crops_NHWC[:1])

    score()
    assert _fork(score) == "RuntimeError: spawn"


def _fork(call: Callable[[], object]) -> str:
    """The error of a call in a forked process, and whether it says what to do."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            call()
        except Exception as error:
            os.write(writing, f"{type(error).__name__}: {'spawn' if 'spawn' in str(error) else error}".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    os.waitpid(child, 0)
    return text
