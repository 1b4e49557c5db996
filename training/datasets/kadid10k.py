"""KADID-10k: 81 photos, each with 25 distortions at 5 levels, 10,125 pictures.

Source: Lin et al., "KADID-10k: a large-scale artificially distorted IQA database", QoMEX 2019. The score file calls its
column ``dmos``, but higher is better (1 to 5).
"""

from pathlib import Path

from model.scale import Scale
from training.datasets.base import Dataset, Reader, Sample
from training.datasets.files import Folder, any_file, first_folder
from training.datasets.scorefile import table

SCORES = "dmos.csv"
SCALE = Scale(dataset="kadid10k", min=1.0, max=5.0)


def read(root: Path, column: str) -> Dataset:
    """Read the score file; pictures of one reference belong together."""
    images = Folder(first_folder(root, "images", "distorted_images"))
    rows = table(Folder(root).find(SCORES), ("dist_img", "ref_img", column))
    return Dataset(
        scale=SCALE,
        samples=tuple(
            Sample(
                path=images.find(row["dist_img"]),
                name=row["dist_img"],
                mos=row.number(column),
                group=row["ref_img"].lower(),
            )
            for row in rows
        ),
        note="The column called dmos is an opinion score, higher is better, and is used as it is.",
    )


READER = Reader(
    name="kadid10k",
    title="KADID-10k, artificial distortions (Lin et al. 2019)",
    pictures=10_125,
    layout="images/I01_01_01.png ... (or distorted_images/); dmos.csv",
    columns=("dmos",),
    scale=SCALE,
    recognises=any_file(SCORES),
    read=read,
)
