"""``card.md``, the model card of a checkpoint."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from model.contract import GRADES, PERCENTILE_STEP, Contract
from training.correlation import FIGURES, Agreement
from training.cross_validation import CrossValidation
from training.datasets import Part
from training.intervals import Coverage
from training.preferences import Bin
from training.recipe import Recipe
from training.splits import Split

TERMS = {
    "biq2021": (
        "The labels and photos are those of BIQ2021 (Ahmed and Asif, J. Electronic Imaging 31(5), 2022). No photo is\n"
        "part of this checkpoint. What the sources' terms allow:\n\n"
        "| source | photos | terms |\n"
        "|---|---|---|\n"
        "| `ss01` | personal photos | none stated |\n"
        "| `ss02` | taken with flaws on purpose | none stated |\n"
        "| `ss03` | from Unsplash | its licence: free to use, for sale too, but not to build a like service |\n"
        "| all labels | | none stated |\n\n"
        "Ask the authors of the data before you sell what these weights compute."
    )
}
SELECTION = {
    "validation": (
        "The epoch with the highest SRCC on the validation pictures was kept, so the validation figures are slightly\n"
        "hopeful."
    ),
    "last": "The last epoch was kept.",
    "best_on_test": (
        "The epoch with the highest SRCC on the TEST pictures was kept, as some papers do: the test figures are not\n"
        "what unseen pictures would give."
    ),
}


HEADS_TITLE = "## Defects and intervals"
_LEARNED_FROM = (
    "The head for defects learned from ",
    " views of good training pictures, most with one to three defects added.",
)
MEANING_TITLE = "## What a score means"
OPTIMIZERS = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD with momentum"}


def write(
    recipe: Recipe,
    contract: Contract,
    agreements: Mapping[Part, Agreement],
    split: Split,
    *,
    split_origin: str,
    epochs: int,
    calibrated_on: str,
    note: str,
    init: str,
    cross_validation: Sequence[CrossValidation],
) -> str:
    """Write ``card.md``.

    Args:
        recipe: The recipe of the training.
        contract: The contract of the checkpoint.
        agreements: Figures by part of the split, on the raw scale.
        split: The pictures.
        split_origin: Where the split is from, in words.
        epochs: Number of epochs that were trained.
        calibrated_on: The part on which the line from outputs to labels was fitted; "" if none was.
        note: The data set's note on its labels.
        init: Where the first weights are from, in words.
        cross_validation: Figures of the recipe's cross-validation, those that say most first.
    """
    scale = contract.scale
    counts = {"training": split.train, "validation": split.validation, "testing": split.test}
    pictures = ", ".join(f"{len(names)} pictures for {part}" for part, names in counts.items() if names)
    lines = [
        f"| {part} | {len(split.names(part))} | "
        + " | ".join(f"{getattr(agreement, figure):.4f}" for figure in FIGURES)
        + " |"
        for part, agreement in agreements.items()
    ]
    for found in cross_validation:
        cells = (f"{found.mean[figure]:.4f} ± {found.spread[figure]:.4f}" for figure in FIGURES)
        lines.append(f"| {found.folds} folds{_without(found)} | {found.pictures} | " + " | ".join(cells) + " |")
    size = f"{contract.crop_size}x{contract.crop_size}"
    views = (
        f"{recipe.visits * recipe.crops_per_picture} random {'and mirrored ' if recipe.flip else ''}{size} crops"
        if contract.view == "crops"
        else f"{recipe.visits} {'randomly mirrored ' if recipe.flip else ''}views of the whole"
    )
    training = [
        f"{epochs} epochs of {views} per picture.",
        f"{recipe.loss} loss, {OPTIMIZERS[recipe.optimizer]}, {recipe.schedule} schedule.",
        f"Learning rate {recipe.backbone_lr:g} for the backbone, {recipe.head_lr:g} for the rest.",
        SELECTION[recipe.selection],
    ]
    if calibrated_on:
        training.append(
            "The loss leaves the scale of the outputs open; a line to the labels was fitted on "
            f"{calibrated_on} pictures."
        )
    return f"""# {recipe.network}-{recipe.dataset}

`{recipe.network}` trained on {recipe.dataset}.

## Data

{pictures}, by {split_origin}; `split.json` names them.{_not_learned(recipe)}
Labels run from {scale.min:g} to {scale.max:g}. {note}
The first weights are {init}.

## Training

{chr(10).join(training)}

## Figures

Measured through the serving path with {f"{contract.crops} crops" if contract.view == "crops" else "whole pictures"}:

| part | pictures | SRCC | KRCC | PLCC | PLCC after logistic | RMSE | MAE |
|---|---|---|---|---|---|---|---|
{chr(10).join(lines)}

RMSE and MAE are in units of the labels.{_cross_validation_errors(cross_validation[0]) if cross_validation else ""}

{MEANING_TITLE}

