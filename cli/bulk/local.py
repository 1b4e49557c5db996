"""Units scored in this process."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.bulk import rows
from cli.bulk.job import Job
from cli.bulk.units import contents
from cli.pictures.picture_ref import PictureRef
from cli.scoring import stream
from cli.scoring.stream import Record

if TYPE_CHECKING:
    from model.contract import Contract
    from model.crop_rounds import Crops
    from model.options import DeviceName, Precision
    from model.score import ModelId
    from model.scorer import Scorer


class Here:
    """Scores units in this process.

    Args:
        scorer: What scores their pictures.
        crops: As for ``Scorer.score``.
    """

    def __init__(self, scorer: "Scorer", crops: "Crops | None") -> None:
        self._scorer = scorer
        self._crops = crops or scorer.checkpoint.contract.crops
        engine = scorer.engine
        self.settings = settings(scorer.model, scorer.checkpoint.contract, self._crops, engine.device, engine.precision)

    def tables(
        self, job: Job, missing: Iterable[int], advance: Callable[[int, int], None]
    ) -> Generator[tuple[int, Any], None, None]:
        """Score units one after another; decoding runs ahead, also into the next unit. Otherwise as ``Scoring``."""
        owners: deque[int] = deque()

        def found() -> Iterator[PictureRef]:
            for number in missing:
                for one in contents(job.unit(number), job.folder):
                    owners.append(number)
                    yield one

        records: list[Record] = []
        current = -1
        # Closed at once if the run is stopped, not when it happens to be collected: threads are decoding.
        with closing(stream.records(found(), self._scorer, self._crops, rows.told)) as fresh:
            for record in fresh:
                owner = owners.popleft()
                if owner != current and records:
                    yield current, rows.table(records)
                    records = []
                current = owner
                records.append(record)
                advance(1, int("error" in record))
            if records:
                yield current, rows.table(records)


def settings(model: "ModelId", contract: "Contract", crops: "Crops", device: str, precision: str) -> dict[str, Any]:
    """What decides scores."""
    return {
        "model": f"{model.name} {model.digest}",
        "contract": contract.id,
        "crops": crops,
        "precision": precision,
        "device": device.partition(":")[0],
    }


@contextmanager
def pool(folder: Path, crops: "Crops | None", *, device: "DeviceName", precision: "Precision") -> Iterator[Here]:
    """Load a checkpoint into this process."""
    from model.inference.autotune import autotune
    from model.scorer import Scorer

    scorer = Scorer.load(folder, device=device, precision=precision)
    if scorer.engine.device == "cpu":
        # Two seconds of measuring, once, as the service does: threads and batches that are fastest here.
        autotune(scorer.engine, scorer.model.digest)
    yield Here(scorer, crops)
