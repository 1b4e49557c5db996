"""Recipes: all settings of a training run, as a TOML file."""

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from model.contract import MAX_CROPS
from model.networks.network import HEADS, first_fault
from training.losses import LossName

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(ge=0)]

LEAST_BINS = 8
"""Fewest bins of a distribution: with fewer, a label lies between two of them."""
SHIPPED = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Recipe:
    """A training run.

    Raises:
        ValidationError: A field is of the wrong type or out of range.
    """

    network: str
    """Preset name, see ``model.networks.registry.names``."""
    backbone: str = ""
    """timm name of another backbone, or of the preset's with a tag that says which weights; "" keeps the preset's."""
    dropout: Share | None = None
    """Dropout rate; left out, the preset's."""
    drop_path: Share | None = None
    """Stochastic depth; left out, the preset's."""
    options: dict[str, int | float | bool | str | tuple[int, ...]] = Field(default_factory=dict)
    """Other fields of the network's config, but those for ``HEADS``."""

    dataset: str
    """Data set name, see ``training.datasets.READERS``."""
    labels: str = ""
    """The data set's column of scores to learn; "" takes the usual one."""
    split: Literal["random", "official", "folds"] = "random"
    """``random`` draws test and validation pictures; ``official`` takes the data set's own parts, and draws only the
    validation pictures, from the training ones, where there are none; ``folds`` is cross-validation: of ``folds`` parts
    of the official training pictures (of all, where there is no official split), the one numbered ``fold`` tests and
    all others train."""
    folds: Annotated[int, Field(ge=2)] = 5
    fold: Annotated[int, Field(ge=0)] = 0
    test_share: Share = 0.0
    validation_share: Share = 0.2
    """Share of all pictures; of an official split, of its training pictures."""
    train_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training pictures to learn from, for studies of data efficiency."""
    selection: Literal["validation", "last", "best_on_test"] = "validation"
    """Which epoch to keep. ``best_on_test`` is what some papers did; its test pictures are not unseen ones."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs without a better SRCC after which training stops; 0 never stops early."""
    seed: int = 0
    """Seeds the split, the order of pictures, crops, flips, dropout and the network's new layers."""

    epochs: Count = 10
    batch_pictures: Count = 32
    """Pictures per step, over all processes and accumulated batches."""
    crops_per_picture: Count = 1
    """Random crops per visit to a picture; all go into one batch."""
    visits: Count = 1
    """Visits to each picture per epoch."""
    accumulate: Count = 1
    """Batches per step; losses that compare pictures compare within a batch."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is autocast: weights stay fp32."""

    loss: LossName = "l1"
    ranking_weight: Rate = 0.0
    """Weight of an added hinge loss over pairs."""
    ranking_margin: Rate = 0.0
    """Margin of that hinge, in units of the network's output."""
    label_range: tuple[float, float] | None = None
    """Outputs to learn for the lowest and the highest label; left out, the labels themselves (and when starting from a
    checkpoint, its network's outputs for its lowest and highest label)."""

    left_out: tuple[str, ...] = ()
    """Sources of the data set whose pictures are not learned from; they are tested all the same."""
    label_noise: Share = 0.0
    """Standard deviation of noise added to a label at every visit, as a share of the range of labels: about the error
    of the mean of a few raters."""

    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """``adam`` decays weights through its gradients; ``sgd`` has a momentum of 0.9."""
    backbone_lr: Rate = 1e-4
    head_lr: Rate = 1e-3
    weight_decay: Rate = 1e-4
    decay_norms: bool = True
    """Whether norms and biases decay as well."""
    schedule: Literal["cosine", "step"] = "cosine"
    warmup_epochs: Rate = 1.0
    step_epochs: Count = 10
    """Epochs between two drops of the rates in the ``step`` schedule."""
    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor of the rates at each drop."""
    clip_norm: Rate = 1.0
    """Largest norm of the gradients; 0 does not clip."""
    ema_decay: Share = 0.998
    """The weights that are kept are a moving average over the steps; 0 keeps the last step's."""
    freeze_hyper_after_first_epoch: bool = False
    """Train only what learns at the backbone's rate from the second epoch on, as HyperIQA's released code does by an
    exhausted iterator."""
    freeze_bn: bool = False
    """Keep the running statistics of batch norms, in the whole backbone."""
    half: bool = False
    """Store the checkpoint's matrices with 16 bits a number: half the size; scores move in the third decimal."""
    frozen: tuple[str, ...] = ()
    """Parts of the backbone that are not trained, by name: ``blocks.1`` is neither ``blocks.10`` nor ``blocks.11``."""
    at_backbone_lr: tuple[str, ...] = ()
    """Parts of the network outside the backbone that learn at its rate, by name: ``distortion``, say, as in HyperIQA's
    released code."""

    degraded: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the visits to a picture that also show its first item with defects added, twice, the second time
    more."""
    degraded_weight: Rate = 1.0
    """Weight of the added hinge loss: each of these three crops must score below the one before."""
    degraded_margin: Rate = 0.02
    """Margin of that hinge for a fifth of a defect's severity between two crops; a share of the range of labels."""
    blank: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the visits that also show a blank crop (noise, one colour), which must score the lowest label."""

    distil_weight: Rate = 0.0
    """Weight of the added distance of scores and feature maps from a teacher's, see ``training.distillation``."""

    flip: bool = True
    """Mirror crops at random."""
    vertical_flip: bool = False
    """Turn them upside down at random."""
    color_jitter: Share = 0.0
    """Largest random change of brightness, contrast and saturation. It changes quality, but not the label."""
    resize: Literal["fit", "exact", "none"] = "fit"
    width: Count = 512
    height: Count = 512
    decoding: Literal["full", "scaled"] = "full"
    """``scaled`` lets large JPEGs be decoded at a smaller scale, in training and wherever the checkpoint is used."""
    shapes: tuple[tuple[Count, Count], ...] = ()
    """Widths and heights of whole views, see ``model.contract``; left out, pictures are cut into crops. Resize rule and
    size do not matter to whole views."""
    crop_size: Count = 224
    """Side of a crop in pixels."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Mean and standard deviation of the pixels that the backbone's first weights were trained with, of 0 to 1."""
    zooms: tuple[float, ...] = (1.0,)
    """Sizes at which pictures are cut for scoring, as shares of their resized sides, largest first; training crops are
    of random sizes from the first to the last. Of whole pictures, training sees parts whose sides are of random lengths
    from the last to all."""
    crops: Annotated[int, Field(ge=1, le=MAX_CROPS)] = 8
    """Crops per picture of the contract."""
    validation_crops: Annotated[int, Field(ge=1, le=MAX_CROPS)] = 4
    """Crops per picture in the validation after each epoch; the final figures use the contract's."""

    def __post_init__(self) -> None:
        if {*self.options} & HEADS:
            raise ValueError("heads beside the score are trained after it: smart-iqa heads")
        if self.loss == "bins" and (self.options.get("bins", 1) in range(LEAST_BINS) or self.ranking_weight):
            raise ValueError(f"loss = bins needs options = {{bins = {LEAST_BINS}}} or more, and no ranking_weight")
        if self.batch_pictures % self.accumulate:
            raise ValueError("batch_pictures must be a multiple of accumulate")
        if self.split == "folds" and self.fold >= self.folds:
            raise ValueError(f"of {self.folds} folds the last one is number {self.folds - 1}")
        if self.label_range is not None and not self.label_range[0] < self.label_range[1]:
            raise ValueError("label_range must rise")

    def network_changes(self) -> dict[str, Any]:
        """Fields in which the network differs from its preset."""
        changes = {"backbone": self.backbone or None, "dropout": self.dropout, "drop_path": self.drop_path}
        return {name: value for name, value in changes.items() if value is not None} | self.options


