"""The application that Ray Serve runs, for ``smart-iqa serve --ray`` and for Serve's config files.

A config file names ``app.cluster.application:build`` as its ``import_path``; ``deploy/ray/serve.yaml`` is one.
"""

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from ray import serve

from app.cluster import autoscaling
from app.cluster.engine import EngineReplica
from app.cluster.ingress import IngressReplica
from app.cluster.remote import ENGINE, INGRESS
from app.settings import Settings

if TYPE_CHECKING:
    from ray.serve import Application

NAME = "smart-iqa"
QUIET = {"enable_access_log": False}
"""The application writes its own line for each request, without addresses."""
MAX_REPLICAS = 8
"""Of each kind, where nothing else is said."""


def build(args: dict[str, Any]) -> "Application":
    """Put the application together.

    Args:
        args: Settings by name, as the variables ``SMARTIQA_*`` of the process that builds and stronger than those.
            Numbers of replicas and what each one gets of its node are settings of the deployments.

    Raises:
        ValueError: A setting is not what it should be.
    """
    try:
        settings = Settings(**args)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'_'.join(map(str, first['loc'][:1])) or 'settings'}: {first['msg']}") from error
    given = settings.model_dump(mode="json")
    engines = serve.deployment(
        EngineReplica,
        name=ENGINE,
        # The queue of a replica has its own bound, in crops; this one lets it be reached.
        max_ongoing_requests=settings.max_queue_crops,
        autoscaling_config=autoscaling.options(1, MAX_REPLICAS),
        health_check_period_s=5,
        logging_config=QUIET,
        graceful_shutdown_timeout_s=settings.shutdown_seconds,
    )
    ingress = serve.deployment(
        serve.ingress()(IngressReplica),
        name=INGRESS,
        # What is too much is refused by the application itself, with a problem that says when to come again.
        max_ongoing_requests=settings.max_connections,
        autoscaling_config={"min_replicas": 1, "max_replicas": MAX_REPLICAS, "target_ongoing_requests": 16},
        logging_config=QUIET,
        graceful_shutdown_timeout_s=settings.shutdown_seconds,
    )
    return ingress.bind(given, engines.bind(given))
