"""Tables of what ``smart-iqa benchmark`` has measured."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from cli.models.precision import Difference
    from training.accuracy import Measured
    from training.behaviour import Behaviour
    from training.complexity import Cost
    from training.found_defects import FoundDefects
    from training.published import NoteName, Published


def complexity(measured: Sequence["Cost"], title: str, batch: int) -> "Table":
    """Table of ``benchmark complexity``: a row for each network."""
    table = _table(title, right=("params (M)", "GMACs", "ms, 1 crop", f"crops/s, {batch}", "relative speed"))
    for cost in measured:
        table.add_row(
            cost.name,
            f"{cost.parameters / 1e6:.2f}",
            f"{cost.gmacs:.2f}",
            f"{cost.latency_ms:.2f}",
            f"{cost.throughput:.1f}",
            f"{measured[0].latency_ms / cost.latency_ms:.2f}x",
        )
    return table


def precision(rows: Sequence["Difference"], title: str) -> "Table":
    """Table of ``benchmark precision``: a row for each precision."""
    columns = ("mean |difference|", "largest", "bias", "ms a crop", "speed")
    table = _table(title, first="precision", right=columns)
    for row in rows:
        table.add_row(
            row.precision,
            f"{row.mean:.3f}",
            f"{row.most:.2f}",
            f"{row.bias:+.3f}",
            f"{1e3 * row.seconds:.2f}",
            f"{row.speed:.2f}x",
        )
    return table


def degradations(measured: "Behaviour", name: str) -> "Table":
    """First table of ``benchmark behaviour``: a row for each kind of degradation."""
    from training.behaviour import LEVELS

    columns = ("untouched", *(f"level {level}" for level in LEVELS), "order violated", "level 1 raises")
    table = _table(f"{name}, mean scores of {measured.pictures} photos", first="degradation", right=columns)
    for row in measured.degraded:
        scores = [f"{score:.1f}" for score in (row.untouched, *row.levels)]
        table.add_row(row.kind, *scores, f"{row.violated:.1%}", f"{row.raised:.1%}")
    table.add_section()
    table.add_row("all", *[""] * (1 + len(LEVELS)), f"{measured.violated:.1%}", "")
    return table


def blanks(measured: "Behaviour") -> "Table":
    """Second table of ``benchmark behaviour``: a row for each kind of picture that shows nothing."""
    from training.behaviour import DRAWS

    columns = ("highest score", "photos no better")
    table = _table(f"pictures of nothing, {DRAWS} of each", first="kind", right=columns)
    for blank in measured.blanks:
        table.add_row(blank.kind, f"{blank.highest:.1f}", f"{blank.worse:.1%}")
    return table


def found_defects(measured: "FoundDefects") -> "Table":
    """Third table of ``benchmark behaviour``: a row for each defect."""
    columns = ("AUC, untouched", "AUC, others", "AUC, mixtures", "named first", "rank of severity", "false alarms")
    table = _table(f"defects added to the best {measured.photos} photos", first="defect", right=columns)
    for row in measured.rows:
        areas = (f"{area:.3f}" for area in (row.against_untouched, row.against_others, row.in_mixtures))
        table.add_row(row.name, *areas, f"{row.named:.0%}", f"{row.follows:.3f}", f"{row.false_alarms:.1%}")
    table.add_section()
    table.add_row("all", "", "", "", f"{measured.named:.0%}", "", f"{measured.false_alarms:.1%}")
    return table


def costs(measured: Sequence["Cost"], title: str, batch: int) -> "Table":
    """First table of ``benchmark models``: a row for each system."""
    columns = ("params (M)", "trainable (M)", "GMACs", "ms, 1 item", "relative speed")
    table = _table(title, right=(*columns, f"items/s, {batch}", f"peak MB, {batch}"))
    for cost in measured:
        table.add_row(
            cost.name,
            f"{cost.parameters / 1e6:.2f}",
            f"{cost.trainable / 1e6:.2f}",
            f"{cost.gmacs:.2f}",
            f"{cost.latency_ms:.1f}",
            f"{measured[0].latency_ms / cost.latency_ms:.2f}x",
            f"{cost.throughput:.1f} {cost.items}/s",
            "" if cost.peak_mb is None else f"{cost.peak_mb:.0f}",
        )
    return table


def accuracies(from_papers: Sequence["Published"], from_here: Sequence["Measured"]) -> "Table":
    """Second table of ``benchmark models``: the rows of papers, and a row for each measurement of a checkpoint here."""
    from training.published import TITLES

    datasets = {name for paper in from_papers for name in paper.figures} | {here.dataset for here in from_here}
    columns = [name for name in TITLES if name in datasets] + sorted(datasets - set(TITLES))
    marks = note_marks(from_papers)
    table = _table("accuracy, SRCC PLCC")
    for column in ("source", "judged on", "notes", *(TITLES.get(name, name) for name in columns)):
        table.add_column(column)
    for paper in from_papers:
        cells = (_pair(*paper.figures[name]) if name in paper.figures else "" for name in columns)
        table.add_row(paper.preset, paper.source, "test", " ".join(str(marks[note]) for note in paper.notes), *cells)
    if from_papers:
        table.add_section()
    for here in from_here:
        part = f"{here.pictures} {here.part}" + (", chose the epoch" if here.chosen_on else "")
        cells = (_pair(here.srcc, here.plcc) if name == here.dataset else "" for name in columns)
        table.add_row(here.name, f"here: {here.folder}", part, "", *cells)
    return table


def note_marks(from_papers: Sequence["Published"]) -> dict["NoteName", int]:
    """Number the notes of some rows in the order of their first mention."""
    order = dict.fromkeys(note for paper in from_papers for note in paper.notes)
    return {note: number for number, note in enumerate(order, start=1)}


def _pair(srcc: float, plcc: float) -> str:
    """Both values as papers print them: ``.926``, or four digits if the fourth is not zero."""
    return " ".join(f"{value:.4f}".removesuffix("0").replace("0.", ".", 1) for value in (srcc, plcc))


def _table(title: str, *, first: str = "network", right: Sequence[str] = ()) -> "Table":
    """A table without rows; the columns after the first one are aligned to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column(first)
    for column in right:
        table.add_column(column, justify="right")
    return table
