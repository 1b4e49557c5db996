"""A scored photo as picking needs it."""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from model.defects import DEFECTS
from model.images.capture import Capture
from model.picking.look import Look
from model.score import QualityScore


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A photo.

    Attributes:
        name: Its path, or whatever tells it from others.
        score: 0 to 100.
        severities: Severity of each defect that the model knows, 0 to 1.
        description: As in ``QualityScore``.
        width: In pixels.
        height: In pixels.
        sha256: Hash of its bytes.
        look: A small copy of it, and how it was taken.
    """

    name: str
    score: float
    severities: Mapping[str, float]
    description: tuple[float, ...]
    width: int
    height: int
    sha256: str
    look: Look

    @classmethod
    def of(cls, name: str, score: QualityScore, look: Look) -> "Photo":
        """A photo with its score.

        Raises:
            ValueError: The model finds no defects, or describes no pictures.
        """
        if not (score.defects and score.description):
            raise ValueError(f"{score.model.name} cannot tell which photos are alike: it describes none")
        return cls(
            name=name,
            score=score.score,
            # A defect that the model does not know counts as one that no photo has.
            severities={**dict.fromkeys(DEFECTS, 0.0), **{name: one.severity for name, one in score.defects.items()}},
            description=tuple(score.description),
            width=score.width,
            height=score.height,
            sha256=score.sha256,
            look=look,
        )

    @property
    def capture(self) -> Capture:
        """How it was taken."""
        return self.look.capture

    def to_dict(self) -> dict[str, Any]:
        """The photo as a JSON object."""
        look = base64.b85encode(self.look.to_bytes()).decode()
        return {**vars(self), "capture": asdict(self.capture), "look": look}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Photo":
        """The photo of ``to_dict``.

        Raises:
            ValueError, TypeError, KeyError: It is none.
        """
        own = {**values, "description": tuple(values["description"])}
        taken = Capture(**own.pop("capture"))
        return cls(**{**own, "look": Look.from_bytes(base64.b85decode(own["look"]), taken)})
