"""The HTML report of picking: the photos of each group side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.console import printable
from cli.pick.outputs import certain, words
from cli.pictures.exclusions import NotLookedAt
from cli.score import page

if TYPE_CHECKING:
    from model.picking.picking import Group, Member

SHOWN = 200
"""Groups in the report."""
SIDE_BY_SIDE = 12
"""Photos of a group that are shown; the others are counted."""
KINDS = {"bracket": "exposure bracket", "focus_stack": "focus stack", "panorama": "panorama"}


def write(file: Path, groups: "Sequence[Group]", *, photos: int, model: str, not_looked_at: NotLookedAt) -> None:
    """Write the report.

    Args:
        file: The file, replaced if it exists.
        groups: The groups of several photos.
        photos: How many photos there were in all.
        model: The model's name.
        not_looked_at: What was not looked at.
    """
    shown = groups[:SHOWN]
    names = {member.name for group in shown for member in group.members[:SIDE_BY_SIDE]}
    thumbnails = page.thumbnails(names)
    page.write(
        file,
        Path(__file__).with_name("report.html"),
        title=f"The best of {photos:,} photo{'' if photos == 1 else 's'}",
        model=model,
        not_looked_at=not_looked_at,
        groups=[_group(number, group, thumbnails) for number, group in enumerate(shown, 1)],
        more=len(groups) - len(shown),
    )


def _group(number: int, group: "Group", thumbnails: page.Thumbnails) -> dict[str, Any]:
    cards = [_card(member, group, thumbnails.get(member.name)) for member in group.members[:SIDE_BY_SIDE]]
    return {
        "number": number,
        "kind": KINDS.get(group.kind, ""),
        "count": len(group.members),
        "reasons": [words(code) for code in group.reasons],
        "cards": cards,
        "more": len(group.members) - len(cards),
    }


def _card(member: "Member", group: "Group", thumbnail: tuple[str, tuple[int, int]] | None) -> dict[str, Any]:
    worse = ", ".join(words(defect) for defect, _ in member.worse)
    copied = member.same_file_as is not None
    return {
        "name": printable(member.name),
        "score": f"{member.score:.1f}",
        "picked": member is group.winner,
        "certain": "" if copied else certain(member.preferred),
        "worse": "the same file" if copied else worse and f"worse: {worse}",
        "thumbnail": thumbnail and thumbnail[0],
        "size": thumbnail and thumbnail[1],
    }
