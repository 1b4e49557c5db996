"""What workers get of a cluster, and which errors end a training; tests/e2e/ray trains on one."""

from typing import Any

import pytest

from training import cluster
from training.datasets import DatasetError
from training.errors import TrainingError


def has(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float], dead: dict[str, float] | None = None) -> None:
    """Let the cluster be of these nodes."""
    found = [{"Alive": True, "Resources": node} for node in nodes]
    if dead is not None:
        found.append({"Alive": False, "Resources": dead})
    monkeypatch.setattr("training.cluster.ray.nodes", lambda: found)


@pytest.mark.parametrize(
    ("nodes", "decoders", "resources"),
    [
        ([{"CPU": 8}], None, {"CPU": 1}),
        ([{"CPU": 8}], 2, {"CPU": 3}),
        ([{}, {"CPU": 16, "GPU": 4}], None, {"CPU": 4, "GPU": 1}),
        # Every kind of node must have room.
        ([{"CPU": 64, "GPU": 4}, {"CPU": 8, "GPU": 4}], None, {"CPU": 2, "GPU": 1}),
        ([{"CPU": 96, "GPU": 2}], None, {"CPU": 9, "GPU": 1}),
        ([{"CPU": 1, "GPU": 2}], None, {"CPU": 1, "GPU": 1}),
        ([{"CPU": 96, "GPU": 2}], 0, {"CPU": 1, "GPU": 1}),
    ],
)
def test_what_a_worker_gets(
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[dict[str, float]],
    decoders: int | None,
    resources: dict[str, float],
) -> None:
    has(monkeypatch, *nodes, dead={"CPU": 2, "GPU": 1})
    assert cluster._resources(decoders) == resources


class Wrapped(Exception):
    """As Ray hands over what a worker raised."""

    def __init__(self, error: Exception) -> None:
        self._base_exc = error


@pytest.mark.parametrize("error", [DatasetError("no picture"), OSError(28, "full"), TrainingError("no number")])
def test_what_would_come_again_ends_the_training(error: Exception) -> None:
    failures: dict[int, Any] = {0: Wrapped(RuntimeError("connection closed")), 1: Wrapped(error)}
    with pytest.raises(type(error)) as raised:
        cluster._StopOnFatalError().after_exception(None, failures)
    assert raised.value is error


def test_losses_are_told_and_do_not_end_it(capsys: pytest.CaptureFixture[str]) -> None:
    cluster._StopOnFatalError().after_exception(None, {1: RuntimeError("the node died\nwith details")})
    assert capsys.readouterr().err == "worker 1 was lost: the node died\n"
