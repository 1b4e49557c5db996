"""What SIGINT and SIGTERM do, from the first moment of a command to its last."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)
IMPORTS = "<frozen importlib._bootstrap>"
"""File of the frames that import a module."""


class Stopped(BaseException):
    """SIGINT or SIGTERM has arrived.

    Attributes:
        status: The exit status of a process that ends by this signal.
    """

    def __init__(self, number: int) -> None:
        self.status = 128 + number


def prepare(status: int | None = None) -> None:
    """Have SIGINT and SIGTERM end this process with an exit status of its own, also one that is PID 1.

    Before anything is imported: a kernel drops signals for PID 1 that nothing handles. While a module is imported, the
    process ends at once: an exception might be swallowed there, or leave a library in a state that crashes at the end,
    and there is nothing yet to be tidied up. Elsewhere ``Stopped`` is raised, and a second signal ends the process.

    Args:
        status: The exit status; that of the signal if None.
    """

    def end(number: int, _: FrameType | None) -> None:
        os._exit(128 + number if status is None else status)

    def stop(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename == IMPORTS:
                end(number, None)
            frame = frame.f_back
        for each in STOPPING:
            signal.signal(each, end)
        stopped = Stopped(number)
        if status is not None:
            stopped.status = status
        raise stopped

    for each in STOPPING:
        signal.signal(each, stop)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise ``Stopped`` in this block at SIGINT or SIGTERM; a second one has its usual effect."""

    def stop(number: int, _: FrameType | None) -> None:
        restore()
        raise Stopped(number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        yield
    finally:
        restore()
