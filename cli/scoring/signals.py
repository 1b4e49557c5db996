"""Ending a run early, with its results kept, at Ctrl-C or SIGTERM."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Stopped(BaseException):
    """SIGINT or SIGTERM has arrived.

    Attributes:
        status: The exit status of a process that ends by this signal.
    """

    def __init__(self, number: int) -> None:
        self.status = 128 + number


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise ``Stopped`` in this block at SIGINT or SIGTERM; a second one has its usual effect."""

    def stop(number: int, _: FrameType | None) -> None:
        restore()
        raise Stopped(number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore()
