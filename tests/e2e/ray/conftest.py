"""A Ray cluster of several nodes on this machine."""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import commands
from tests.e2e.conftest import MAIN, Launch, Service, running


def forked() -> dict[str, str]:
    """Options of a node whose workers are forks of a process that has imported torch, and not yet Ray.

    Coverage is measured in workers that Ray starts itself.
    """
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        return {}
    return {
        "setup_worker_path": str(commands.folder() / "python"),
        "worker_path": str(Path(__file__).with_name("worker.py")),
    }


def add_node(cluster: Any, **options: Any) -> None:
    """Start a node for these options of ``Cluster.add_node``."""
    usual = {"object_store_memory": 300 * 2**20, "include_dashboard": False, "no_monitor": True}
    cluster.add_node(**{**usual, **forked(), **options})


OPTIONS_OF_ITS_NODE = (
    "from functools import partialmethod; from ray._private.parameter import RayParams; "
    "RayParams.__init__ = partialmethod(RayParams.__init__, **{})"
)


@contextmanager
def cluster_of(*nodes: dict[str, Any]) -> Iterator[Any]:
    """Start a node for each of these options of ``Cluster.add_node``; the first one is the head."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for options in nodes:
            add_node(cluster, **options)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> Iterator[None]:
    """Nothing is reported to anybody, and slow or busy machines are borne with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Else every other process of the machine goes before them.
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # Nor are workers killed for what others hold of its memory.
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")
        # Workers import this checkout, wherever they are started.
        patch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]))
        yield


@pytest.fixture(scope="session")
def launch() -> Launch:
    """Starts services that Ray serves."""
    program = (sys.executable, "-c", f"{OPTIONS_OF_ITS_NODE.format(forked())}; {MAIN}")

    def by_ray(log: Path, **options: Any) -> AbstractContextManager[Service]:
        return running(log, arguments=("--ray",), **{**options, "program": program})

    return by_ray
