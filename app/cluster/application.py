"""The application that Ray Serve runs, for ``smart-iqa serve --ray`` and for Serve's config files.

The ``import_path`` of a config file is ``smart_iqa.app.cluster.application:build``; ``deploy/ray/serve.yaml`` is one.
"""

from typing import TYPE_CHECKING, Any

from ray import serve

from app.cluster import autoscaling
from app.cluster.engine import EngineReplica
from app.cluster.ingress import IngressReplica
from app.cluster.remote import ENGINE, INGRESS
from app.settings import Settings, read

if TYPE_CHECKING:
    from ray.serve import Application

NAME = "smart-iqa"
QUIET = {"enable_access_log": False}
"""Turns Serve's access log off: the application logs each request itself, without URLs."""
MAX_REPLICAS = 8
"""Default limit on the replicas of each kind."""


def build(args: dict[str, Any]) -> "Application":
    """Build the application of a config file.

    Args:
        args: Settings by name. They override the variables ``SMARTIQA_*`` of the process that builds the application.
            Numbers of replicas and their resources are options of the deployments instead.

    Raises:
        ValueError: A setting is unknown or wrong.
    """
    return application(read(**args))


def application(settings: Settings, most: int = MAX_REPLICAS) -> "Application":
    """Build the application.

    Args:
        settings: How to run.
        most: Largest number of replicas of each kind.
    """
    given = settings.model_dump(mode="json")
    engines = serve.deployment(
        EngineReplica,
        name=ENGINE,
        # The replica's own queue refuses first: its bound is in crops, and a request has at least one.
        max_ongoing_requests=settings.max_queue_crops,
        autoscaling_config=autoscaling.options(1, most),
        health_check_period_s=5,
        logging_config=QUIET,
        graceful_shutdown_timeout_s=settings.shutdown_seconds,
    )
    ingress = serve.deployment(
        serve.ingress()(IngressReplica),
        name=INGRESS,
        # The application itself refuses surplus requests, with a problem and Retry-After.
        max_ongoing_requests=settings.max_connections,
        autoscaling_config={"min_replicas": 1, "max_replicas": most, "target_ongoing_requests": 16},
        logging_config=QUIET,
        graceful_shutdown_timeout_s=settings.shutdown_seconds,
    )
    return ingress.bind(given, engines.bind(given))
