"""Output of the command line: results to stdout, everything else to stderr."""

import codecs
import contextlib
import io
import os
import sys
from typing import NoReturn

from rich.console import Console

USAGE_ERROR = 2
SOME_FAILED = 1
SOME_REJECTED = 3

ANY_TEXT = "smart-iqa"
"""Handler of text that an output's encoding lacks, see ``as_it_is``."""


def as_it_is(error: UnicodeError) -> tuple[bytes | str, int]:
    """Write bytes of names that are no text as they are, and signs that an encoding lacks by their numbers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    parts = [
        bytes([ord(char) - 0xDC00]) if "\udc80" <= char <= "\udcff" else char.encode("ascii", "backslashreplace")
        for char in error.object[error.start : error.end]
    ]
    return b"".join(parts), error.end


def prepare_streams() -> None:
    """Let the standard streams take any text, and stand in for those that are closed: what they get is lost."""
    codecs.register_error(ANY_TEXT, as_it_is)
    for number in range(3):
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        # The lowest number that is free is this one. Else the first file that is opened would get what is printed.
        os.open(os.devnull, os.O_RDWR)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ANY_TEXT)


prepare_streams()
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
