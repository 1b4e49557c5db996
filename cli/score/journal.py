"""The journal of a run: its results on disk, one JSON line per picture below a line of settings.

An interrupted run goes on from it, and outputs that need all results are made of it. In memory it takes sixteen bytes
per picture.
"""

import contextlib
import json
import os
import tempfile
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from cli.pictures import archives
from cli.pictures.picture_ref import PictureRef
from cli.scoring.stream import Record

SUFFIX = ".part"
_STAMP = "stamp"
_Stamp = list[int]
"""Size of a file in bytes, and the time of its last change in nanoseconds."""
_FORMAT = {"smart-iqa score": 1}


class Journal:
    """The results of one run, in the order of scoring.

    Attributes:
        scores: 0 to 100 for each picture, NaN where it could not be scored.
        resumed: Pictures that an earlier run has scored, and whose files have not changed since.
        changed: Pictures that an earlier run has scored, and whose files have another size or time now.
    """

    def __init__(self, file: IO[bytes], settings: Mapping[str, Any], path: Path | None = None) -> None:
        self.scores = array("d")
        self._offsets = array("q")
        self._file = file
        self._path = path
        self._known: Counter[bytes] = Counter()
        self._stamps: deque[_Stamp | None] = deque()
        self.changed = 0
        if not self._read(settings):
            self._write({**_FORMAT, **settings})
        self.resumed = len(self.scores)

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path | None, settings: Mapping[str, Any]) -> Iterator["Journal"]:
        """Begin a journal, or go on with one.

        Args:
            path: The file, which the caller has locked; None takes a temporary one without a name, from which no run
                can go on.
            settings: The settings that decide the scores, as JSON can hold them.

        Raises:
            ValueError: The file is no journal, or was begun with other settings.
        """
        if path is None:
            with tempfile.TemporaryFile() as nameless:
                yield cls(nameless, settings)
            return
        journal: Journal | None = None
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            empty = not os.fstat(file.fileno()).st_size
            try:
                journal = cls(file, settings, path)
                yield journal
            finally:
                # A run that has scored nothing leaves nothing to go on from.
                if not journal.scores if journal is not None else empty:
                    path.unlink(missing_ok=True)

    def takes(self, name: str) -> bool:
        """Whether a picture is still to be scored; one that is listed twice is scored twice."""
        key = _key(name)
        if not self._known[key]:
            return True
        self._known[key] -= 1
        return False

    def watched(self, pictures: Iterable[PictureRef]) -> Iterator[PictureRef]:
        """Note size and time of each picture's file before it is read; ``add`` takes their results in this order."""
        for picture in pictures:
            self._stamps.append(_stamp(picture.name))
            yield picture

    def add(self, record: Record) -> None:
        """Write a result to disk."""
        stamp = self._stamps.popleft() if self._stamps else None
        self._index(self._write({**record, _STAMP: stamp}), record)

    def records(self, indices: Iterable[int]) -> Iterator[Record]:
        """Read results back.

        Args:
            indices: Which ones, in this order.
        """
        for index in indices:
            self._file.seek(self._offsets[index])
            record: Record = json.loads(self._file.readline())
            record.pop(_STAMP, None)
            yield record

    def remove(self) -> None:
        """Delete the file: the run is complete."""
        if self._path is not None:
            self._path.unlink()

    def _write(self, record: Mapping[str, Any]) -> int:
        offset = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        return offset

    def _index(self, offset: int, record: Record) -> None:
        self._offsets.append(offset)
        self.scores.append(record.get("score", float("nan")))

    def _read(self, settings: Mapping[str, Any]) -> bool:
        """Read what an earlier run has written; False if it has not even written the first line."""
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break  # the run was killed while writing this line
            if end == 0:
                _compare(_object(line, self._path), settings, self._path)
            else:
                record = _object(line, self._path)
                if _changed(record):
                    self.changed += 1
                else:
                    self._index(end, record)
                    self._known[_key(record["path"])] += 1
            end += len(line)
        self._file.truncate(end)
        return end > 0


def part_of(out: Path | None, *, overwrite: bool) -> Path | None:
    """The journal's file beside a result file, which the caller has locked; None without one.

    Args:
        out: The result file.
        overwrite: Whether to begin anew, and to replace a file that is complete.

    Raises:
        ValueError: The result file is complete.
    """
    if out is None:
        return None
    part = out.with_name(out.name + SUFFIX)
    if overwrite:
        part.unlink(missing_ok=True)
    elif out.exists() and not part.exists():
        raise ValueError(f"{out} exists and is complete; name another file, or add --overwrite")
    return part


def _object(line: bytes, path: Path | None) -> Record:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not ("path" in value or _FORMAT.items() <= value.items()):
        raise ValueError(f"{path} is not what an interrupted run leaves behind; move it away, or add --overwrite")
    return value


def _stamp(name: str) -> _Stamp | None:
    """Size and time of a picture's file, or of the archive that it is in; None if there is none."""
    for file in (name, archives.containing_archive(name)):
        with contextlib.suppress(OSError, ValueError):
            if file is not None:
                found = os.stat(file)
                return [found.st_size, found.st_mtime_ns]
    return None


def _changed(record: Record) -> bool:
    """Whether the file of a result is another one now; one that is gone may have been moved by the run itself."""
    before = record.get(_STAMP)
    now = None if before is None else _stamp(record["path"])
    return now is not None and now != before


def _compare(begun: Record, settings: Mapping[str, Any], path: Path | None) -> None:
    # What one of both does not name it does without: such as a policy.
    for name in dict.fromkeys((*settings, *(begun.keys() - _FORMAT.keys()))):
        if begun.get(name) != settings.get(name):
            raise ValueError(
                f"{path} was begun with {name} {begun.get(name)}, not {settings.get(name)}; go on as it was begun, "
                "name another file, or start anew with --overwrite"
            )


def _key(name: str) -> bytes:
    return blake2b(name.encode(errors="surrogateescape"), digest_size=16).digest()
