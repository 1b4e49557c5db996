"""The one log line of every start: who may ask, where, and how pictures are scored."""

import ipaddress
import logging
from collections.abc import Sequence

from app.settings import Settings

log = logging.getLogger("smart_iqa.start")

LIMITS = (
    *("max_body_bytes", "max_upload_bytes", "max_pixels", "max_inflight_pixels", "max_decodes", "max_queue_crops"),
    *("max_connections", "key_crops_per_second", "deadline_seconds"),
)
"""Settings that the line shows as limits."""


def log_start(settings: Settings, *, who: str, addresses: Sequence[str], models: Sequence[str], device: str) -> None:
    """Write the line; a warning if everybody may ask from other machines.

    Args:
        settings: How the service runs.
        who: Who may ask, as of ``auth.Access``.
        addresses: Where it listens.
        models: Names of the models, or their folders.
        device: Where they compute.
    """
    parts = (
        who,
        f"listens on {', '.join(addresses)}",
        f"pages of other origins: {', '.join(settings.cors_origins) or 'none'}",
        f"models: {', '.join(models)}",
        f"device: {device}, precision: {settings.precision}, threads: {settings.threads or 'as measured'}",
        f"decoder: {settings.decode_threads} {settings.decoder_kind}",
        f"limits: {', '.join(f'{name}={getattr(settings, name)}' for name in LIMITS)}",
    )
    exposed = not (settings.api_keys or settings.api_keys_file or is_loopback(settings.host))
    log.log(logging.WARNING if exposed else logging.INFO, "%s", "; ".join(parts))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
