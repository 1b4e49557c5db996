"""The one thread that may touch a device.

It runs calls in the order they come in. A call that raises is an outcome like any other; should the thread itself
end, its owner is told, who then answers whoever waits: nobody hangs on a dead device.
"""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

log = logging.getLogger("smart_iqa.device")

CLOSE_SECONDS = 10.0
T = TypeVar("T")


class Outcome(NamedTuple, Generic[T]):
    """What became of a call: its value, or the exception in ``error``."""

    value: T | None
    error: Exception | None


class _Call(NamedTuple):
    work: Callable[[], object]
    done: Callable[[Outcome[object]], object]


class DeviceThread:
    """A supervised worker thread.

    Args:
        name: Name of the thread.

    Attributes:
        on_death: Called on the thread as it ends without having been asked to.
    """

    def __init__(self, name: str) -> None:
        self.on_death: Callable[[], object] = lambda: None
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether calls are still being run."""
        return self._thread.is_alive()

    def run(self, work: Callable[[], T], done: Callable[[Outcome[T]], object]) -> None:
        """Queue a call; ``done`` gets its outcome, on the device thread."""
        self._calls.put(_Call(work, done))  # type: ignore[arg-type]  # work and done agree on T

    def close(self) -> None:
        """Let the calls that are queued finish, then end the thread; one that hangs is left behind."""
        self._calls.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _main(self) -> None:
        asked_to = False
        try:
            while (call := self._calls.get()) is not None:
                try:
                    outcome = Outcome(call.work(), None)
                except Exception as error:
                    log.exception("a call on the device failed")
                    # The traceback's frames hold the batch's memory on the device, which the retry will need.
                    outcome = Outcome(None, error.with_traceback(None))
                call.done(outcome)
                del call, outcome
            asked_to = True
        finally:
            if not asked_to:
                self.on_death()
