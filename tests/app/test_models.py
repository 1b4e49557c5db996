"""What the service makes of its checkpoints."""

import logging
from pathlib import Path

import pytest
import torch

from app.models import load_models
from app.settings import Settings
from model.engine import Engine


def test_two_checkpoints_of_one_name_are_refused(checkpoint_folder: Path) -> None:
    with pytest.raises(ValueError, match="two checkpoints are called"):
        load_models(Settings(checkpoints=(checkpoint_folder, checkpoint_folder), device="cpu"))


def test_the_number_of_threads_is_set(checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
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
