"""Files that a job reads and writes: on this machine, or in a store that pyarrow knows by a URI."""

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any
from urllib.parse import unquote, urlsplit

NOT_THERE = "no such file or folder"
_OBJECT_STORES = ("s3", "gcs", "abfs")
"""pyarrow's file systems where a file appears only once it is complete, so that it needs no temporary name."""
_READ_BYTES = 2**20
"""Bytes of a read from a file that is opened for seeking: each read is a request of an object store."""


def is_uri(name: str) -> bool:
    """Whether a name is a URI, not a path."""
    return "://" in name


def local(name: str) -> str:
    """The path of a ``file://`` URI; other names as they are.

    Raises:
        ValueError: The URI has a host, or no path.
    """
    if not name.startswith("file://"):
        return name
    parts = urlsplit(name, allow_fragments=False)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise ValueError(f"{name}: a file:// URI has three slashes before its path")
    return unquote(parts.path, errors="surrogateescape")


@dataclass(frozen=True)
class Place:
    """A file or folder that has a URI.

    Attributes:
        root: Scheme, host and options, which decide the file system.
        key: The path after them, as it is: names of objects are not quoted.
    """

    root: str
    key: str

    @classmethod
    def of(cls, uri: str) -> "Place":
        """Parse a URI.

        Raises:
            ValueError: It holds a password.
        """
        parts = urlsplit(uri, allow_fragments=False)
        if ":" in parts.netloc.rpartition("@")[0]:
            raise ValueError(f"{parts.scheme}://: leave keys out of the URI; they would be kept with the scores")
        query = f"?{parts.query}" if parts.query else ""
        return cls(f"{parts.scheme}://{parts.netloc}{query}", parts.path)

    @property
    def name(self) -> str:
        """The URI without options, which is its name in results."""
        return self.root.partition("?")[0] + self.key

    @property
    def filesystem(self) -> Any:
        """The file system of pyarrow that reads it."""
        return _filesystem(self.root)[0]

    @property
    def path(self) -> str:
        """Its path in that file system."""
        return _filesystem(self.root)[1].rstrip("/") + self.key

    def at(self, path: str) -> "Place":
        """Another file or folder of the same file system, by its path there."""
        base = _filesystem(self.root)[1].rstrip("/")
        return Place(self.root, "/" + path.removeprefix(base).lstrip("/"))

    def open(self) -> IO[bytes]:
        """Open a file for reading and seeking.

        Raises:
            OSError: It cannot be opened.
        """
        with _numbered():
            stream: Any = io.BufferedReader(self.filesystem.open_input_file(self.path), _READ_BYTES)
        return stream  # type: ignore[no-any-return]

    def read(self) -> bytes:
        """Read a file.

        Raises:
            OSError: It cannot be read.
        """
        with _numbered(), self.filesystem.open_input_file(self.path) as stream:
            data: bytes = stream.read()
        return data


@lru_cache(maxsize=64)
def _filesystem(root: str) -> tuple[Any, str]:
    from pyarrow import ArrowInvalid, ArrowNotImplementedError
    from pyarrow.fs import FileSystem

    bare, question, query = root.partition("?")
    try:
        filesystem, path = FileSystem.from_uri(f"{bare}/{question}{query}")
    except (ArrowInvalid, ArrowNotImplementedError) as error:
        raise ValueError(f"{bare}: {str(error).splitlines()[0]}") from error
    return filesystem, path


@contextlib.contextmanager
def _numbered() -> Iterator[None]:
    """Give errors of object stores a number and a short text, as those of disks have."""
    try:
        yield
    except OSError as error:
        words = str(error).splitlines()[0] if error.errno is None else os.strerror(error.errno)
        raise OSError(error.errno or errno.EIO, words) from error


class Store:
    """The folder or URI that a job writes to.

    Args:
        name: As the user gave it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        root = local(name)
        self._root = root if is_uri(root) else os.path.abspath(root)

    @property
    def folder(self) -> str | None:
        """Its path, if it is a folder of this machine; else None."""
        return None if is_uri(self._root) else self._root

    @property
    def _filesystem_and_path(self) -> tuple[Any, str]:
        if not is_uri(self._root):
            from pyarrow.fs import LocalFileSystem

            return LocalFileSystem(), self._root.rstrip("/")
        place = Place.of(self._root)
        return place.filesystem, place.path.rstrip("/")

    def files(self, folder: str = "") -> Iterator[str]:
        """Names of the files in one of its folders; none if there is no such folder."""
        from pyarrow.fs import FileSelector, FileType

        filesystem, root = self._filesystem_and_path
        for info in filesystem.get_file_info(FileSelector(f"{root}/{folder}".rstrip("/"), allow_not_found=True)):
            if info.type == FileType.File:
                yield info.base_name

    def open(self, name: str) -> Any:
        """Open one of its files for reading.

        Raises:
            OSError: It cannot be opened.
        """
        filesystem, root = self._filesystem_and_path
        return filesystem.open_input_file(f"{root}/{name}")

    def put(self, name: str, content: Any) -> None:
        """Write a file, which appears once it is complete.

        Args:
            name: Below the folder.
            content: Bytes, or a buffer of pyarrow.

        Raises:
            OSError: It cannot be written.
        """
        filesystem, root = self._filesystem_and_path
        path = f"{root}/{name}"
        folder, _, base = path.rpartition("/")
        atomic = filesystem.type_name in _OBJECT_STORES
        fresh = path if atomic else f"{folder}/.{base}.new"
        if not atomic:
            filesystem.create_dir(folder)
        stream = filesystem.open_output_stream(fresh)
        stream.write(content)
        # Not in a with statement: after an error, closing the stream would make an object of half a file.
        stream.close()
        if not atomic:
            filesystem.move(fresh, path)
