"""Blocks of code in the documents, and the marks above them.

A comment above a block says what the tests do with it:

    <!-- not run: reason -->             its commands are only checked: options, recipes, files and names must exist
    <!-- run with: NAME=VALUE -->        it is run with another value where it says NAME=
    <!-- run with: the service stays up -->  it is a ``smart-iqa serve``, which later blocks of the page ask
"""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "clients" / "python" / "README.md")
LANGUAGES = {"bash", "json", "python", "csv", "text", "mermaid"}

_MARK = re.compile(r"<!-- (not run|run with): (.+) -->")
_FENCE = re.compile(r"^```(.*)$")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block.

    Attributes:
        page: The file that it is in.
        line: Where it begins in that file, from 1.
        language: What stands behind the fence.
        text: Its lines.
        not_run: Why it is not run; "" if it is.
        run_with: What to run it with, if that is told.
        follows: Whether it stands right below the block before, with nothing but empty lines between.
    """

    page: Path
    line: int
    language: str
    text: str
    not_run: str = ""
    run_with: str = ""
    follows: bool = False

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def read(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    found: list[Block] = []
    opened: tuple[int, str] | None = None
    inside: list[str] = []
    mark, follows = ("", ""), False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if fence and opened is None:
            opened, inside = (number, fence[1]), []
        elif fence and opened is not None:
            begin, language = opened
            kind, words = mark
            found.append(
                Block(
                    page=page,
                    line=begin,
                    language=language,
                    text="".join(f"{line}\n" for line in inside),
                    not_run=words if kind == "not run" else "",
                    run_with=words if kind == "run with" else "",
                    follows=follows,
                )
            )
            opened, mark, follows = None, ("", ""), True
        elif opened is not None:
            inside.append(line)
        elif line.strip():
            marked = _MARK.fullmatch(line.strip())
            mark = (marked[1], marked[2]) if marked else ("", "")
            follows = follows and bool(marked)
    assert opened is None, f"{page}: a block is not closed"
    return found
