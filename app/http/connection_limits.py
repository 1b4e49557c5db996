"""How much of it one client gets, and how many clients there may be."""

import logging
from dataclasses import dataclass
from typing import Self

from app.settings import Settings

SPARE_FILES = 256
"""What the process needs besides its connections: listeners, checkpoints, devices, libraries."""

log = logging.getLogger("smart_iqa.connections")


@dataclass(frozen=True)
class ConnectionLimits:
    """How much of it a client gets.

    Attributes:
        connections: That may be open at once.
        head_seconds: For a request's head, and for reading on after an early answer.
        unread_seconds: For reading an answer.
        drain_bytes: Read and thrown away after an early answer.
    """

    connections: int
    head_seconds: float
    unread_seconds: float
    drain_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take them from the settings, and raise the process's limit on open files if they need that."""
        return cls(
            connections=_allowed_by_files(settings.max_connections),
            head_seconds=settings.header_seconds,
            unread_seconds=settings.deadline_seconds,
            # Who sends too much often sends a few times too much, and reads the answer only then.
            drain_bytes=4 * settings.max_body_bytes,
        )


def _allowed_by_files(wanted: int) -> int:
    """Raise the process's limit on open files to what so many connections need; how many it will bear."""
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
