"""Measured accuracy: the figures in the configs of finished checkpoints."""

from dataclasses import dataclass
from pathlib import Path

from model import checkpoint
from training.card import SELECTION


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A checkpoint's agreement with one part of a data set.

    Attributes:
        folder: Name of the checkpoint's folder.
        name: Name of the checkpoint.
        dataset: Name of the data set.
        part: The part, as a rule ``validation`` (which chose the epoch, so its figures are optimistic) or ``test``.
        chosen_on: Whether the epoch was chosen on these very pictures.
        pictures: Number of pictures.
        srcc: Rank correlation.
        plcc: Pearson's correlation with the raw scores.
    """

    folder: str
    name: str
    dataset: str
    part: str
    chosen_on: bool
    pictures: int
    srcc: float
    plcc: float


def of_checkpoints(folder: Path) -> list[Measured]:
    """Collect the figures of the checkpoints in a folder.

    Args:
        folder: Each of its folders with a ``config.json`` is a checkpoint.

    Raises:
        CheckpointError: One of them is damaged.
    """
    files = sorted(folder.glob(f"*/{checkpoint.CONFIG}"))
    return [row for file in files for row in _of_one(file.parent)]


def _of_one(folder: Path) -> list[Measured]:
    config, _ = checkpoint.inspect(folder)
    card = folder / checkpoint.CARD
    # Only the card says how the epoch was chosen.
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    chosen_on = next((how.removeprefix("best_on_") for how in SELECTION if SELECTION[how] in text), "")
    found = []
    for key, figures in config.figures.items():
        if not {"pictures", "srcc", "plcc"} <= figures.keys():
            continue
        dataset, _, part = key.partition("-")
        found.append(
            Measured(
                folder=folder.name,
                name=config.name,
                dataset=dataset,
                part=part,
                chosen_on=part == chosen_on,
                pictures=int(figures["pictures"]),
                srcc=figures["srcc"],
                plcc=figures["plcc"],
            )
        )
    return found
