"""``smart-iqa keys``."""

from typing import Annotated

import typer

app = typer.Typer(help="API keys of the service.", no_args_is_help=True)


@app.callback()
def keys() -> None:
    """API keys of the service."""


@app.command("make")
def make(name: Annotated[str, typer.Argument(help="The owner, as logs will name it: letters, digits, ._-")]) -> None:
    """Make a fresh key: shown this once, with the line for the file that SMARTIQA_API_KEYS_FILE names."""
    from app.http import keys
    from cli.console import notes, results

    key, line = keys.make(name)
    notes.print("the key, for its owner; it is not kept anywhere:", markup=False)
    results.print(key, markup=False, soft_wrap=True)
    notes.print("the line for the file of keys:", markup=False)
    results.print(line, markup=False, soft_wrap=True)
