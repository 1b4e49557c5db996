"""The ``smart-iqa`` command and its list of commands.

Commands import what they need when they run, so that ``--help`` does not wait for torch.
"""

import errno
import os
import sys
from importlib import metadata
from typing import Annotated

import typer

from cli import calibrate, compare, datasets, evaluate, figures, heads, health, keys, policy, serve, sweep, train
from cli.benchmark import command as benchmark
from cli.bulk.command import score_bulk
from cli.console import SOME_FAILED, USAGE_ERROR, fail, prepare_streams, results
from cli.models import command as models
from cli.pick.command import pick
from cli.score.command import score
from cli.signals import Stopped
from model.images import ImageError
from training.errors import TrainingError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the disk that end with the status for failed work, not for wrong usage."""
EXTRAS = {
    "train": ("matplotlib", "openpyxl", "pandas", "scipy", "tensorboard"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "ray": ("ray", "ray.data", "ray.serve", "ray.train"),
    "parquet": ("pyarrow",),
    "pick": ("imagehash", "skimage", "scipy"),
    "otel": ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.exporter.otlp"),
}
"""Packages of each extra, for the advice when one of them is not installed."""

app = typer.Typer(
    name="smart-iqa",
    help="Perceptual quality scores for photos: serve them, compute them, train the models behind them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        for name in ("smart-iqa", "torch"):
            results.print(f"{name} {metadata.version(name)}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Show versions and exit.",
        ),
    ] = False,
) -> None:
    pass


app.command("serve")(serve.serve)
app.command("health")(health.health)
app.command("score")(score)
app.command("score-bulk")(score_bulk)
app.command("compare")(compare.compare)
app.command("pick")(pick)
app.command("calibrate")(calibrate.calibrate)
app.command("train")(train.train)
app.command("sweep")(sweep.sweep)
app.command("heads")(heads.heads)
app.command("evaluate")(evaluate.evaluate)
app.command("figures")(figures.figures)
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(datasets.app, name="datasets")
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(policy.app, name="policy")


def main() -> None:
    """Run the command line; errors that a user can cause end it with one sentence on stderr."""
    # Between two layers threads of torch sleep rather than spin: other programs may need the processors. It is read
    # when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    prepare_streams()
    try:
        app()
    except (ImageError, ValueError, OSError) as error:
        full = isinstance(error, OSError) and error.errno in DISK_FULL
        fail(_sentence(error), status=SOME_FAILED if full else USAGE_ERROR)
    except TrainingError as error:
        fail(str(error), status=SOME_FAILED)
    except ModuleNotFoundError as error:
        extra = next((extra for extra, names in EXTRAS.items() if error.name in names), None)
        if extra is None:
            raise
        fail(f"this command needs {error.name}: pip install 'smart-iqa[{extra}]'")
    except KeyboardInterrupt:
        sys.exit(130)
    except Stopped as stopped:
        sys.exit(stopped.status)


def _sentence(error: Exception) -> str:
    """What an error says, without the number of an error of the system."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return str(error)
