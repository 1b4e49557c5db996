"""Quality of photos: ``from smart_iqa import QualityScore, Scorer``.

What is installed has all packages below this one: ``smart_iqa.model``, ``smart_iqa.app``, ``smart_iqa.training``,
``smart_iqa.cli``. In a clone they are the folders beside it, and ``clone`` gives them these names too.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model import QualityScore, Scorer

__all__ = ["QualityScore", "Scorer"]

if not Path(__file__).with_name("model").is_dir():
    from smart_iqa import clone

    clone.give_names()


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("smart_iqa.model"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
