"""Where the command line writes: results to stdout, everything else to stderr."""

import sys
from typing import NoReturn

from rich.console import Console

USAGE_ERROR = 2
SOME_FAILED = 1

notes = Console(stderr=True, highlight=False)
results = Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def fail(message: str, *, status: int = USAGE_ERROR) -> NoReturn:
    """End with one sentence on stderr and an exit status, by default the one for wrong usage."""
    notes.print("[bold red]error:[/] ", end="")
    notes.print(message, markup=False, soft_wrap=True)
    sys.exit(status)


def printable(name: str) -> str:
    """A file's name for people: what would steer a terminal, or is no text, is spelled out."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in name)
