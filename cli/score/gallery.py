"""The HTML report: the worst pictures and the histogram of all scores."""

from bisect import bisect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cli.console import printable
from cli.pictures.exclusions import NotLookedAt
from cli.score import outputs, page
from cli.score.journal import Journal
from cli.score.selection import Selection, SortOrder
from cli.scoring.stream import Record

if TYPE_CHECKING:
    from model.contract import Contract

SHOWN = 200
"""Pictures in the report; about 10 kB each."""
FAILED_SHOWN = 100
BIN_WIDTH = 5
"""Width of a bar of the histogram, in points."""
BANDS = (20.0, 40.0, 60.0, 80.0)
"""Lowest score of each colour but the first, where a contract has no grades."""


def write(
    file: Path,
    journal: Journal,
    selection: Selection,
    order: SortOrder,
    contract: "Contract",
    *,
    model: str,
    views: str,
    policy: str,
    decisions: Mapping[str, int],
    not_looked_at: NotLookedAt,
) -> None:
    """Write the report.

    Args:
        file: The file, replaced if it exists.
        journal: The results.
        selection: Which pictures to show; the histogram is of all.
        order: Which ones to show first.
        contract: Its grades decide the colours.
        model: The model's name.
        views: What was scored of each picture, in words.
        policy: What decided about them, in words; "" if nothing did.
        decisions: How many pictures got each outcome.
        not_looked_at: What was not looked at.
    """
    bands = contract.grades or BANDS
    scores_N = np.array(journal.scores)
    known_N = scores_N[~np.isnan(scores_N)]
    failed_N = np.flatnonzero(np.isnan(scores_N))
    selected_N = selection.scored(scores_N, order)
    shown = list(journal.records(selected_N[:SHOWN]))
    previews = page.thumbnails({record["path"] for record in shown})
    page.write(
        file,
        Path(__file__).with_name("gallery.html"),
        title=f"Quality of {len(scores_N):,} picture{'' if len(scores_N) == 1 else 's'}",
        model=model,
        views=views,
        policy=policy,
        facts=_facts(known_N, selection, len(selected_N), decisions) if len(known_N) else (),
        bins=list(_bins(known_N, selection, bands)),
        bin_width=BIN_WIDTH,
        peak=int(_counts(known_N).max()),
        caption=_caption(selection, bool(contract.grades)),
        heading=_heading(len(selected_N), selection, order),
        cards=(_card(record, bands, previews.get(record["path"])) for record in shown),
        more=len(selected_N) - len(shown),
        not_looked_at=not_looked_at,
        failed_count=len(failed_N),
        failed=[(printable(record["path"]), record["error"]) for record in journal.records(failed_N[:FAILED_SHOWN])],
    )


def _facts(
    known_N: NDArray[np.float64], selection: Selection, selected: int, decisions: Mapping[str, int]
) -> list[tuple[str, str]]:
    facts = [("median", f"{np.median(known_N):.1f}"), ("mean", f"{known_N.mean():.1f}")]
    facts += [("worst", f"{known_N.min():.1f}"), ("best", f"{known_N.max():.1f}")]
    facts += [(outcome, f"{count:,}") for outcome, count in decisions.items()]
    return [*facts, (str(selection), f"{selected:,} of {len(known_N):,}")] if selection else facts


def _heading(count: int, selection: Selection, order: SortOrder) -> str:
    which = f"The {order}" if count > SHOWN else f"All {selection}" if selection else "All"
    return f"{which}, {order} first"


def _caption(selection: Selection, graded: bool) -> str:
    colours = ", coloured by grade" if graded else ""
    return f"Pictures by score, {BIN_WIDTH} points a bar{colours}{f'; pale if not {selection}' if selection else ''}."


def _counts(known_N: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.histogram(known_N, bins=100 // BIN_WIDTH, range=(0, 100))[0]


def _bins(known_N: NDArray[np.float64], selection: Selection, bands: tuple[float, ...]) -> Iterator[dict[str, Any]]:
    counts = _counts(known_N)
    for index, count in enumerate(counts.tolist()):
        low = index * BIN_WIDTH
        # At least 1.5 percent, so that a single picture beside thousands is visible.
        height = max(100 * count / counts.max(), 1.5) if count else 0
        middle = low + BIN_WIDTH / 2
        yield {
            "low": low,
            "count": count,
            "height": height,
            "band": bisect(bands, middle),
            "selected": selection.takes(middle),
        }


def _card(record: Record, bands: tuple[float, ...], thumbnail: tuple[str, tuple[int, int]] | None) -> dict[str, Any]:
    return {
        "name": printable(record["path"]),
        "score": f"{record['score']:.1f}",
        "band": bisect(bands, record["score"]),
        "grade": record["grade"],
        "likely": outputs.likely(record),
        "defects": outputs.flagged(record),
        "decision": record.get("decision"),
        "width": record["image"]["width"],
        "height": record["image"]["height"],
        "format": record["image"]["format"],
        "warnings": ", ".join(warning.replace("_", " ") for warning in record["warnings"]),
        "thumbnail": thumbnail and thumbnail[0],
        "size": thumbnail and thumbnail[1],
    }
