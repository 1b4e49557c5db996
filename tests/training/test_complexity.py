from pathlib import Path
from typing import Any

import pytest

from model.networks import registry
from tests.training import dying
from training import complexity

SMALL: dict[str, Any] = {"batch": 1, "rounds": 1, "device": "cpu"}


@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"),
    [("smart-tiny", 29.52, 4.47), ("smart-small", 50.84, 8.65), ("smart-base", 89.11, 15.28)],
)
def test_the_published_complexity(name: str, parameters: float, gmacs: float) -> None:
    """Table VI of the SMART-IQA paper."""
    network = registry.build(name)
    assert registry.parameter_count(network) / 1e6 == pytest.approx(parameters, abs=0.005)
    assert complexity.gmacs(network) == pytest.approx(gmacs, rel=0.03)


def test_complexity_is_measured() -> None:
    cost = complexity.measure("smart-mobile", batch=2, rounds=1, device="cpu")
    assert cost.parameters == cost.trainable == 3_101_517
    assert cost.latency_ms > 0
    assert cost.throughput > 0
    assert cost.items == "crops"


def test_the_memory_of_a_network_holds_its_weights_and_nothing_of_this_process() -> None:
    ballast = bytearray(b"\1") * 700_000_000
    cost = complexity.measure_alone("life-iqa-mobile", **SMALL)
    assert len(ballast) == 700_000_000
    assert cost.peak_mb is not None
    assert 4 * cost.parameters < cost.peak_mb * 1e6 < 1e9


def test_memory_is_unknown_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(complexity, "STATUS", tmp_path / "none")
    assert complexity.measure("smart-mobile", **SMALL).peak_mb is None


def test_a_process_that_dies_is_one_sentence() -> None:
    with pytest.raises(RuntimeError, match="its process died"):
        complexity.measure_alone("smart-mobile", **SMALL, function=dying.die)
