"""What the service makes of its checkpoints."""

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.models.loading import lane_devices, load_models
from app.settings import Settings
from model import golden
from model.checkpoint import Checkpoint
from model.inference.autotune import Setting
from model.inference.engine import Engine
from model.scorer import Scorer

pytestmark = pytest.mark.usefixtures("all_batch_shapes")


def test_two_checkpoints_of_one_name_are_refused(checkpoint_folder: Path) -> None:
    with pytest.raises(ValueError, match="two checkpoints are called"):
        load_models(Settings(checkpoints=(checkpoint_folder, checkpoint_folder), device="cpu"))


def test_the_number_of_threads_is_set(checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    # What is measured, and what is made of it, is autotune's own affair.
    monkeypatch.setattr("app.models.loading.autotune", lambda engine, *_, threads: Setting(threads or 2, engine.cap))
    load_models(Settings(checkpoints=(checkpoint_folder,), device="cpu"))
    assert chosen == []
    load_models(Settings(checkpoints=(checkpoint_folder,), device="cpu", threads=3))
    assert chosen == [3]


def test_an_engine_whose_scores_vary_is_told_of(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warm = Engine.warm

    def warm_to_other_bits(self: Engine) -> None:
        warm(self)
        self.reproducible = False

    monkeypatch.setattr(Engine, "warm", warm_to_other_bits)
    with caplog.at_level(logging.WARNING):
        (model,) = load_models(Settings(checkpoints=(checkpoint_folder,), device="cpu")).values()
    assert not model.reproducible
    assert "may differ in the last digits" in caplog.text


def gpus(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("count", "device", "lanes"),
    [
        (0, "auto", ["cpu"]),
        (2, "cpu", ["cpu"]),
        (1, "auto", ["cuda:0", "cuda:0"]),
        (2, "cuda", ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]),
        (2, "cuda:1", ["cuda:1", "cuda:1"]),
    ],
)
def test_a_gpu_has_two_lanes_and_the_cpu_one(
    count: int, device: str, lanes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(count, monkeypatch)
    assert list(lane_devices(device)) == lanes


@pytest.mark.parametrize(("count", "device"), [(0, "cuda"), (0, "cuda:0"), (2, "cuda:2")])
def test_a_gpu_that_is_not_there(count: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(count, monkeypatch)
    with pytest.raises(ValueError, match="usable CUDA devices"):
        lane_devices(device)


class Pretended:
    """Engines on the CPU that say they are on GPUs, and the golden pictures that were scored on each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proven: list[str] = []
        of, run_at, verify = Engine.of, Engine._run_at, golden.verify

        def pretend(loaded: Checkpoint, *, device: str, precision: Any) -> Engine:
            engine = of(loaded, device="cpu", precision=precision)
            engine.device = device
            return engine

        def note(scorer: Scorer) -> Any:
            self.proven.append(scorer.engine.device)
            return verify(scorer)

        def twin(self: Engine) -> Engine:
            return copy.copy(self)

        def on_the_cpu(self: Engine, shape: int, parts: Any) -> Any:
            pretended, self.device = self.device, "cpu"
            rows_ND = run_at(self, shape, parts)
            self.device = pretended
            return rows_ND

        monkeypatch.setattr(Engine, "of", pretend)
        monkeypatch.setattr(Engine, "_run_at", on_the_cpu)
        monkeypatch.setattr(Engine, "twin", twin)
        monkeypatch.setattr(golden, "verify", note)


def test_each_device_has_a_network_and_is_proven_once(checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretended = Pretended(monkeypatch)
    settings = Settings(checkpoints=(checkpoint_folder,), precision="fp32")
    (model,) = load_models(settings, ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]).values()
    assert pretended.proven == ["cuda:0", "cuda:1"]
    assert model.devices == ("cuda:0", "cuda:1")
    networks = [id(engine._network) for engine in model.engines if isinstance(engine, Engine)]
    assert networks[0] == networks[1] != networks[2] == networks[3]
    assert model.reproducible


def test_devices_that_disagree_are_told_of(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Pretended(monkeypatch)
    predict = Engine.predict

    def other_bits(self: Engine, items: Any) -> Any:
        rows_ND = predict(self, items)
        return np.nextafter(rows_ND, 1) if self.device == "cuda:1" else rows_ND

    monkeypatch.setattr(Engine, "predict", other_bits)
    settings = Settings(checkpoints=(checkpoint_folder,), precision="fp32")
    (model,) = load_models(settings, ["cuda:0", "cuda:1"]).values()
    assert not model.reproducible
    assert "may differ in the last digits" in caplog.text
