"""FLIVE (PaQ-2-PiQ): 39,810 photos with authentic distortions, MOS 0 to 100; whole photos, not the patches.

Source: Ying et al., "From patches to pictures (PaQ-2-PiQ): mapping the perceptual space of picture quality", CVPR 2020.
Its test set is the photos with a side above 640, which ``labels640.csv`` lists; ``labels=640_padded.csv`` marks the
validation photos.
"""

from pathlib import Path

from model.scale import Scale
from training.datasets.base import Dataset, Part, Reader, Sample
from training.datasets.files import Folder, any_file
from training.datasets.scorefile import table

SCORES, TEST, VALIDATION = "labels_image.csv", "labels640.csv", "labels=640_padded.csv"
SCALE = Scale(dataset="flive", min=0.0, max=100.0)


def read(root: Path, column: str) -> Dataset:
    """Read the scores; without the two other lists there is no official split."""
    pictures = Folder(root).find("database")
    images = Folder(pictures if pictures.is_dir() else root)
    # Some copies keep the lists beside the pictures' folders.
    files = Folder(root) if Folder(root).find(SCORES).is_file() else images
    parts: dict[str, Part] = {}
    test, validation = files.find(TEST), files.find(VALIDATION)
    if validation.is_file():
        for row in table(validation, ("name_image", "is_valid")):
            if row["is_valid"].lower() in ("true", "1", "1.0"):
                parts[row["name_image"]] = "validation"
    if test.is_file():
        parts |= {row["name_image"]: "test" for row in table(test, ("name_image",))}
    usual: Part = "train" if test.is_file() else ""
    return Dataset(
        scale=SCALE,
        samples=tuple(
            Sample(
                path=images.find(name),
                name=name,
                mos=row.number(column),
                group=name,
                part=parts.get(name, usual) if usual else "",
            )
            for row in table(files.find(SCORES), ("name", column))
            for name in [row["name"]]
        ),
    )


READER = Reader(
    name="flive",
    title="FLIVE or PaQ-2-PiQ, photos with authentic distortions (Ying et al. 2020)",
    pictures=39_810,
    layout=f"database/*/*.jpg; {SCORES} there or beside it; {TEST} and {VALIDATION} for the official split",
    columns=("mos",),
    scale=SCALE,
    recognises=any_file(SCORES, f"database/{SCORES}"),
    read=read,
)