{_grades_and_percentiles(contract)}

## Terms

{TERMS.get(recipe.dataset, "Those of the training data; ask whoever owns them.")}

## Limits

A score says how people of the training set's kind would rate a photo of the training set's kind. Screenshots,
drawings, medical or astronomical pictures are outside of it, and so are defects that vanish when a picture is shrunk
to {"x".join(map(str, contract.shapes[0] if contract.shapes else (contract.width, contract.height)))}.
"""


class Heads(NamedTuple):
    """What a card tells of the heads beside the score.

    Attributes:
        coverage: How well the intervals hold; empty if there are none.
        reliability: How often what is stated of pairs holds; empty if nothing is.
        examples: How many examples the head for defects learned from.
    """

    coverage: Sequence[Coverage]
    reliability: Sequence[Bin]
    examples: int


def with_heads(text: str, heads: Heads) -> str:
    """A card with a section on the heads beside the score.

    Args:
        text: The card of the checkpoint before it got heads.
        heads: What to tell of them.
    """
    section = f"{HEADS_TITLE}\n\n{_learned(heads.examples)}\n"
    if heads.coverage:
        rows = [
            f"| {row.photos} | {row.count} | {row.within:.1%} | {row.below:.1%} | {row.above:.1%} | {row.width:.1f} |"
            for row in heads.coverage
        ]
        section += f"""
Intervals were calibrated on the scores of a cross-validation. Each source has factors of its own, and a picture gets
their mean by how likely each source is. Each fold with factors from the others, so many labels lie within:

| photos | | within | below | above | mean width, points |
|---|---|---|---|---|---|
{chr(10).join(rows)}
"""
    if heads.reliability:
        pairs = [
            f"| {bin_.low:.0%} to {bin_.high:.0%} | {bin_.pairs:,} | {bin_.stated:.1%} | {bin_.held:.1%} |"
            for bin_ in heads.reliability
        ]
        section += f"""
Of two photos, the probability that people prefer the one with the higher score follows from both scores and intervals.
Pairs of photos that were not trained on, by the probability that was stated, with what held:

| stated | pairs | mean | held |
|---|---|---|---|
{chr(10).join(pairs)}
"""
    before, title, after = text.partition(MEANING_TITLE)
    before = before.partition(HEADS_TITLE)[0]
    return f"{before}{section}\n{title}{after}"


def with_defects(text: str, examples: int) -> str:
    """A card whose checkpoint learned its defects anew.

    Args:
        text: The card before; what it tells of other heads stays.
        examples: How many examples the head for defects learned from.
    """
    before, title, after = text.partition(HEADS_TITLE)
    _, end, others = after.partition(_LEARNED_FROM[1])
    return f"{before}{title}\n\n{_learned(examples)}{others}" if end else text


def _learned(examples: int) -> str:
    return f"{examples:,}".join(_LEARNED_FROM)


def _not_learned(recipe: Recipe) -> str:
    return f"\nThe labels of {' and '.join(recipe.left_out)} were not learned." if recipe.left_out else ""


def _without(result: CrossValidation) -> str:
    return f", without {' and '.join(result.left_out)}" if result.left_out else ""


def _cross_validation_errors(result: CrossValidation) -> str:
    """How far scores were from labels in cross-validation, in words."""
    half, most, nearly_all = result.within
    text = f"""

For the folds the recipe was trained {result.folds} times, each time without the pictures that it was then judged on:
mean and standard deviation. Over all of these pictures{_without(result)}
a score is {result.error:.1f} points of 100 away from the people's: by at most {half:.1f} for half of them,
{most:.1f} for 68 % and {nearly_all:.1f} for 95 %."""
    if result.coverage:
        one, two, three = (f"{share:.0%}" for share in result.coverage)
        most, nearly_all = result.reach
        text += f"""
`stderr` is the spread of the crops alone: the error is within one of it for {one} of the pictures, within two for
{two} and three for {three}. It takes {most:.1f} of it to hold 68 %, and {nearly_all:.1f} to hold 95 %."""
    return text


def _grades_and_percentiles(contract: Contract) -> str:
    """The contract's grades and percentiles as tables."""
    if not contract.grades:
        return "There were too few training pictures to grade scores."
    ends = ["0", *(f"{score:g}" for score in contract.grades), "100"]
    grades = [f"| {grade} | {low} to {high} |" for grade, (low, high) in zip(GRADES, pairwise(ends), strict=True)]
    shown = [(share, contract.percentiles[share // PERCENTILE_STEP]) for share in (5, 10, 25, 50, 75, 90, 95)]
    shares, scores = (" | ".join(f"{value:g}" for value in row) for row in zip(*shown, strict=True))
    return f"""| grade | score |
|---|---|
{chr(10).join(grades)}

| % of the training pictures | {shares} |
|---|{"---|" * len(shown)}
| score at most | {scores} |"""
