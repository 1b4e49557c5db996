"""A service of written answers, and a client of either kind that asks it without waiting."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx2

from smart_iqa_client import AsyncClient, Client, Outcome, Retries

Kind = Literal["Client", "AsyncClient"]
Answer = httpx2.Response | httpx2.RequestError
SCORE: dict[str, Any] = {
    "score": 71.5,
    "scale": {"min": 0, "max": 100, "higher_is_better": True},
    "grade": "good",
    "percentile": None,
    "raw_score": 0.715,
    "raw_scale": {"dataset": "made-up", "min": 0, "max": 1, "higher_is_better": True},
    "std": 4.1,
    "stderr": 2,
    "crops": 4,
    "model": {"name": "made-up", "digest": "sha256:0", "contract": "crops-v1-0"},
    "image": {"width": 512, "height": 384, "format": "JPEG", "sha256": "0"},
    "warnings": ["exif_rotated"],
    "timing_ms": {"decode_wait": 1, "decode": 3, "queue": 0.4, "compute": 41.0},
}


def problem(status: int, code: str, **headers: str) -> httpx2.Response:
    body = {"type": f"urn:smart-iqa:problem:{code}", "title": "A title", "status": status, "detail": "what happened"}
    return httpx2.Response(
        status,
        json={**body, "code": code, "request_id": "5f0c"},
        headers={
            "Content-Type": "application/problem+json",
            **{name.replace("_", "-"): headers[name] for name in headers},
        },
    )


@dataclass
class Scene:
    """What a client of one kind is answered with, and what it did.

    Attributes:
        kind: Of the client.
        answers: One for each request, in order; a function answers all.
        retries: Of the client.
        requests: What was sent.
        pauses: What was waited for, in seconds.
        now: The time, in seconds.
        chance: What is drawn whenever a random number is.
        seconds: How long each answer takes.
        oversleep: How much longer each pause takes than was asked for.
    """

    kind: Kind
    answers: list[Answer] | Callable[[httpx2.Request], Answer] = field(default_factory=list)
    retries: Retries = field(default_factory=Retries)
    requests: list[httpx2.Request] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    now: float = 1000.0
    chance: float = 0.5
    seconds: float = 0.0
    oversleep: float = 0.0

    def ask(self, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of a fresh client."""
        if self.kind == "Client":
            with self.client() as client:
                return getattr(client, method)(*args, **options)

        async def run() -> Any:
            async with self.async_client() as client:
                return await getattr(client, method)(*args, **options)

        return asyncio.run(run())

    def many(self, sources: Iterable[Any], **options: Any) -> list[Outcome[Any]]:
        """Score many pictures with a fresh client."""
        if self.kind == "Client":
            with self.client() as client:
                return list(client.score_many(sources, **options))

        async def run() -> list[Outcome[Any]]:
            async with self.async_client() as client:
                return [one async for one in client.score_many(sources, **options)]

        return asyncio.run(run())

    def client(self, url: str = "http://service") -> Client:
        def sleep(event: threading.Event, seconds: float) -> bool:
            self._pause(seconds)
            return event.is_set()

        return Client(
            url,
            api_key="the-key\n",
            retries=self.retries,
            transport=httpx2.MockTransport(self._answer),
            clock=lambda: self.now,
            sleep=sleep,
            random=lambda: self.chance,
        )

    def async_client(self) -> AsyncClient:
        async def sleep(seconds: float) -> None:
            self._pause(seconds)

        return AsyncClient(
            "http://service",
            api_key="the-key\n",
            retries=self.retries,
            transport=httpx2.MockTransport(self._answer),
            clock=lambda: self.now,
            sleep=sleep,
            random=lambda: self.chance,
        )

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds + self.oversleep

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        self.now += self.seconds
        answer = self.answers(request) if callable(self.answers) else self.answers.pop(0)
        if isinstance(answer, httpx2.RequestError):
            raise answer
        # A response can be read once, and by one kind of client.
        return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)


def good() -> httpx2.Response:
    return httpx2.Response(200, json=SCORE)
