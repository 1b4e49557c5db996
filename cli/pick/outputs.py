"""What ``smart-iqa pick`` writes: a table for people, a line for each photo as CSV or JSON."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.console import notes, printable, results
from model.files import replacing

if TYPE_CHECKING:
    from model.picking.picking import Group

COLUMNS = ("path", "group", "kind", "rank", "picked", "score", "preferred", "reasons", "worse", "same_file_as", "error")
TABLE_ROWS = 200
"""Groups in the table; the others are only counted."""
SUFFIXES = (".csv", ".jsonl", ".ndjson")


def check(file: Path) -> None:
    """Check, before anything is scored, that a file can be written.

    Raises:
        ValueError: Its suffix names no format, or its folder does not exist.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{file}: the name must end in {' or '.join(SUFFIXES[:2])}")
    if not file.parent.is_dir():
        raise ValueError(f"{file.parent}: no such folder")


def rows(groups: Iterable["Group"], failed: Iterable[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """A line for each photo.

    Args:
        groups: The groups.
        failed: Paths of photos that could not be scored, and why.
    """
    for number, group in enumerate(groups, 1):
        names = {member.place: member.name for member in group.members}
        for rank, member in enumerate(group.members, 1):
            yield {
                "path": member.name,
                "group": number,
                "kind": group.kind,
                "rank": rank if group.kind == "alike" else None,
                "picked": group.winner is None or member is group.winner,
                "score": member.score,
                "preferred": member.preferred,
                "reasons": list(group.reasons) if member is group.winner else [],
                "worse": [defect for defect, _ in member.worse],
                "same_file_as": None if member.same_file_as is None else names[member.same_file_as],
                "error": None,
            }
    for name, error in failed:
        yield {**dict.fromkeys(COLUMNS), "path": name, "error": error}


def to_file(file: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Write lines in the format that a file's suffix names; the file appears once it is complete."""
    with replacing(file) as fresh, fresh.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        if file.suffix.lower() == ".csv":
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            for line in lines:
                joined = {name: " ".join(line[name] or ()) for name in ("reasons", "worse")}
                writer.writerow({**line, **joined, "picked": "" if line["picked"] is None else int(line["picked"])})
            return
        for line in lines:
            stream.write(json.dumps(line) + "\n")


def show(groups: "Iterable[Group]") -> None:
    """Show the groups of several photos."""
    from rich import box
    from rich.table import Table

    together = [group for group in groups if group.kind != "single"]
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("photos", "", "picked", "because", "score", "next best"):
        right = column in ("photos", "score")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for group in together[:TABLE_ROWS]:
        winner, runner_up = group.winner, group.runner_up
        if winner is None:
            first, last = (printable(member.name) for member in (group.members[0], group.members[-1]))
            table.add_row(f"{len(group.members)}", words(group.kind), "all", "kept whole", "", f"{first} to {last}")
            continue
        second = "" if runner_up is None else f"{printable(runner_up.name)} ({certain(runner_up.preferred)})"
        because = ", ".join(map(words, group.reasons))
        table.add_row(f"{len(group.members)}", "", printable(winner.name), because, f"{winner.score:.1f}", second)
    if table.row_count:
        results.print(table, markup=False)
    if len(together) > TABLE_ROWS:
        notes.print(f"{len(together) - TABLE_ROWS:,} more groups are not shown; --out FILE has them all")


def words(code: str) -> str:
    """A code for people."""
    return code.replace("_", " ")


def certain(preferred: float | None) -> str:
    """How sure it is that the best one is preferred to a photo, for people."""
    # No pair is quite sure.
    return "" if preferred is None else f"{min(preferred, 0.99):.0%} sure"
