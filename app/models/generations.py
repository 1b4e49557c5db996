"""The loaded models, through exchanges: a request may meet those that were there when it came, or newer ones.

Old models go only when every request that came before the exchange has ended. So a request that has found its model
keeps it, however long its upload takes, and all of its answer is from that one.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from app.models.loading import ServedModel


@dataclass(eq=False)
class _Generation:
    models: Mapping[str, ServedModel]
    holders: int = 0

    @property
    def keys(self) -> set[str]:
        """What the batcher knows its models by."""
        return {key for model in self.models.values() for key in model.keys}


class Generations:
    """The current models, and older ones that may still be in use.

    Args:
        forget: Called with the keys of models that nobody can meet any more.
    """

    def __init__(self, forget: Callable[[list[str]], object]) -> None:
        self._forget = forget
        self._generations = deque([_Generation({})])

    @property
    def current(self) -> Mapping[str, ServedModel]:
        """The models by name, the default one first."""
        return self._generations[-1].models

    def replace(self, models: Mapping[str, ServedModel]) -> None:
        """Let requests that look for a model from now on find these."""
        self._generations.append(_Generation(models))
        self._retire()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the current models and all newer ones for as long as this lasts."""
        generation = self._generations[-1]
        generation.holders += 1
        try:
            yield
        finally:
            generation.holders -= 1
            self._retire()

    def _retire(self) -> None:
        # In order: who came in an early generation may have found its model in a later one.
        while len(self._generations) > 1 and not self._generations[0].holders:
            gone = self._generations.popleft().keys
            if keys := gone.difference(*(kept.keys for kept in self._generations)):
                self._forget(sorted(keys))
