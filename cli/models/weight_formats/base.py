"""What a format of released weights is, and the scales of the labels that such weights were trained on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from model.contract import Contract
from model.scale import Scale
from training import recipe
from training.datasets import READERS

Weights = Mapping[str, Tensor]
Rules = tuple[tuple[str, str], ...]
"""Patterns of a format's keys, and what those keys are called here."""

LABEL_SCALES: Mapping[str, Scale] = {
    **{name: reader.scale for name, reader in READERS.items() if reader.scale is not None},
    "ava": Scale(dataset="ava", min=1.0, max=10.0),
    # The readers turn these two round; released weights learned them as they are: differential scores, less is better.
    "live": Scale(dataset="live", min=0.0, max=100.0, higher_is_better=False),
    "csiq": Scale(dataset="csiq", min=0.0, max=1.0, higher_is_better=False),
}
"""Scales of the labels, by data set."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of released weights.

    Attributes:
        title: What it is, for people.
        mark: A key that only this format has.
        rules: Patterns of its keys and what they are called here; the first match wins.
        dropped: Patterns of keys that nothing here needs.
        network: From the renamed weights to the preset and the fields that differ from it.
        recipes: What the names of this system's shipped recipes begin with; they say how pictures of each data set were
            resized and how many crops were scored.
        contract_fields: Fields of the contract that differ from those recipes.
        line: From the scale of the labels to the slope and intercept that turn an output into a label.
        partial: Whether the file lacks the trunks, which then come from timm's hub.
        convert: Changes of the renamed tensors: their shapes, and tensors that are one here and several there.
    """

    title: str
    mark: str
    rules: Rules
    dropped: tuple[str, ...] = ()
    network: Callable[[Weights], tuple[str, dict[str, Any]]]
    recipes: str
    contract_fields: Mapping[str, Any] = field(default_factory=dict)
    line: Callable[[Scale], tuple[float, float]] = lambda _: (1.0, 0.0)
    partial: bool = False
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict

    def contract(self, dataset: str, view: Mapping[str, Any]) -> Contract:
        """The contract by which the weights were trained.

        Args:
            dataset: Name of the data set that the weights were trained on.
            view: The fields of the contract that the network itself decides, see ``registry.view``.

        Raises:
            ValueError: No recipe tells how pictures of that data set were seen.
        """
        recipes = map(recipe.load, sorted(recipe.SHIPPED.glob(f"{self.recipes}-*.toml")))
        known = {one.dataset: one for one in recipes}
        if "ava" not in known and self.recipes == "musiq":
            known["ava"] = known["koniq10k"]
        if dataset not in known:
            raise ValueError(f"how {self.title} saw {dataset!r} is not known; known are {', '.join(known)}")
        fields = {name: getattr(known[dataset], name) for name in ("resize", "width", "height", "crops")}
        scale = LABEL_SCALES[dataset]
        slope, intercept = self.line(scale)
        return Contract(**{**fields, **self.contract_fields, **view}, scale=scale, slope=slope, intercept=intercept)
