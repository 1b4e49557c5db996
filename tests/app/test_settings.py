from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings, table
from model.options import DEFAULT_CHECKPOINT
from tests.conftest import ROOT


def test_defaults_serve_the_default_checkpoint() -> None:
    assert Settings().checkpoints == (DEFAULT_CHECKPOINT,)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMARTIQA_CHECKPOINTS", "a, b/c")
    monkeypatch.setenv("SMARTIQA_PORT", "9000")
    assert Settings().checkpoints == (Path("a"), Path("b/c"))
    assert Settings().port == 9000
    assert Settings(port=1).port == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("DEVICE", "tpu"),
        ("CHECKPOINTS", ""),
        ("MAX_QUEUE_CROPS", "63"),
        ("DEADLINE_SECONDS", "0"),
        ("DEADLINE_SECONDS", "60"),
    ],
)
def test_values_out_of_bounds(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"SMARTIQA_{name}", value)
    with pytest.raises(ValidationError):
        Settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_every_setting_is_described_and_their_page_shows_them() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert table() in (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_devices_that_can_be_named(device: str) -> None:
    assert Settings(device=device).device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "cuda:0,cuda:1", "cuda:0\n"])
def test_devices_that_cannot(device: str) -> None:
    with pytest.raises(ValidationError):
        Settings(device=device)
