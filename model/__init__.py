"""Networks, preprocessing, checkpoints and the offline scorer.

``from model import Scorer`` works without paying for torch until a scorer is asked for: the batcher and the command
line's help import this package too.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.scorer import QualityScore, Scorer

__all__ = ["QualityScore", "Scorer"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from model import scorer

        return getattr(scorer, name)
    raise AttributeError(f"module 'model' has no attribute {name!r}")
