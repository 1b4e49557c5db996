"""Places that a job reads from and writes to: this machine's files, and what pyarrow knows by a URI."""

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
"""Where a file appears once it is whole, and has no other name before."""
_READ_BYTES = 2**20
"""Read at once from files in which there is no order: one request of an object store for each."""


def is_uri(name: str) -> bool:
    """Whether a name is a URI, not a path."""
    return "://" in name


def local(name: str) -> str:
    """The path that a ``file://`` URI means; other names as they are."""
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
        root: Scheme, host and options, which make the file system.
        key: What comes after them, as it is: names of objects are not quoted.
    """

    root: str
    key: str

    @classmethod
    def of(cls, uri: str) -> "Place":
        """Take a URI apart.

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
        """The URI without options: what results call it."""
        return self.root.partition("?")[0] + self.key

    @property
    def filesystem(self) -> Any:
        """What pyarrow reads it with."""
        return _filesystem(self.root)[0]

    @property
    def path(self) -> str:
        """What it is called there."""
        return _filesystem(self.root)[1].rstrip("/") + self.key

    def at(self, path: str) -> "Place":
        """Another one, by its path there."""
        base = _filesystem(self.root)[1].rstrip("/")
        return Place(self.root, "/" + path.removeprefix(base).lstrip("/"))

    def open(self) -> IO[bytes]:
        """Open a file in which one can seek.

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
    """Give errors of object stores the numbers and words that those of disks have."""
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
        found = local(name)
        self._root = found if is_uri(found) else os.path.abspath(found)

    @property
    def folder(self) -> str | None:
        """Its path, if it is a folder of this machine."""
        return None if is_uri(self._root) else self._root

    @property
    def _there(self) -> tuple[Any, str]:
        if not is_uri(self._root):
            from pyarrow.fs import LocalFileSystem

            return LocalFileSystem(), self._root.rstrip("/")
        place = Place.of(self._root)
        return place.filesystem, place.path.rstrip("/")

    def files(self, folder: str = "") -> Iterator[str]:
        """Names of the files in a folder of it; none if there is no such folder."""
        from pyarrow.fs import FileSelector, FileType

        filesystem, root = self._there
        for info in filesystem.get_file_info(FileSelector(f"{root}/{folder}".rstrip("/"), allow_not_found=True)):
            if info.type == FileType.File:
                yield info.base_name

    def open(self, name: str) -> Any:
        """Open a file of it for reading.

        Raises:
            OSError: It cannot be opened.
        """
        filesystem, root = self._there
        return filesystem.open_input_file(f"{root}/{name}")

    def put(self, name: str, content: Any) -> None:
        """Write a file, which appears once it is whole.

        Args:
            name: Below the folder.
            content: Bytes, or a buffer of pyarrow.

        Raises:
            OSError: It cannot be written.
        """
        filesystem, root = self._there
        path = f"{root}/{name}"
        folder, _, base = path.rpartition("/")
        once = filesystem.type_name in _OBJECT_STORES
        fresh = path if once else f"{folder}/.{base}.new"
        if not once:
            filesystem.create_dir(folder)
        stream = filesystem.open_output_stream(fresh)
        stream.write(content)
        # Not in a with statement: closing after an error would make half a file an object.
        stream.close()
        if not once:
            filesystem.move(fresh, path)