def load(file: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        file: A TOML file; a bare name may also be one of the shipped recipes.
        changes: Fields to change, as ``name=value`` with a TOML value; text needs no quotes.

    Raises:
        ValueError: The file is not TOML, or a field is unknown, missing or out of range.
    """
    return make(_read(file) | dict(map(_parse_change, changes)), str(file))


def make(values: Mapping[str, Any], origin: str) -> Recipe:
    """Make a recipe from fields by name.

    Args:
        values: The fields.
        origin: Where they are from, for the message of an error.

    Raises:
        ValueError: A field is unknown, missing or out of range.
    """
    known = [field.name for field in dataclasses.fields(Recipe)]
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            raise ValueError(f"{origin}: unknown field {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
    try:
        return Recipe(**values)
    except ValidationError as error:
        raise ValueError(f"{origin}: {first_fault(error)}") from error


def dump(recipe: Recipe) -> str:
    """Write a recipe as TOML, every field of it."""
    return "".join(f"{name} = {_toml(value)}\n" for name, value in fields(recipe).items())


def fields(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe that are not left out, by name."""
    return {name: value for name, value in dataclasses.asdict(recipe).items() if value is not None}


def _toml(value: Any) -> str:
    """A value in TOML. JSON's numbers, texts, booleans and lists are TOML too; its objects are not."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(one)}" for name, one in value.items()) + "}"
    return json.dumps(value)


def _read(file: Path) -> dict[str, Any]:
    shipped = SHIPPED / f"{file.name.removesuffix('.toml')}.toml"
    if not file.exists() and file.parent == Path() and shipped.exists():
        file = shipped
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not TOML: {error}") from error


def _parse_change(change: str) -> tuple[str, Any]:
    name, equals, text = change.partition("=")
    if not equals:
        raise ValueError(f"{change!r}: a change of a recipe is written name=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    return name.strip(), value
