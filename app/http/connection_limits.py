"""Limits for client connections: how many, how slow, how much."""

import logging
from dataclasses import dataclass
from typing import Self

from app.settings import Settings

SPARE_FILES = 256
"""File descriptors that the process needs besides its connections: listeners, checkpoints, devices, libraries."""

log = logging.getLogger("smart_iqa.connections")


@dataclass(frozen=True)
class ConnectionLimits:
    """Connection limits and timeouts per client.

    Attributes:
        connections: Number of connections that may be open at once, of all clients together.
        head_seconds: Longest time for a request's head, and for discarding the rest of a body after an early answer.
        unread_seconds: Longest time in which a client does not read its answer.
        drain_bytes: Bytes of a connection that are discarded at most after an early answer.
    """

    connections: int
    head_seconds: float
    unread_seconds: float
    drain_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Derive the limits from the settings, and raise the process's limit on open files as far as they need it."""
        return cls(
            connections=_allowed_by_files(settings.max_connections),
            head_seconds=settings.header_seconds,
            unread_seconds=settings.deadline_seconds,
            # A client whose body is too large usually sends all of it, a few times the limit, before it reads.
            drain_bytes=4 * settings.max_body_bytes,
        )


def _allowed_by_files(wanted: int) -> int:
    """Raise the process's limit on open files for that many connections; returns how many it allows."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted + SPARE_FILES:
        return wanted
    most = wanted + SPARE_FILES if hard == resource.RLIM_INFINITY else min(wanted + SPARE_FILES, hard)
    if most > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    allowed = max(min(wanted, most - SPARE_FILES), most // 2)
    if allowed < wanted:
        log.warning("the limit of %d open files leaves room for %d connections, not %d", most, allowed, wanted)
    return allowed
