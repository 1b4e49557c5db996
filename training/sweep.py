"""Sweeps: one recipe with variations, trained one after another and compared.

A sweep is a TOML file with a ``base`` recipe and a table of changes for each run:

    base = "smart-base-koniq"

    [[runs]]
    name = "L2"
    loss = "l2"
"""

import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model import checkpoint, files
from model.networks import registry
from training import complexity, recipe, sweep_results, trainer
from training.recipe import Recipe
from training.run import CHECKPOINT

SHIPPED = recipe.SHIPPED / "sweeps"


@dataclass(frozen=True, kw_only=True)
class Variation:
    """A run of a sweep."""

    name: str
    recipe: Recipe

    @property
    def folder(self) -> str:
        """Name of its folder in the sweep's folder."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-")


def load(file: Path, changes: Sequence[str] = ()) -> list[Variation]:
    """Read a sweep.

    Args:
        file: A TOML file; a bare name may also be one of the shipped sweeps.
        changes: Changes of the base recipe, as for ``recipe.load``; the runs' own come after them.

    Raises:
        ValueError: The file is not a sweep, or a run's recipe is wrong.
    """
    shipped = SHIPPED / f"{file.name.removesuffix('.toml')}.toml"
    if not file.exists() and file.parent == Path() and shipped.exists():
        file = shipped
    try:
        fields = tomllib.loads(file.read_text(encoding="utf-8"))
        base, runs = Path(fields.pop("base")), [dict(run) for run in fields.pop("runs")]
        names = [str(run.pop("name")) for run in runs]
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not TOML: {error}") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file}: a sweep has base = and [[runs]], each with a name: {error} is missing") from error
    if fields:
        raise ValueError(f"{file}: unknown field {next(iter(fields))!r}; a sweep has base and runs")
    beside = file.parent / base
    start = recipe.load(beside if beside.exists() else base, changes)
    variations = [
        Variation(name=name, recipe=recipe.make(recipe.fields(start) | run, f"{file}, run {name!r}"))
        for name, run in zip(names, runs, strict=True)
    ]
    if len({variation.folder for variation in variations}) < len(variations):
        raise ValueError(f"{file}: two runs have the same name")
    return variations


def run(variations: Sequence[Variation], root: Path, out: Path, *, init: Path | None, decoders: int) -> None:
    """Train all runs of a sweep, each in a folder of its own; finished ones of the same data are not trained again.

    Args:
        variations: The runs.
        root: The data set.
        out: The sweep's folder.
        init: First weights, as for ``trainer.train``; they must fit all runs.
        decoders: Processes that decode.

    Raises:
        DatasetError, ValueError, TrainingError: As for ``trainer.train``.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("a sweep runs in one process; start its runs by torchrun and smart-iqa train instead")
    rows = []
    with files.locked(out, out / files.LOCK):
        for variation in variations:
            folder = out / variation.folder
            trainer.train(variation.recipe, root, folder, init=init, decoders=decoders, reuse=True)
            config, _ = checkpoint.inspect(folder / CHECKPOINT)
            network = registry.from_dict(config.network)
            rows.append(
                {
                    "name": variation.name,
                    "folder": variation.folder,
                    "network": variation.recipe.network,
                    "parameters": registry.parameter_count(network),
                    "gmacs": round(complexity.gmacs(network), 3),
                    "figures": config.figures,
                }
            )
            sweep_results.write(out, rows)
