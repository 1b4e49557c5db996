"""An exclusive lock on a file: two runs that write one file would double its rows."""

import contextlib
from pathlib import Path
from typing import IO


def lock(file: IO[bytes], path: Path | str) -> None:
    """Lock an open file until it is closed or the process ends.

    Args:
        file: The file; on Windows it is not locked.
        path: What the error calls it.

    Raises:
        ValueError: Another process holds the lock.
    """
    with contextlib.suppress(ImportError):  # Windows has no fcntl
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another run is writing {path}") from error
