"""``smart-iqa serve --ray``: starts, serves and drains the application, in a new local cluster or an existing one."""

import signal
import threading
import time
from collections.abc import Sequence

import ray
from ray import serve
from ray.serve.config import HTTPOptions, ProxyLocation

from app.cluster.application import MAX_REPLICAS, NAME, application
from app.cluster.metrics_aggregation import Collected
from app.cluster.remote import INGRESS
from app.http import auth
from app.observability.start import log_start
from app.settings import Settings
from model.inference import processors

TICK_SECONDS = 0.5


def run(settings: Settings, address: str | None, models: Sequence[str], device: str) -> None:
    """Serve until SIGTERM or SIGINT, then finish the accepted requests.

    Args:
        settings: How to run.
        address: Address of a cluster. None starts one on this machine, with one replica of each kind; it ends with the
            process.
        models: Names of the models.
        device: Where they compute.

    Raises:
        ValueError, OSError: The keys cannot be used.
        ConnectionError: There is no cluster at that address.
        RuntimeError: The application cannot be started; Ray's log has the reason.
    """
    stop = threading.Event()
    access = auth.Access(settings)
    if address is None:
        # At least 2, so that a machine with one core can hold a replica of each kind.
        ray.init(address="local", num_cpus=max(processors.usable(), 2), include_dashboard=False)
    else:
        ray.init(address=address)
    # After ``ray.init``, which sets handlers of its own.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        options = HTTPOptions(host=settings.host, port=settings.port, keep_alive_timeout_s=settings.keep_alive_seconds)
        serve.start(proxy_location=ProxyLocation.EveryNode, http_options=options)
        serve.run(application(settings, 1 if address is None else MAX_REPLICAS), name=NAME, route_prefix="/")
        addresses = [f"{settings.host}:{settings.port} of every node"]
        log_start(settings, who=str(access), addresses=addresses, models=models, device=device)
        stop.wait()
        _drain(settings)
        serve.delete(NAME)
        if address is None:
            serve.shutdown()
    finally:
        ray.shutdown()


def _drain(settings: Settings) -> None:
    """Have all ingress replicas refuse new work, and wait until they have answered the accepted requests."""
    ingress = serve.get_deployment_handle(INGRESS, NAME)
    ingress.broadcast("drain").results()
    time.sleep(settings.drain_seconds)
    latest = time.monotonic() + settings.shutdown_seconds
    while time.monotonic() < latest and _in_flight(ingress.broadcast("collect").results(return_exceptions=True)):
        time.sleep(TICK_SECONDS)


def _in_flight(collected: list[Collected | Exception]) -> float:
    return sum(
        sample.value
        for answer in collected
        if isinstance(answer, Collected)
        for metric in answer.metrics
        if metric.name == "smartiqa_requests_in_flight"
        for sample in metric.samples
    )
