"""The bound on pixels that are being decoded at the same time."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from model.images import TooManyPixels


class CallerGone(Exception):
    """Nobody waits for the picture any more."""


class PixelBudget:
    """Lets pictures in as long as their pixels fit together; the others wait, in the order they came.

    In order, so that a large picture is not kept out by a stream of small ones. Used by the decoder's threads.

    Args:
        most: The bound in pixels.
        held: Shows the pixels let in.
    """

    def __init__(self, most: int, held: Gauge) -> None:
        self._most = most
        self._held = 0
        self._gauge = held
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def hold(self, pixels: int, gone: Callable[[], bool]) -> Iterator[None]:
        """Wait for room, and keep it until the end.

        Args:
            pixels: How many.
            gone: Tells whether the caller has left; looked at whenever ``wake`` is called.

        Raises:
            TooManyPixels: They would never fit.
            CallerGone: The caller left while it waited.
        """
        if pixels > self._most:
            raise TooManyPixels(f"{pixels:,} pixels are more than the {self._most:,} that are decoded at a time")
        with self._changed:
            ticket = object()
            self._waiting.append(ticket)
            self._changed.wait_for(lambda: gone() or (self._waiting[0] is ticket and self._held + pixels <= self._most))
            self._waiting.remove(ticket)
            self._changed.notify_all()
            if gone():
                raise CallerGone
            self._add(pixels)
        try:
            yield
        finally:
            with self._changed:
                self._add(-pixels)
                self._changed.notify_all()

    def wake(self) -> None:
        """Have those who wait look again whether their callers are there."""
        with self._changed:
            self._changed.notify_all()

    def _add(self, pixels: int) -> None:
        self._held += pixels
        self._gauge.set(self._held)
