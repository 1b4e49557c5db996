"""What is asked of the service: one value for each request, the same for both clients."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypedDict, TypeVar, Unpack

import httpx2

from smart_iqa_client import parsing
from smart_iqa_client.answers import Attention, Model, Policy, Score
from smart_iqa_client.errors import BadAnswer
from smart_iqa_client.together import Comparison, Picks

T = TypeVar("T")

CONNECT_SECONDS = 10.0
GRACE_SECONDS = 5.0
"""Added to a deadline, to hear the service's own word that it was missed."""


class Readable(Protocol):
    """A file that was opened in binary mode."""

    def read(self) -> bytes:
        """All that is left of it."""
        ...


Source = str | os.PathLike[str] | bytes | Readable
"""A path, the picture's bytes, or an open file."""


class Options(TypedDict, total=False):
    """What can be asked of each picture.

    Attributes:
        model: Name of a loaded model; the default one if left out.
        crops: How many crops, 1 to 64, or ``"auto"``; the model's own count if left out.
        priority: ``"bulk"`` waits behind ``"interactive"``.
        deadline: Seconds after which the answer is of no use any more, retries included.
    """

    model: str
    crops: int | Literal["auto"]
    priority: Literal["interactive", "bulk"]
    deadline: float


class ScoreOptions(Options, total=False):
    """What can be asked of each picture whose score is asked for.

    Attributes:
        detail: ``"crops"`` adds each crop's box and score, ``"map"`` also a map of local scores.
        policy: Policy that decides about the picture; that of the key, if it has one, if left out.
        language: Language of its reasons, such as ``"de"``; English if left out or unknown.
    """

    detail: Literal["crops", "map"]
    policy: str
    language: str


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """One request, and how to read its answer.

    Attributes:
        method: Of HTTP.
        path: Below the service's address.
        read: Turns a success into the answer, or raises ``BadAnswer``.
        query: Parameters of the address.
        headers: Other than those of the client.
        content: The picture, if there is one.
        files: The pictures, if there are several.
        deadline: Seconds after which the answer is of no use any more.
    """

    method: str
    path: str
    read: Callable[[httpx2.Response], T]
    query: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = field(default=None, repr=False)
    files: tuple[bytes, ...] = field(default=(), repr=False)
    deadline: float | None = None

    def arguments(self, left: float | None, timeout: float) -> dict[str, Any]:
        """Arguments for ``request`` of httpx2's clients.

        Args:
            left: Seconds to the deadline, if there is one.
            timeout: Seconds without a byte after which to give up.
        """
        headers = dict(self.headers)
        if left is not None:
            left = max(left, 0.001)
            headers["X-Deadline-Ms"] = str(math.ceil(left * 1000))
            timeout = min(timeout, left + GRACE_SECONDS)
        return {
            "method": self.method,
            "url": self.path,
            "params": dict(self.query),
            "headers": headers,
            "content": self.content,
            "files": [("file", (str(place), data)) for place, data in enumerate(self.files)] or None,
            "timeout": httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
        }


def load(source: Source) -> bytes:
    """Read a picture.

    Raises:
        OSError: It cannot be read.
        TypeError: It is none of the kinds of a ``Source``.
    """
    if isinstance(source, bytes):
        return source
    if isinstance(source, (str, os.PathLike)):
        return Path(source).read_bytes()
    if hasattr(source, "read") and isinstance(data := source.read(), bytes):
        return data
    raise TypeError(f"a picture is a path, bytes, or a file in binary mode, not {type(source).__name__}")


def score(data: bytes, **options: Unpack[ScoreOptions]) -> Call[Score]:
    """Ask for a score."""
    return _picture("/score", data, options, lambda response: parsing.parse(Score, _json(response)))


def attention(data: bytes, **options: Unpack[ScoreOptions]) -> Call[Attention]:
    """Ask for a score and the weights of the stages."""
    return _picture("/attention", data, options, lambda response: parsing.parse(Attention, _json(response)))


def compare(pictures: Sequence[bytes], **options: Unpack[ScoreOptions]) -> Call[Comparison]:
    """Ask which of several pictures people prefer."""
    return _together("/compare", Comparison, pictures, **options)


def pick(pictures: Sequence[bytes], **options: Unpack[ScoreOptions]) -> Call[Picks]:
    """Ask for the best of nearly equal pictures."""
    return _together("/pick", Picks, pictures, **options)


def _together(
    path: str, kind: type[parsing.Together], pictures: Sequence[bytes], **options: Unpack[ScoreOptions]
) -> Call[parsing.Together]:
    return _pictures(path, options, lambda response: parsing.parse_together(kind, _json(response)), {}, files=pictures)


def overlay(data: bytes, stage: int | None, **options: Unpack[Options]) -> Call[bytes]:
    """Ask for a drawing."""
    more: dict[str, str | int] = {} if stage is None else {"stage": stage}
    return _picture("/attention/overlay", data, options, _png, **more)


def models() -> Call[tuple[Model, ...]]:
    """Ask what is loaded."""
    return Call(method="GET", path="/models", read=lambda response: _listed(response, "models", Model))


def policies() -> Call[tuple[Policy, ...]]:
    """Ask what may decide about pictures."""
    return Call(method="GET", path="/policies", read=lambda response: _listed(response, "policies", Policy))


def ready() -> Call[bool]:
    """Ask whether work is taken."""
    return Call(method="GET", path="/health/ready", read=lambda _: True)


def _picture(
    path: str, data: bytes, options: Mapping[str, Any], read: Callable[[httpx2.Response], T], **more: str | int
) -> Call[T]:
    """Put together a call with a picture."""
    return _pictures(path, options, read, more, content=data)


def _pictures(
    path: str,
    options: Mapping[str, Any],
    read: Callable[[httpx2.Response], T],
    more: Mapping[str, str | int],
    *,
    content: bytes | None = None,
    files: Sequence[bytes] = (),
) -> Call[T]:
    """Put together a call with a picture, or with several.

    Raises:
        TypeError: There is no such option.
        ValueError: The deadline is not a positive number of seconds.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if unknown := given.keys() - ScoreOptions.__annotations__.keys():
        raise TypeError(f"there is no option {', '.join(sorted(unknown))}")
    deadline = given.get("deadline")
    if deadline is not None and not 0 < deadline < math.inf:
        raise ValueError(f"deadline must be a positive number of seconds, not {deadline}")
    headers = {} if content is None else {"Content-Type": "application/octet-stream"}
    if "priority" in given:
        headers["X-Priority"] = given["priority"]
    if "language" in given:
        headers["Accept-Language"] = given["language"]
    query: dict[str, str | int] = {
        name: given[name] for name in ("model", "crops", "detail", "policy") if name in given
    }
    return Call(
        method="POST",
        path=path,
        read=read,
        query={**query, **more},
        headers=headers,
        content=content,
        files=tuple(files),
        deadline=deadline,
    )


def _listed(response: httpx2.Response, name: str, kind: type[T]) -> tuple[T, ...]:
    listed = _json(response)
    if not isinstance(listed, dict) or not isinstance(listed.get(name), list):
        raise BadAnswer(f"there is no list of {name}")
    return tuple(parsing.parse(kind, one) for one in listed[name])


def _json(response: httpx2.Response) -> object:
    try:
        data: object = response.json()
    except ValueError as error:
        raise BadAnswer("the answer is no JSON") from error
    return data


def _png(response: httpx2.Response) -> bytes:
    if response.headers.get("Content-Type") != "image/png":
        raise BadAnswer("the answer is no PNG")
    return response.content
