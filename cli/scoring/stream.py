"""From pictures that were found to their results, in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.pictures.archives import ArchiveError
from cli.pictures.picture_ref import PictureRef

if TYPE_CHECKING:
    from model.crop_rounds import Crops
    from model.score import QualityScore
    from model.scorer import Scorer

Record = dict[str, Any]
"""A result: ``path``, and what the service would answer or an ``error``."""


def answer(score: "QualityScore") -> Record:
    """What the service would answer."""
    return score.to_dict()


def records(
    found: Iterable[PictureRef],
    scorer: "Scorer",
    crops: "Crops | None",
    told: "Callable[[QualityScore], Record]" = answer,
) -> Generator[Record, None, None]:
    """Score pictures; decoding runs ahead in threads.

    Args:
        found: Pictures; consumed as the results are.
        scorer: What scores them.
        crops: As for ``Scorer.score``.
        told: What a record tells of a score.

    Yields:
        A record for each, in their order.
    """
    waiting: deque[tuple[str, Exception | None]] = deque()

    def contents() -> Iterator[Path | bytes]:
        for name, content in found:
            data: Path | bytes | Exception
            try:
                data = content if isinstance(content, (Path, Exception)) else content()
            except (ArchiveError, OSError) as error:
                data = error
            waiting.append((name, data if isinstance(data, Exception) else None))
            if not isinstance(data, Exception):
                yield data

    def failed() -> Iterator[Record]:
        while waiting and (error := waiting[0][1]) is not None:
            yield failure(waiting.popleft()[0], error)

    for _, result in scorer.score_many(contents(), crops):
        yield from failed()
        name, _ = waiting.popleft()
        yield failure(name, result) if isinstance(result, Exception) else {"path": name, **told(result)}
    yield from failed()


def failure(name: str, error: Exception) -> Record:
    """The record of a picture that cannot be scored."""
    return {"path": name, "error": explain(error)}


def explain(error: Exception) -> str:
    """Say what went wrong with a file, without repeating its path."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
