"""Pictures in zip and tar archives, read one after another into memory; nothing is unpacked to disk.

An archive may be hostile: a member or a header can claim any size, or expand to it. So the size of each member is
bounded, and so is the sum that an archive expands to.
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
"""Largest member that is read; about twenty members are in memory at a time."""
EXPANSION = 100
"""An archive may expand to this many times its size ..."""
EXPANSION_FLOOR = 2**30
"""... and to this many bytes in any case. Photos hardly compress; bitmaps of one colour do, a hundredfold."""

_MAGIC: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


LeaveOut = Callable[[str, str], bool]


class ArchiveError(ValueError):
    """An archive, or a member of one, cannot be read; the message says why."""


def is_archive(name: str) -> bool:
    """Whether a file has the suffix of an archive that can be read."""
    return name.lower().endswith((*ZIP, *TAR))


def containing_archive(name: str) -> str | None:
    """The archive that a name like ``archive.zip/member.jpg`` begins with, if that file exists."""
    folders = (str(folder) for folder in Path(name).parents)
    return next((folder for folder in folders if is_archive(folder) and os.path.isfile(folder)), None)


def members(file: str, *, leave_out: LeaveOut | None = None) -> Iterator[PictureRef]:
    """The pictures in an archive, in its own order, named ``archive.zip/member.jpg``.

    A member that cannot be read comes as an error under its name; where an archive breaks off, under the archive's.

    Args:
        file: The archive.
        leave_out: Whether a member of an archive is left out, by the names of both.
    """
    for _, picture in members_from(file, partial(open_file, file), leave_out=leave_out):
        yield picture


def open_file(file: str) -> IO[bytes]:
    """Open an archive on this machine."""
    return open(file, "rb")


def members_from(
    file: str, open_: Callable[[], IO[bytes]], start: int = 0, *, leave_out: LeaveOut | None = None
) -> Iterator[tuple[int, PictureRef]]:
    """The pictures in an archive with their offsets, from one of those offsets on.

    Args:
        file: Name of the archive.
        open_: Opens it as a stream that can seek.
        start: Offset of the first member wanted, as an earlier call has yielded it. In a compressed tar, which can
            only be read from its beginning, the offset of every member is 0.
        leave_out: As for ``members``.

    Yields:
        Offset and picture, as for ``members``.
    """
    offset = start
    try:
        with _damaged("the archive is damaged, or none"), open_() as raw:
            taken = partial(_taken, file, leave_out)
            read = _zip if file.lower().endswith(ZIP) else _tar
            for offset, picture in read(file, raw, start, taken):
                yield offset, picture
    except (ArchiveError, OSError) as error:
        yield offset, PictureRef(file, error)


def is_sequential(file: str, open_: Callable[[], IO[bytes]]) -> bool:
    """Whether an archive can only be read from its beginning: a compressed tar.

    Raises:
        OSError: It cannot be opened.
    """
    if file.lower().endswith(ZIP):
        return False
    with open_() as raw:
        return _decompressor(raw) is not None


def _taken(file: str, leave_out: LeaveOut | None, member: str) -> bool:
    return not (leave_out is not None and leave_out(file, member)) and is_picture(member)


def _zip(file: str, raw: IO[bytes], start: int, taken: Callable[[str], bool]) -> Iterator[tuple[int, PictureRef]]:
    allowance = _Allowance(raw)
    with zipfile.ZipFile(raw) as archive:
        pictures = (info for info in archive.infolist() if not info.is_dir() and taken(info.filename))
        for index, info in itertools.islice(enumerate(pictures), start, None):
            yield index, PictureRef(f"{file}/{info.filename}", partial(_unzip, archive, info, allowance))


def _unzip(archive: zipfile.ZipFile, info: zipfile.ZipInfo, allowance: "_Allowance") -> bytes:
    if info.flag_bits & 1:
        raise ArchiveError("the member is encrypted")
    _check_size(info.file_size)
    allowance.spend(info.file_size)
    with _damaged("the member is damaged, or compressed in a way that is not known"):
        # It reads no more than the size that was claimed and checked.
        return archive.read(info)


def _tar(file: str, raw: IO[bytes], start: int, taken: Callable[[str], bool]) -> Iterator[tuple[int, PictureRef]]:
    allowance, decompressor = _Allowance(raw), _decompressor(raw)
    with contextlib.nullcontext(raw) if decompressor is None else decompressor(raw) as stream:
        bounded = _Bounded(stream, allowance)
        bounded.seek(start)
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            while (info := archive.next()) is not None:
                # tarfile would keep all headers, a kilobyte each.
                archive.members.clear()  # type: ignore[attr-defined]
                if info.isdir() or not taken(info.name):
                    continue
                name = f"{file}/{info.name}"
                offset = info.offset if decompressor is None else 0
                if info.isreg():
                    yield offset, PictureRef(name, partial(_untar, archive, info))
                else:
                    yield offset, PictureRef(name, ArchiveError("the member is a link or a device, not a file"))
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
    """Turn the dozen types of errors that readers raise for broken bytes into ``ArchiveError``."""
    try:
        yield
    except (ArchiveError, MemoryError):
        raise
    except OSError as error:
        # Errors of the disk have a number, those of decompressors have none.
        if error.errno is not None:
            raise
        raise ArchiveError(message) from error
    except Exception as error:
        raise ArchiveError(message) from error


def _decompressor(raw: IO[bytes]) -> Callable[..., Any] | None:
    """What opens a compressed file, by its first bytes; None if it is not compressed."""
    start = raw.read(8)
    raw.seek(0)
    return next((open_ for magic, open_ in _MAGIC.items() if start.startswith(magic)), None)


class _Allowance:
    """Bytes that an archive may still expand to."""

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
    """A decompressed stream that bounds what tarfile reads: at once, for headers that claim much, and in all."""

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
