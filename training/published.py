"""Accuracy as the papers print it, for comparison with measured accuracy.

The papers' protocols differ, so two rows are comparable only as far as their notes agree. A row is from the
system's own paper, or from one that cites it, as its ``source`` then says.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

NoteName = Literal["ten", "fixed", "test", "logistic", "cited", "mean", "sizes", "epoch"]

TITLES: Mapping[str, str] = {
    "live": "LIVE",
    "csiq": "CSIQ",
    "tid2013": "TID2013",
    "kadid10k": "KADID-10k",
    "clive": "LIVEC",
    "koniq10k": "KonIQ-10k",
    "spaq": "SPAQ",
    "flive": "FLIVE",
    "biq2021": "BIQ2021",
    "agiqa3k": "AGIQA-3K",
}
"""Usual names of the data sets, by the names of their readers, in the order of the papers' tables; no paper has figures
for the last two."""

NOTES: Mapping[NoteName, str] = {
    "ten": "median of ten random 80/20 splits",
    "fixed": "one split of 7,046 and 2,010 pictures, which is not KonIQ-10k's official one",
    "test": "the epoch was chosen on the test pictures: the figures are hopeful",
    "logistic": "PLCC after a logistic of four parameters; the others' is of the raw scores or not said",
    "cited": "cited by another system's paper; some cells there were measured by its authors, some copied",
    "mean": "mean of ten random 80/20 splits; SPAQ shrunk to a shorter side of 512",
    "sizes": "from the paper's study of sizes, which has three data sets",
    "epoch": "which epoch was judged is not said",
}
"""Footnotes of the table; each row names those that apply to it."""


class Pair(NamedTuple):
    """A system's agreement with the labels of one data set, both between -1 and 1."""

    srcc: float
    plcc: float


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of a paper's table.

    Attributes:
        preset: Preset name of the network.
        source: The paper and its table.
        notes: Names of ``NOTES``.
        figures: By data set, see ``TITLES``; only those that the paper prints.
    """

    preset: str
    source: str
    notes: tuple[NoteName, ...]
    figures: Mapping[str, Pair]


_SMART: tuple[NoteName, ...] = ("fixed", "test")
_LODA: tuple[NoteName, ...] = ("ten", "logistic", "epoch")

ROWS: tuple[Published, ...] = (
    Published(
        preset="smart-tiny",
        source="SMART-IQA, Table I",
        notes=_SMART,
        figures={"koniq10k": Pair(0.9249, 0.9360)},
    ),
    Published(
        preset="smart-small",
        source="SMART-IQA, Table I",
        notes=_SMART,
        figures={"koniq10k": Pair(0.9338, 0.9455)},
    ),
    Published(
        preset="smart-base",
        source="SMART-IQA, Table I",
        notes=_SMART,
        figures={"koniq10k": Pair(0.9378, 0.9485)},
    ),
    Published(
        preset="smart-base-no-attention",
        source="SMART-IQA, Table II",
        notes=_SMART,
        figures={"koniq10k": Pair(0.9353, 0.9469)},
    ),
    Published(
        preset="smart-base-backbone-only",
        source="SMART-IQA, Table II",
        notes=_SMART,
        figures={"koniq10k": Pair(0.9338, 0.9437)},
    ),
    # From a paper that cites it; neither of those that do has its figure for CSIQ.
    Published(
        preset="hyperiqa",
        source="LoDa, Table 1",
        notes=("ten", "test", "cited"),
        figures={
            "live": Pair(0.962, 0.966),
            "tid2013": Pair(0.840, 0.858),
            "kadid10k": Pair(0.852, 0.845),
            "clive": Pair(0.859, 0.882),
            "koniq10k": Pair(0.906, 0.917),
            "spaq": Pair(0.911, 0.915),
            "flive": Pair(0.544, 0.602),
        },
    ),
    Published(
        preset="life-iqa",
        source="Life-IQA, Table I",
        notes=("ten", "test"),
        figures={
            "live": Pair(0.982, 0.982),
            "csiq": Pair(0.966, 0.971),
            "tid2013": Pair(0.918, 0.930),
            "kadid10k": Pair(0.940, 0.943),
            "clive": Pair(0.896, 0.919),
            "koniq10k": Pair(0.937, 0.948),
            "spaq": Pair(0.926, 0.929),
        },
    ),
    Published(
        preset="loda-b",
        source="LoDa, Table 1",
        notes=_LODA,
        figures={
            "live": Pair(0.975, 0.979),
            "tid2013": Pair(0.869, 0.901),
            "kadid10k": Pair(0.931, 0.936),
            "clive": Pair(0.876, 0.899),
            "koniq10k": Pair(0.932, 0.944),
            "spaq": Pair(0.925, 0.928),
            "flive": Pair(0.578, 0.679),
        },
    ),
    Published(
        preset="loda-s",
        source="LoDa, Table 4",
        notes=(*_LODA, "sizes"),
        figures={
            "kadid10k": Pair(0.915, 0.922),
            "koniq10k": Pair(0.928, 0.939),
            "spaq": Pair(0.924, 0.928),
        },
    ),
    Published(
        preset="loda-ti",
        source="LoDa, Table 4",
        notes=(*_LODA, "sizes"),
        figures={
            "kadid10k": Pair(0.892, 0.900),
            "koniq10k": Pair(0.914, 0.926),
            "spaq": Pair(0.922, 0.927),
        },
    ),
    Published(
        preset="musiq",
        source="MUSIQ, Tables 2, 8",
        notes=("mean",),
        figures={"koniq10k": Pair(0.916, 0.928), "spaq": Pair(0.917, 0.921)},
    ),
    # Both papers print the same figures; CSIQ is in the former's Table I alone, FLIVE in the latter's Table 1 alone.
    Published(
        preset="musiq",
        source="Life-IQA, LoDa",
        notes=("cited",),
        figures={
            "live": Pair(0.940, 0.911),
            "csiq": Pair(0.871, 0.893),
            "tid2013": Pair(0.773, 0.815),
            "kadid10k": Pair(0.875, 0.872),
            "clive": Pair(0.702, 0.746),
            "flive": Pair(0.566, 0.661),
        },
    ),
    Published(
        preset="musiq-medium",
        source="MUSIQ, Table 2",
        notes=("mean",),
        figures={"koniq10k": Pair(0.918, 0.928)},
    ),
    Published(
        preset="musiq-large",
        source="MUSIQ, Table 2",
        notes=("mean",),
        figures={"koniq10k": Pair(0.916, 0.927)},
    ),
)
"""All rows, in the order of the table."""


def rows(presets: Collection[str]) -> list[Published]:
    """The rows of some networks, in the order of the table."""
    return [row for row in ROWS if row.preset in presets]
