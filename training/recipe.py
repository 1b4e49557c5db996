"""Recipes: everything that decides a training run, as a TOML file."""

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run.

    Raises:
        ValueError: A number is out of range.
    """

    network: str
    """Preset name, see ``model.registry.names``."""
    dataset: str
    """Data set name, see ``training.datasets.READERS``."""
    validation_share: float = 0.2
    seed: int = 0
    """Seeds the split, the order of pictures, crops, flips, dropout and the network's new layers."""
    epochs: int = 10
    batch_pictures: int = 32
    crops_per_picture: int = 1
    """Random crops that each picture gives per epoch; all go into one batch."""
    backbone_lr: float = 1e-4
    head_lr: float = 1e-3
    weight_decay: float = 1e-4
    warmup_epochs: float = 1.0
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    """The weights that are kept are a moving average over the steps; 0 keeps the last step's."""
    freeze_bn: bool = False
    """Keep the running statistics of batch norms, in the whole backbone."""
    frozen: tuple[str, ...] = ()
    """Backbone parameters that are not trained, by the beginning of their names."""
    resize: Literal["fit", "exact", "none"] = "fit"
    width: int = 512
    height: int = 512
    crops: int = 8
    """Crops per picture of the contract."""
    validation_crops: int = 4
    """Crops per picture at the end of each epoch; the final figures use the contract's."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_pictures", "crops_per_picture", "validation_crops"):
            if getattr(self, name) < 1:
                raise ValueError(f"recipe: {name} must be at least 1")
        if not 0 <= self.ema_decay < 1:
            raise ValueError("recipe: ema_decay must be at least 0 and below 1")
        if not 0 < self.validation_share < 1:
            raise ValueError("recipe: validation_share must be between 0 and 1")


def load(file: Path) -> Recipe:
    """Read a recipe.

    Raises:
        ValueError: The file is not TOML, or a field is unknown, missing or out of range.
    """
    try:
        fields = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{file}: {error}") from error
    known = [field.name for field in dataclasses.fields(Recipe)]
    for name in fields:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            raise ValueError(f"{file}: unknown field {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
    if "frozen" in fields:
        fields["frozen"] = tuple(fields["frozen"])
    try:
        return Recipe(**fields)
    except TypeError as error:
        raise ValueError(f"{file}: {error}") from error
