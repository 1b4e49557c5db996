"""A Ray cluster of several nodes on this machine."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PROGRAM, Launch, Service, running


@contextmanager
def cluster_of(*nodes: dict[str, Any]) -> Iterator[Any]:
    """Start a node for each of these options of ``Cluster.add_node``; the first one is the head."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for options in nodes:
            # Without a port the dashboard takes a free one: another cluster may run on this machine.
            cluster.add_node(**{"object_store_memory": 300 * 2**20, "dashboard_port": None, **options})
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

    def by_ray(log: Path, **options: Any) -> AbstractContextManager[Service]:
        return running(log, program=PROGRAM, arguments=("--ray",), **options)

    return by_ray
