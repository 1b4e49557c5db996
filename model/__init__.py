"""Networks, preprocessing, checkpoints and the offline scorer.

``from model import Scorer`` loads torch, ``from model import QualityScore`` does not.
"""

from typing import TYPE_CHECKING, Any

from model.score import QualityScore

if TYPE_CHECKING:
    from model.scorer import Scorer

__all__ = ["QualityScore", "Scorer"]


def __getattr__(name: str) -> Any:
    if name == "Scorer":
        from model.scorer import Scorer

        return Scorer
    raise AttributeError(f"module 'model' has no attribute {name!r}")
