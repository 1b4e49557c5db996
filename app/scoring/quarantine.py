"""Pictures that the engine failed on, kept away from it for some minutes.

A picture that fails in company and again alone, while the next one goes well, has something in it that the engine
cannot bear; sent again and again it would cost everybody two batches each time. When one picture after the other fails,
it is the engine that is ill, and no picture is blamed.
"""

from collections import OrderedDict
from collections.abc import Callable

SECONDS = 300.0
MOST = 1024
Name = tuple[str, str]
"""Hash of the picture, and digest of the model that failed on it."""


class Quarantine:
    """Names of pictures with the time until which they are held.

    Args:
        clock: Seconds from a monotonic clock.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: OrderedDict[Name, float] = OrderedDict()
        self._streak: set[Name] = set()

    def __contains__(self, name: Name) -> bool:
        return self._held.get(name, 0.0) > self._clock()

    def failed(self, name: Name) -> None:
        """The engine failed on a picture, also when it was alone."""
        self._streak.add(name)

    def went_well(self, name: Name) -> None:
        """The engine has answered for a picture: if it failed on just one other before, that one is held."""
        if len(self._streak) == 1 and name not in self._streak:
            (other,) = self._streak
            self._held[other] = self._clock() + SECONDS
            self._held.move_to_end(other)
            while len(self._held) > MOST:
                self._held.popitem(last=False)
        self._streak.clear()
