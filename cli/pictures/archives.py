"""Pictures in zip and tar archives, read one after another into memory, never onto the disk.

An archive may be hostile: a member can claim or expand to any size, headers included. So members are bounded, and so is
what an archive expands to in all.
"""

import bz2
import contextlib
import gzip
import io
import itertools
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from cli.pictures.picture_ref import PictureRef, is_picture

ZIP = (".zip",)
TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MEMBER_BYTES = 64 * 2**20
"""Larger members are not read; some twenty of them may be in memory at a time."""
EXPANSION = 100
"""An archive may expand to so many times its size ..."""
EXPANSION_FLOOR = 2**30
"""... and to so many bytes in any case. Photos hardly shrink; plain bitmaps may to a hundredth."""

_MAGIC: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


class ArchiveError(ValueError):
    """An archive, or a member of one, cannot be read; the message says why."""


def is_archive(name: str) -> bool:
    """Whether a file is called like an archive that can be read."""
    return name.lower().endswith((*ZIP, *TAR))


def containing(name: str) -> str | None:
    """The archive that a name like ``archive.zip/member.jpg`` begins with, if it is there."""
    folders = (str(folder) for folder in Path(name).parents)
    return next((folder for folder in folders if is_archive(folder) and os.path.isfile(folder)), None)


def members(file: str) -> Iterator[PictureRef]:
    """The pictures in an archive, in its own order, as ``archive.zip/member.jpg``.

    What cannot be read comes as an error in its place; where an archive breaks off, the error has the archive's name.
    """
    for _, found in located(file, partial(open_file, file)):
        yield found


def open_file(file: str) -> IO[bytes]:
    """Open an archive of this machine."""
    return open(file, "rb")


def located(file: str, opened: Callable[[], IO[bytes]], start: int = 0) -> Iterator[tuple[int, PictureRef]]:
    """Like ``members``, with the place of each, from which another call can go on.

    Args:
        file: What the archive is called.
        opened: Opens it, wherever it is; it must be possible to seek in it.
        start: The place of the first member that is wanted. A compressed tar has but 0, the place of all of them.
    """
    place = start
    try:
        with _damaged("the archive is damaged, or none"), opened() as raw:
            for place, found in _zip(file, raw, start) if file.lower().endswith(ZIP) else _tar(file, raw, start):
                yield place, found
    except (ArchiveError, OSError) as error:
        yield place, PictureRef(file, error)


def in_order(file: str, opened: Callable[[], IO[bytes]]) -> bool:
    """Whether an archive, by its name and content, can only be read from its beginning: a compressed tar.

    Raises:
        OSError: It cannot be opened.
    """
    if file.lower().endswith(ZIP):
        return False
    with opened() as raw:
        return _reader(raw) is not None


def _zip(file: str, raw: IO[bytes], start: int) -> Iterator[tuple[int, PictureRef]]:
    allowance = _Allowance(raw)
    with zipfile.ZipFile(raw) as archive:
        # What macOS keeps beside each file looks like a picture by its name.
        pictures = (
            info
            for info in archive.infolist()
            if is_picture(info.filename) and not info.is_dir() and not info.filename.startswith("__MACOSX/")
        )
        for place, info in itertools.islice(enumerate(pictures), start, None):
            yield place, PictureRef(f"{file}/{info.filename}", partial(_unzip, archive, info, allowance))


def _unzip(archive: zipfile.ZipFile, info: zipfile.ZipInfo, allowance: "_Allowance") -> bytes:
    if info.flag_bits & 1:
        raise ArchiveError("the member is encrypted")
    _check_size(info.file_size)
    allowance.spend(info.file_size)
    with _damaged("the member is damaged, or compressed in a way that is not known"):
        # Not more than was claimed, whatever there is.
        return archive.read(info)


def _tar(file: str, raw: IO[bytes], start: int) -> Iterator[tuple[int, PictureRef]]:
    allowance, reader = _Allowance(raw), _reader(raw)
    with contextlib.nullcontext(raw) if reader is None else reader(raw) as stream:
        bounded = _Bounded(stream, allowance)
        bounded.seek(start)
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            while (info := archive.next()) is not None:
                # Otherwise it keeps all headers, a kilobyte each.
                archive.members.clear()  # type: ignore[attr-defined]
                if info.isdir() or not is_picture(info.name):
                    continue
                name = f"{file}/{info.name}"
                place = info.offset if reader is None else 0
                if info.isreg():
                    yield place, PictureRef(name, partial(_untar, archive, info))
                else:
                    yield place, PictureRef(name, ArchiveError("the member is a link or a device, not a file"))
            # tarfile takes a header that it cannot read for the end; the real end is empty or zeros.
            if any(bounded.last):
                raise ArchiveError("the archive is damaged: what follows cannot be read")


def _untar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    _check_size(info.size)
    with _damaged("the member is damaged"):
        content = archive.extractfile(info)
        assert content is not None  # a regular file
        return content.read()


def _check_size(size: int) -> None:
    if size > MEMBER_BYTES:
        raise ArchiveError(f"the member has {size:,} bytes, more than the limit of {MEMBER_BYTES:,}")


@contextlib.contextmanager
def _damaged(message: str) -> Iterator[None]:
    """Turn whatever a reader raises for broken bytes (a dozen types) into one error."""
    try:
        yield
    except (ArchiveError, MemoryError):
        raise
    except OSError as error:
        # Errors of the disk have a number; those that decompressors raise have none.
        if error.errno is not None:
            raise
        raise ArchiveError(message) from error
    except Exception as error:
        raise ArchiveError(message) from error


def _reader(raw: IO[bytes]) -> Callable[..., Any] | None:
    """What decompresses a file; None if it is not compressed."""
    start = raw.read(8)
    raw.seek(0)
    return next((reader for magic, reader in _MAGIC.items() if start.startswith(magic)), None)


class _Allowance:
    """How far an archive may expand."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.left = self.limit = max(EXPANSION * raw.seek(0, os.SEEK_END), EXPANSION_FLOOR)
        raw.seek(0)

    def spend(self, count: int) -> None:
        self.left -= count
        self.check(self.limit - self.left)

    def check(self, expanded: int) -> None:
        if expanded > self.limit:
            raise ArchiveError(f"the archive expands to more than {self.limit:,} bytes; the rest is left out")


class _Bounded(io.RawIOBase):
    """A decompressed stream that tarfile may neither read far at once, as for a header that claims so, nor in all."""

    def __init__(self, stream: IO[bytes], allowance: _Allowance) -> None:
        self.last = b""
        self._stream = stream
        self._allowance = allowance

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MEMBER_BYTES + tarfile.BLOCKSIZE:
            raise ArchiveError(f"the archive has a header of {size:,} bytes")
        self._allowance.check(self._stream.tell() + size)
        self.last = self._stream.read(size)
        return self.last

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        assert whence == io.SEEK_SET  # all that tarfile uses
        self._allowance.check(offset)
        return self._stream.seek(offset)

    def tell(self) -> int:
        return self._stream.tell()
