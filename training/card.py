"""The model card that goes with a checkpoint."""

from model.contract import Contract
from training.correlation import Agreement
from training.recipe import Recipe

TERMS = {
    "biq2021": (
        "The labels and photos are those of BIQ2021 (Ahmed and Asif, J. Electronic Imaging 31(5), 2022), whose page\n"
        "states no licence; part of the photos came from Unsplash. No photo is part of this checkpoint. Ask the\n"
        "authors of the data before you sell what these weights compute."
    )
}


def write(recipe: Recipe, contract: Contract, agreement: Agreement, *, trained: int, validated: int, init: str) -> str:
    """Write ``card.md``.

    Args:
        recipe: How it was trained.
        contract: How it looks at pictures.
        agreement: Figures on the validation pictures, on the raw scale.
        trained: Number of training pictures.
        validated: Number of validation pictures.
        init: Where the backbone's first weights came from.
    """
    scale = contract.scale
    name = f"{recipe.network}-{recipe.dataset}"
    return f"""# {name}

SMART-IQA (`{recipe.network}`) trained on {recipe.dataset}.

## Data

{trained} pictures for training, {validated} for validation, drawn with seed {recipe.seed}; `split.json` names them.
Labels run from {scale.min:g} to {scale.max:g}. The backbone started from {init}.

## Training

{recipe.epochs} epochs of {recipe.crops_per_picture} random, randomly mirrored {contract.crop_size}x{contract.crop_size}
crops per picture, L1 loss, AdamW, learning rate {recipe.backbone_lr:g} for the backbone and {recipe.head_lr:g} for the
rest, cosine to zero. The epoch with the highest SRCC on the validation pictures was kept, so the figures below are
slightly hopeful.

## Figures

Measured through the serving path with {contract.crops} crops on the {validated} validation pictures:

| SRCC | PLCC | RMSE | MAE |
|---|---|---|---|
| {agreement.srcc:.4f} | {agreement.plcc:.4f} | {agreement.rmse:.4f} | {agreement.mae:.4f} |

RMSE and MAE are in units of the labels.

## Terms

{TERMS.get(recipe.dataset, "Those of the training data; ask whoever owns them.")}

## Limits

A score says how people of the training set's kind would rate a photo of the training set's kind. Screenshots,
drawings, medical or astronomical pictures are outside of it, and so are defects that vanish when a picture is shrunk
to {contract.width}x{contract.height}.
"""
