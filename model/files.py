"""Writing files: by one run at a time, for two would mix what they write, and whole or not at all."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

LOCK = ".lock"
"""Name of the lock in a folder, and suffix of the lock beside a file."""
_held: set[str] = set()
"""Locks that this process has."""
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""What file systems without locks answer: NFS without its lock daemon, Lustre without ``-o flock``, some of FUSE."""


class Locked(ValueError):
    """Another run writes there, or was killed and has left its lock."""


@contextlib.contextmanager
def locked(target: Path | str, lock: Path | None = None) -> Iterator[None]:
    """Keep other runs out of a file or folder until the block or the process ends.

    The lock is a small file, which is locked and, at the end of the block, deleted. The kernel frees it when a process
    is killed. Where the file system has no locks, the one who has created the file has the lock, and it names its
    machine and process: one that was killed on this machine is told from one at work.

    Args:
        target: What is written; the error calls it so.
        lock: The lock; a hidden file beside ``target`` if None.

    Raises:
        Locked: Another run writes there.
        OSError: The lock cannot be created.
    """
    file = Path(target).absolute() if lock is None else lock
    file = file.with_name(f".{file.name}{LOCK}") if lock is None else file
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = _taken(file, target)
    try:
        yield
    finally:
        # While it is held: whoever opens it now finds out below that it is gone.
        with contextlib.suppress(OSError):
            file.unlink()
        _held.discard(str(file))
        os.close(handle)


@contextlib.contextmanager
def all_locked(*files: Path | None) -> Iterator[None]:
    """Keep other runs out of several files or folders, each with a lock beside it; None stands for none."""
    with contextlib.ExitStack() as stack:
        for file in files:
            if file is not None:
                stack.enter_context(locked(file))
        yield


def encoding(start: bytes) -> str:
    """The encoding of a text file by its first bytes: that of its byte order mark, UTF-8 without one.

    Args:
        start: The first three bytes.
    """
    return "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield a temporary path beside a file, which it replaces at the end; if writing fails nothing is left."""
    fresh = file.with_name(f".{file.name}.new")
    try:
        yield fresh
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)


def _taken(file: Path, target: Path | str) -> int:
    """The open lock, once this process has it."""
    while True:
        try:
            handle, created = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            try:
                handle, created = os.open(file, os.O_RDWR), False
            except FileNotFoundError:  # its run has just ended
                continue
        try:
            mine = _try(handle, file, target, created=created)
        except BaseException:
            os.close(handle)
            raise
        if mine:
            os.truncate(handle, 0)
            os.pwrite(handle, _owner(os.getpid()).encode(), 0)
            _held.add(str(file))
            return handle
        os.close(handle)


def _try(handle: int, file: Path, target: Path | str, *, created: bool) -> bool:
    """Try to get the lock; False if its file has gone meanwhile.

    Raises:
        Locked: Another process has it.
    """
    try:
        _flock(handle)
    except BlockingIOError as error:
        raise Locked(f"another run is writing {target}") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if created:
            return True
        owner = os.pread(handle, 1000, 0).decode(errors="replace")
        if str(file) in _held or not _dead(owner):
            raise Locked(
                f"{owner or 'a process'} is writing {target}, or was killed; its file system has no locks, so "
                f"delete {file} if no run is at work"
            ) from error
        file.unlink(missing_ok=True)
        return False
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(file), os.fstat(handle))
    return False


def _flock(handle: int) -> None:
    """Lock an open file, as far as the system can.

    Raises:
        OSError: Another process has locked it, or it cannot be locked.
    """
    try:
        import fcntl
    except ImportError as error:  # Windows
        raise OSError(errno.ENOLCK, "no locks") from error
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _owner(process: int) -> str:
    return f"process {process} of {socket.gethostname()}"


def _dead(owner: str) -> bool:
    """Whether the owner of a lock was a process of this machine, and is no more."""
    number = owner.removeprefix("process ").partition(" ")[0]
    # On Windows, asking for a process by a signal ends it.
    if not number.isdecimal() or owner != _owner(int(number)) or os.name == "nt":
        return False
    # In a container all processes may have had this number.
    if int(number) == os.getpid():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
