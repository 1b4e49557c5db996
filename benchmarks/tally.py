"""Outcomes of the requests of ``benchmarks/chaos.py``."""

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EXPLAINED = ("engine_failed", "image_quarantined", "deadline_exceeded", "draining", "not_ready")
"""What may happen to a sound request: by an injected fault, by the load, by the end of a process."""


@dataclass
class Tally:
    """Outcomes of the requests.

    Attributes:
        statuses: By kind of client and status (or what else happened).
        lost: Requests without an answer although their clients stayed.
        wrong: Answers that are not the offline scorer's.
        unexplained: Statuses from 500 on that no injected fault explains.
        seconds: Times to a score, by kind.
        shed: Times to a 429.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    shed: list[float] = field(default_factory=list)

    def judge(
        self,
        expected: Mapping[tuple[str, int], float],
        kind: str,
        place: int,
        status: int,
        body: Mapping[str, Any],
        seconds: float,
    ) -> None:
        """Check and count the answer to an undamaged picture.

        Args:
            expected: Scores by digest of the checkpoint and place of the picture.
            kind: Of the client.
            place: Which picture it sent.
            status: What it was answered with.
            body: The same, in full.
            seconds: How long it waited.
        """
        self.statuses[f"{kind} {status}"] += 1
        if status == 200:
            score = expected[body["model"]["digest"], place]
            if body["score"] != score:
                self.wrong.append(f"{kind}: {body['score']}, not {score}")
            self.seconds.setdefault(kind, []).append(seconds)
        elif status == 429:
            self.shed.append(seconds)
        elif body.get("code") not in EXPLAINED:
            self.unexplained.append(f"{kind}: {status} {dict(body)}")


def quantiles(values: list[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    if len(values) < 2:
        return {"p50": 0.0, "p99": 0.0}
    cuts = statistics.quantiles(values, n=100)
    return {"p50": round(cuts[49], 4), "p99": round(cuts[98], 4)}
