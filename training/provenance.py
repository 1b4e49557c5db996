"""What the pictures of a run were, so that its weights are not taken for those of other labels or pictures.

A run folder keeps, for each picture of the split, its label, its source, the SHA-256 of its file, and the file's size
and times. While size and times stay as they are, a file is taken for the same without being read again: to hash some
thousand photos takes as long as to read them.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from model.scale import Scale
from training.datasets import DatasetError, Sample

THREADS = 4
SETTLED_SECONDS = 3.0
"""A file that was changed so recently may change again within the same tick of its file system's clock."""

Stamp = tuple[int, int, int]
"""Size of a file, and the times in nanoseconds of the last changes of its content and of its directory entry."""


@dataclass(frozen=True)
class Origin:
    """What a picture was.

    Attributes:
        mos: Its label.
        source: Its source in the data set.
        sha256: Hash of its file.
        stamp: Size and times of the file, if they tell whether it has changed since; else None.
    """

    mos: float
    source: str
    sha256: str
    stamp: Stamp | None = None


@dataclass(frozen=True)
class Pictures:
    """What the pictures of a run were, by name, and the scale of their labels."""

    scale: Scale
    origins: Mapping[str, Origin]

    @property
    def digest(self) -> str:
        """Hash of labels and contents, in whatever order and wherever the files are."""
        lines = (
            json.dumps([name, origin.mos, origin.source, origin.sha256])
            for name, origin in sorted(self.origins.items())
        )
        return f"sha256:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}"

    def difference(self, other: "Pictures") -> str:
        """How pictures of the same names differ from these, in words; "" if they do not."""
        if other.scale != self.scale:
            return f"with labels from {self.scale.min:g} to {self.scale.max:g}"
        for name, mine in self.origins.items():
            theirs = other.origins.get(name)
            if theirs is None:
                return f"of other pictures, {name} among them"
            if (theirs.mos, theirs.source) != (mine.mos, mine.source):
                return f"with other labels: {name} had {mine.mos:g}, and has {theirs.mos:g}"
            if theirs.sha256 != mine.sha256:
                return f"of other pictures: {name} has changed"
        return "" if len(other.origins) == len(self.origins) else "of fewer pictures"


def look(samples: Sequence[Sample], scale: Scale, known: Pictures | None = None) -> Pictures:
    """Find out what pictures are.

    Args:
        samples: The pictures.
        scale: The scale of their labels.
        known: What they were at an earlier time; files with the same size and times are not read again.

    Raises:
        DatasetError: One cannot be read.
    """
    earlier = {} if known is None else known.origins

    def origin(sample: Sample) -> Origin:
        try:
            before = _stamp(sample.path)
            was = earlier.get(sample.name)
            if was is not None and was.stamp is not None and was.stamp == before:
                return Origin(sample.mos, sample.source, was.sha256, before)
            with sample.path.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            settled = _stamp(sample.path) == before and time.time_ns() - max(before[1:]) > SETTLED_SECONDS * 1e9
        except OSError as error:
            raise DatasetError(f"{sample.path}: {error.strerror}") from error
        return Origin(sample.mos, sample.source, sha256, before if settled else None)

    with ThreadPoolExecutor(THREADS) as pool:
        found = zip(samples, pool.map(origin, samples), strict=True)
        return Pictures(scale, {sample.name: origin for sample, origin in found})


def dump(pictures: Pictures) -> str:
    """Write down what pictures were, as JSON with a line for each."""
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps([one.mos, one.source, one.sha256, one.stamp])}"
        for name, one in pictures.origins.items()
    )
    return f'{{"scale": {json.dumps(asdict(pictures.scale))},\n"pictures": {{\n{lines}\n}}}}\n'


def load(file: Path) -> Pictures:
    """Read what pictures were.

    Raises:
        ValueError: The file cannot be read, or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        origins = {
            name: Origin(mos, source, sha256, None if stamp is None else tuple(stamp))
            for name, (mos, source, sha256, stamp) in content["pictures"].items()
        }
        return Pictures(Scale(**content["scale"]), origins)
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} does not tell what the pictures of a run were: {error}") from error


def _stamp(path: Path) -> Stamp:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
