"""The process of ``smart-iqa``: its first moment, before anything large is imported, and its last."""

import atexit
import os
import signal
import sys
import tempfile
from contextlib import suppress
from typing import NoReturn

from cli import signals

NO_MEMORY = ("failed to map segment", "Cannot allocate memory", "can't allocate memory", "bad_alloc")
NO_THREADS = ("can't start new thread", "Resource temporarily unavailable")
NO_FILES = ("Too many open files",)
"""Words of errors for want of memory, threads and open files, by Python, the C library and torch."""


def start() -> NoReturn:
    """Run the command line, and end the process with its exit status."""
    status: int | str | None = 0
    try:
        # A service that is told to stop has not failed; a command whose results are not complete has.
        signals.prepare(0 if sys.argv[1:2] == ["serve"] else None)
        _find_temporary_folder()
        from cli.main import main

        main()
    except SystemExit as ended:
        status = ended.code
    except signals.Stopped as stopped:
        status = stopped.status
    except BaseException as error:
        if reason := _starved(error):
            sys.stderr.write(f"error: {reason}\n")
        else:
            sys.excepthook(*sys.exc_info())
        status = 1
    _end(status if isinstance(status, int) else int(status is not None))


def _find_temporary_folder() -> None:
    """Take shared memory for temporary files where no folder can be written: torch needs one to be imported."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        os.environ["TMPDIR"] = "/dev/shm"


def _starved(error: BaseException) -> str:
    """What the process has too little of, if that is the error; "" if it is not."""
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text for sign in NO_MEMORY):
        return "there is too little memory for this process: raise its limit, or free some"
    if any(sign in text for sign in NO_THREADS):
        return "no more threads or processes can be started: raise the limit of this user or container"
    if any(sign in text for sign in NO_FILES):
        return "no more files can be opened: raise the limit of open files"
    return ""


def _end(status: int) -> NoReturn:
    """End the process without taking the interpreter apart.

    A thread that computes in torch meanwhile, as while a model is loaded, would crash there, and its signal would be
    the exit status. What modules do at exit is done before.
    """
    for number in signals.STOPPING:
        signal.signal(number, signal.SIG_IGN)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # Whoever read it may be gone.
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    start()
