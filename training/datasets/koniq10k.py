"""KonIQ-10k: 10,073 photos with authentic distortions, 1024x768, each rated by about 120 people.

Source: Hosu et al., "KonIQ-10k: an ecologically valid database for deep learning of blind image quality assessment",
IEEE TIP 29, 2020. ``MOS_zscore`` (0 to 100) and ``MOS`` (1 to 5) order the photos almost alike (Pearson 0.995). The
official split has 7,058 photos for training, 1,000 for validation and 2,015 for testing.
"""

from pathlib import Path

from model.scale import Scale
from training.datasets.base import Dataset, DatasetError, Part, Reader, Sample
from training.datasets.files import Folder, any_file, first_folder
from training.datasets.scorefile import table

SCORES = "koniq10k_scores_and_distributions.csv"
SETS = "koniq10k_distributions_sets.csv"
SCALES = {
    "MOS_zscore": Scale(dataset="koniq10k", min=0.0, max=100.0),
    "MOS": Scale(dataset="koniq10k", min=1.0, max=5.0),
}
PARTS: dict[str, Part] = {"training": "train", "validation": "validation", "test": "test"}


def read(root: Path, column: str) -> Dataset:
    """Read the scores, and the official split if its file is there."""
    files = Folder(root)
    scores, sets = files.find(SCORES), files.find(SETS)
    parts: dict[str, Part] = {}
    if sets.is_file():
        for row in table(sets, ("image_name", "set")):
            if row["set"] not in PARTS:
                raise DatasetError(f"{sets}, line {row.line}: set is {row['set']!r}, not one of {', '.join(PARTS)}")
            parts[row["image_name"]] = PARTS[row["set"]]
    images = Folder(first_folder(root, "1024x768", "512x384"))
    if scores.is_file() or not sets.is_file():
        labels = [(row["image_name"], row.number(column)) for row in table(scores, ("image_name", column))]
    elif column == "MOS_zscore":
        # What the split file calls MOS is the other file's MOS_zscore.
        labels = [(row["image_name"], row.number("MOS")) for row in table(sets, ("image_name", "MOS"))]
    else:
        raise DatasetError(f"{scores}: no such file, and {sets.name} has no labels {column!r}")
    return Dataset(
        scale=SCALES[column],
        samples=tuple(
            Sample(path=images.find(name), name=name, mos=mos, group=name, part=parts.get(name, ""))
            for name, mos in labels
        ),
    )


READER = Reader(
    name="koniq10k",
    title="KonIQ-10k, photos with authentic distortions (Hosu et al. 2020)",
    pictures=10_073,
    layout=f"1024x768/*.jpg (or 512x384/); {SCORES}; {SETS} for the official split",
    columns=tuple(SCALES),
    scale=SCALES["MOS_zscore"],
    recognises=any_file(SCORES, SETS),
    read=read,
)
