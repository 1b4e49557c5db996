"""Scoring units in this process."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.bulk import rows
from cli.bulk.job import Job
from cli.bulk.units import contents
from cli.options import check_photos, check_policy
from cli.pictures.picture_ref import PictureRef
from cli.scoring import stream
from cli.scoring.scorer import load_scorer, score_settings
from cli.scoring.stream import Record

if TYPE_CHECKING:
    from model.crop_rounds import Crops
    from model.options import DeviceName, Precision
    from model.policies import Policy
    from model.scorer import Scorer


class LocalScorer:
    """Scores units in this process; a ``UnitScorer``.

    Args:
        scorer: What scores their pictures.
        crops: As for ``Scorer.score``.
        policy: What decides about them, if anything does.
        photos: Whether to keep what picking needs.
    """

    def __init__(
        self, scorer: "Scorer", crops: "Crops | None", policy: "Policy | None" = None, *, photos: bool = False
    ) -> None:
        self._scorer = scorer
        self._policy = policy
        self._photos = photos
        self._crops = crops or scorer.checkpoint.contract.crops
        engine = scorer.engine
        self.settings = score_settings(
            scorer.model,
            scorer.checkpoint.contract,
            self._crops,
            engine.device,
            engine.precision,
            policy,
            photos=photos,
        )

    def tables(
        self, job: Job, missing: Iterable[int], advance: Callable[[int, int], None]
    ) -> Generator[tuple[int, Any], None, None]:
        """Score units one after another, decoding ahead, also into the next unit. See ``UnitScorer.tables``."""
        units_of_pictures: deque[int] = deque()

        def pictures() -> Iterator[PictureRef]:
            for number in missing:
                for picture in contents(job.unit(number), job.folder, exclusions=job.exclusions):
                    units_of_pictures.append(number)
                    yield picture

        records: list[Record] = []
        current = -1
        # Closed as soon as the run is stopped, not when it is collected: threads are decoding.
        options = (self._scorer, self._crops, self._policy, rows.fields)
        with closing(stream.records(pictures(), *options, photos=self._photos)) as fresh:
            for record in fresh:
                unit = units_of_pictures.popleft()
                if unit != current and records:
                    yield current, rows.table(records, photos=self._photos)
                    records = []
                current = unit
                records.append(record)
                advance(1, int("error" in record))
            if records:
                yield current, rows.table(records, photos=self._photos)


@contextmanager
def open_scorer(
    folder: Path | None,
    crops: "Crops | None",
    policy: "Policy | None",
    *,
    device: "DeviceName",
    precision: "Precision",
    threads: int,
    photos: bool,
) -> Iterator[LocalScorer]:
    """Load a checkpoint into this process.

    Args:
        folder: The checkpoint; the default model if None.
        crops: As for ``Scorer.score``.
        policy: What decides about pictures, if anything does.
        device: Where to compute.
        precision: What to compute in.
        threads: Threads on a CPU; 0 takes what was measured as fastest.
        photos: Whether to keep what picking needs.

    Raises:
        CheckpointError: The folder is not a usable checkpoint.
        ValueError: The device is not there, or the checkpoint does not tell what is asked for.
    """
    scorer = load_scorer(folder, device=device, precision=precision, threads=threads)
    check_policy(policy, scorer.checkpoint)
    check_photos(photos, scorer.checkpoint)
    yield LocalScorer(scorer, crops, policy, photos=photos)
