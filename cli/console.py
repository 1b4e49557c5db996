"""Output of the command line: results to stdout, everything else to stderr."""

import sys
from typing import NoReturn

from rich.console import Console

USAGE_ERROR = 2
SOME_FAILED = 1
SOME_REJECTED = 3

notes = Console(stderr=True, highlight=False)
results = Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def fail(message: str, *, status: int = USAGE_ERROR) -> NoReturn:
    """End the process with one sentence on stderr and an exit status, by default the one for wrong usage."""
    notes.print("[bold red]error:[/] ", end="")
    notes.print(message, markup=False, soft_wrap=True)
    sys.exit(status)


def printable(name: str) -> str:
    """A file's name for people: control characters, which could steer a terminal, and invalid text are escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)
