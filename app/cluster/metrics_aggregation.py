"""Merges the metrics of all replicas into one answer, each sample with the name of its replica.

Ray's proxy sends a scrape to any one ingress replica, which collects the metrics of all others.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, Metric

from app.observability import metrics as exposition
from app.observability.metrics import Metrics, Rendered

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

log = logging.getLogger("smart_iqa.cluster")

SECONDS = 5.0
"""Time limit for a replica's metrics; a scrape leaves slower replicas out."""


class Collected(NamedTuple):
    """The metrics of a replica, and its name in the cluster."""

    replica: str
    metrics: list[Metric]


def collect(metrics: Metrics) -> Collected:
    """Collect the metrics of this process, which is a replica."""
    from ray import serve

    name = serve.get_replica_context().replica_id
    return Collected(f"{name.deployment_id.name}#{name.unique_id}", metrics.collect())


async def gather(*deployments: "DeploymentHandle") -> list[Collected]:
    """Collect the metrics of all replicas of some deployments; those that do not answer in time are left out."""
    calls = [each.broadcast("collect").results_async(timeout_s=SECONDS, return_exceptions=True) for each in deployments]
    collected: list[Collected] = []
    for answers in await asyncio.gather(*calls, return_exceptions=True):
        for answer in [answers] if isinstance(answers, BaseException) else answers:
            if isinstance(answer, Collected):
                collected.append(answer)
            else:
                log.warning("metrics of a replica are missing: %s", type(answer).__name__)
    return sorted(collected, key=lambda entry: entry.replica)


def render(collected: Iterable[Collected], accept: str = "") -> Rendered:
    """Write metrics with the label ``replica``, in the format that the header ``Accept`` asks for."""
    families: dict[str, Metric] = {}
    for replica, metrics in collected:
        for metric in metrics:
            family = families.setdefault(
                metric.name, Metric(metric.name, metric.documentation, metric.type, metric.unit)
            )
            for sample in metric.samples:
                labels = {**sample.labels, "replica": replica}
                family.add_sample(sample.name, labels, sample.value, exemplar=sample.exemplar)
    registry = CollectorRegistry()
    registry.register(_Families(list(families.values())))
    return exposition.render(registry, accept)


class _Families:
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
