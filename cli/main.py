"""The ``smart-iqa`` command.

This room stands above the other three: it is the only one that may import them all. Commands import what they need
when they run, so that ``--help`` does not wait for torch.
"""

import io
import sys

import typer

from cli import evaluate, models, score, serve, train
from cli.console import fail
from model.images import ImageError

app = typer.Typer(
    name="smart-iqa",
    help="Perceptual quality scores for photos: serve them, compute them, train the models behind them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("score")(score.score)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(models.app, name="models")


def main() -> None:
    """Run the command line; errors that a user can cause end with one sentence."""
    # File names may hold bytes that are no text.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    try:
        app()
    except (ImageError, ValueError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
