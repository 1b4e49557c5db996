"""From pictures to records of their results, in order."""

import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cli.pictures.archives import ArchiveError
from cli.pictures.picture_ref import PictureRef

if TYPE_CHECKING:
    from model.crop_rounds import Crops
    from model.picking.look import Look
    from model.policies import Policy
    from model.score import QualityScore
    from model.scorer import Scorer

T = TypeVar("T")

Record = dict[str, Any]
"""The result of a picture: ``path``, and either the fields of its score or an ``error``."""


def response_fields(score: "QualityScore", policy: "Policy | None" = None) -> Record:
    """The fields of a score in the service's response, with what a policy decides."""
    if policy is None:
        return score.to_dict()
    own = policy.corrected(score)
    return {**own.to_dict(), "decision": policy.decide(own).to_dict()}


def records(
    pictures: Iterable[PictureRef],
    scorer: "Scorer",
    crops: "Crops | None",
    policy: "Policy | None" = None,
    fields: "Callable[[QualityScore, Policy | None], Record]" = response_fields,
    *,
    photos: bool = False,
) -> Generator[Record, None, None]:
    """Score pictures; they are decoded ahead in threads.

    Args:
        pictures: The pictures, consumed as the results are.
        scorer: What scores them.
        crops: As for ``Scorer.score``.
        policy: What decides about them, if anything does.
        fields: Which fields of a score become a record.
        photos: Whether to add what picking needs, as ``photo``.

    Yields:
        A record for each picture, in their order.
    """
    if photos:
        for name, looked in outcomes(pictures, lambda readable: scorer.score_and_look(readable, crops)):
            if isinstance(looked, Exception):
                yield error_record(name, looked)
            else:
                yield {"path": name, **fields(looked[0], policy), "photo": photo(name, *looked, policy)}
        return
    for name, result in outcomes(pictures, lambda readable: scorer.score_many(readable, crops)):
        yield error_record(name, result) if isinstance(result, Exception) else {"path": name, **fields(result, policy)}


def photo(name: str, score: "QualityScore", look: "Look", policy: "Policy | None") -> str:
    """What picking needs of a photo, as JSON; with the score that a policy decides about."""
    from model.picking.photo import Photo

    return json.dumps(Photo.of(name, score if policy is None else policy.corrected(score), look).to_dict())


def outcomes(
    pictures: Iterable[PictureRef], score: "Callable[[Iterator[Path | bytes]], Iterator[tuple[Any, T | Exception]]]"
) -> "Generator[tuple[str, T | Exception], None, None]":
    """Read pictures, and score those that can be read.

    Args:
        pictures: The pictures, consumed as the results are.
        score: Gives for each path or bytes a pair whose second part is the result, or an error; in order.

    Yields:
        The name of each picture with its result, or with the error that prevented it, in their order.
    """
    pending: deque[tuple[str, Exception | None]] = deque()

    def readable() -> Iterator[Path | bytes]:
        for name, content in pictures:
            data: Path | bytes | Exception
            try:
                data = content if isinstance(content, (Path, Exception)) else content()
            except (ArchiveError, OSError) as error:
                data = error
            pending.append((name, data if isinstance(data, Exception) else None))
            if not isinstance(data, Exception):
                yield data

    def unreadable() -> Iterator[tuple[str, Exception]]:
        while pending and (error := pending[0][1]) is not None:
            yield pending.popleft()[0], error

    for _, result in score(readable()):
        yield from unreadable()
        yield pending.popleft()[0], result
    yield from unreadable()


def row(record: Record, columns: Sequence[str]) -> dict[str, Any]:
    """A record's value for each column, None where it has none.

    The fields of ``image`` are columns of their own, and so are the ends of the interval, the defects' severities, the
    outcome of a decision, the codes of its reasons, and its policy with its version.
    """
    flat = {**record, **record.get("image", {}), **record.get("interval", {})}
    flat |= {name: defect["severity"] for name, defect in record.get("defects", {}).items()}
    if "decision" in record:
        decision = record["decision"]
        flat |= {"decision": decision["outcome"], "reasons": [reason["code"] for reason in decision["reasons"]]}
        flat["policy"] = f"{decision['policy']} {decision['version']}"
    return {name: flat.get(name) for name in columns}


def error_record(name: str, error: Exception) -> Record:
    """The record of a picture that cannot be scored."""
    return {"path": name, "error": explain(error)}


def explain(error: Exception) -> str:
    """Say what is wrong with a file, without its path."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
