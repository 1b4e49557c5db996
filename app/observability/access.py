"""The access line: one for each request, and one for what never became a request.

Each part of the service adds to the ``RequestRecord`` of a request; the line is written when the request ends.
"""

import logging
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from ipaddress import ip_address

STAGES = ("upload", "decode_wait", "decode", "queue", "compute")
"""What the time of a request is made of, in the order of its way through the service; the rest is sending and waiting
for others of the request's pictures."""

log = logging.getLogger("smart_iqa.access")
current_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that this code works for, also on a decoder's thread; "" outside of requests."""


@dataclass(kw_only=True)
class RequestRecord:
    """What the access line tells of a request. A request of several pictures tells the sums over them.

    Attributes:
        request_id: The id that is in the answer.
        client: Address of the client; the peer's, or what a trusted proxy says.
        key: Name of the key; "" without one.
        method: HTTP method; "" if there was no request.
        route: Template of the route.
        status: Status of the answer; 0 if there was none.
        code: Code of the problem; "" without one.
        seconds: From the first header to the last byte.
        received: Bytes of the body that were read.
        model: Name of the model.
        hits: Pictures whose score was in the cache.
        misses: Pictures whose score was not.
        warnings: Codes of the warnings in the answer.
        stages: Seconds by name of ``STAGES``; those that were not reached are missing.
        trace_id: Id of the trace that the request belongs to; "" without one.
    """

    request_id: str = ""
    client: str = ""
    key: str = ""
    method: str = ""
    route: str = ""
    status: int = 0
    code: str = ""
    seconds: float = 0.0
    received: int = 0
    model: str = ""
    hits: int = 0
    misses: int = 0
    warnings: set[str] = field(default_factory=set)
    stages: dict[str, float] = field(default_factory=dict)
    trace_id: str = ""

    def spend(self, **seconds: float) -> None:
        """Add seconds to stages, by their names."""
        for stage, more in seconds.items():
            self.stages[stage] = self.stages.get(stage, 0.0) + more

    def look_up(self, *, hit: bool) -> None:
        """Note whether the score of a picture was in the cache."""
        self.hits += hit
        self.misses += not hit

    def warn(self, warnings: Iterable[str]) -> None:
        """Note the warnings of a score."""
        self.warnings.update(str(warning) for warning in warnings)

    @property
    def cache(self) -> str:
        """``hit``, ``miss``, or ``part`` if some of the pictures were hits; "" if none was looked up."""
        if self.hits and self.misses:
            return "part"
        return "hit" if self.hits else "miss" if self.misses else ""

    def fields(self) -> dict[str, object]:
        """The fields of the line in JSON; null where there is nothing to tell."""
        told: dict[str, object] = {
            "request_id": self.request_id,
            "client": self.client or None,
            "key": self.key or None,
            "method": self.method or None,
            "route": self.route or None,
            "status": self.status,
            "code": self.code or None,
            "ms": round(self.seconds * 1e3, 1),
            "bytes": self.received,
            "model": self.model or None,
            "cache": self.cache or None,
            "warnings": sorted(self.warnings),
        }
        for stage in STAGES:
            seconds = self.stages.get(stage)
            told[f"{stage}_ms"] = None if seconds is None else round(seconds * 1e3, 1)
        return {**told, "trace_id": self.trace_id or None}

    def text(self) -> str:
        """The line in words: what every request has, then what this one has besides."""
        fields = self.fields()
        head = f"{self.method or '-'} {self.route or '-'} {self.status} {self.code or '-'} {fields['ms']}ms"
        told = {
            "id": self.request_id,
            "key": self.key or "-",
            "client": self.client or "-",
            "bytes": self.received,
            "model": self.model,
            "cache": self.cache,
            **{stage: f"{fields[f'{stage}_ms']}ms" for stage in STAGES if stage in self.stages},
            "warnings": ",".join(sorted(self.warnings)),
            "trace": self.trace_id,
        }
        return " ".join([head, *(f"{name}={value}" for name, value in told.items() if value != "")])


FIELDS = tuple(RequestRecord().fields())
"""Names of the line's fields in JSON."""


def address(peer: object) -> str:
    """The address in a scope's ``client``, or a connection's; "" if there is none, as for a UNIX socket."""
    try:
        return str(ip_address(peer[0] if isinstance(peer, tuple | list) else ""))
    except ValueError:
        return ""


def write(record: RequestRecord, slow_seconds: float = 0.0) -> None:
    """Write the line of a request that has ended.

    Args:
        record: What to tell.
        slow_seconds: Time from which on a request is slow: its line is a warning. 0 for never.
    """
    slow = 0 < slow_seconds <= record.seconds
    # Probes and scrapes, every few seconds, are logged at DEBUG only.
    told = logging.INFO if record.method == "POST" or record.code else logging.DEBUG
    level = logging.WARNING if slow else told
    if log.isEnabledFor(level):
        log.log(level, "%s%s", "slow: " if slow else "", record.text(), extra=record.fields())
