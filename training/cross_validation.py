"""Cross-validation: the figures of a sweep over folds, put together.

Every picture is tested once, by the run that was not trained on it. ``smart-iqa sweep`` trains the runs; a checkpoint
that the same recipe then trains on all pictures can carry their figures (``smart-iqa train --folds``).
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from model import checkpoint
from model.networks.network import HEADS
from training import provenance, sweep_results
from training import recipe as recipes
from training.correlation import FIGURES, measure
from training.datasets import Dataset
from training.evaluator import PREDICTIONS, measured
from training.recipe import Recipe
from training.run import CHECKPOINT, PICTURES, RECIPE, evaluation_folder

SPLITTING = ("split", "folds", "fold", "test_share", "validation_share", "selection", "patience")
"""Fields of a recipe in which a fold's run may differ from the run that is trained on all pictures."""
TIMES = (1, 2, 3)
"""Multiples of the standard error that errors are compared with."""
SHARES = (50, 68, 95)
"""Percentiles of the errors."""


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """Figures of all folds.

    Attributes:
        folds: Number of folds.
        pictures: Number of test pictures of all folds.
        left_out: Sources whose pictures are not among them.
        mean: Mean of each figure over the folds.
        spread: Standard deviation of each figure over the folds.
        error: Mean absolute error of the scores, in points of 100, over all pictures.
        within: Percentiles (``SHARES``) of the absolute errors, in points of 100.
        coverage: Shares of the pictures whose error is at most 1, 2 and 3 (``TIMES``) standard errors of their score;
            empty where no score has a standard error.
        reach: 68th and 95th percentile of the errors, in standard errors of their score; 0 where none has one.
    """

    folds: int
    pictures: int
    left_out: tuple[str, ...]
    mean: Mapping[str, float]
    spread: Mapping[str, float]
    error: float
    within: tuple[float, ...]
    coverage: tuple[float, ...]
    reach: tuple[float, float]

    def figures(self) -> dict[str, float]:
        """The figures that a checkpoint's config keeps."""
        return {
            "pictures": float(self.pictures),
            "folds": float(self.folds),
            **{name: round(value, 4) for name, value in self.mean.items()},
            **{f"{name}_sd": round(value, 4) for name, value in self.spread.items()},
            "error_points": round(self.error, 2),
        }


def predictions(folder: Path) -> list[pd.DataFrame]:
    """Read what the runs of a sweep over folds predict for the pictures that they were not trained on.

    Returns:
        For each run a table with a line for each picture, see ``evaluator.write``.

    Raises:
        ValueError: The folder holds no finished sweep, or its runs do not test every picture once.
    """
    rows = sweep_results.read(folder)
    if len(rows) < 2:
        raise ValueError(f"{folder} holds {len(rows)} finished runs; cross-validation takes two at least")
    tables = []
    for row in rows:
        evaluation = evaluation_folder(folder / row["folder"], "test")
        file = evaluation / PREDICTIONS
        if measured(evaluation) != checkpoint.inspect(folder / row["folder"] / CHECKPOINT)[1]:
            raise ValueError(f"{evaluation} is not complete, or not of the checkpoint beside it; sweep again")
        try:
            tables.append(pd.read_csv(file, converters={"name": str, "source": str}))
        except OSError as error:
            raise ValueError(f"{file}: {error.strerror}") from error
    together = pd.concat(tables)
    twice = together["name"][together["name"].duplicated()]
    if len(twice):
        raise ValueError(f"{folder}: {twice.iloc[0]} is tested twice; these runs are no folds of one data set")
    _of_one_recipe(folder, [recipes.load(folder / row["folder"] / RECIPE) for row in rows])
    return tables


def check(folder: Path, network: Mapping[str, Any], dataset: Dataset, recipe: Recipe | None = None) -> None:
    """Check that a sweep over folds is of the network, the labels, the pictures and the recipe that it is to tell of.

    Args:
        folder: The sweep's folder.
        network: Description of the network (``registry.to_dict``); heads and rates of dropout do not matter.
        dataset: The data set, as it is now.
        recipe: The recipe, if it is known; how it splits and which epoch it selects do not matter.

    Raises:
        ValueError: It is of something else, or holds no finished sweep.
        DatasetError: A picture cannot be read.
    """
    samples = {sample.name: sample for sample in dataset.samples}
    rows, tables = sweep_results.read(folder), predictions(folder)
    if unknown := {*pd.concat(tables)["name"]} - {*samples}:
        raise ValueError(f"{folder} was tested on {min(unknown)}, which the data set has not")
    for row, table in zip(rows, tables, strict=True):
        run = folder / row["folder"]
        for name, mos in zip(table["name"], table["mos"], strict=True):
            if not math.isclose(mos, samples[name].mos, rel_tol=1e-9, abs_tol=1e-9):
                raise ValueError(f"{run} has other labels: {name} had {mos:g}, and has {samples[name].mos:g}")
        if (run / PICTURES).exists():
            known = provenance.load(run / PICTURES)
            found = provenance.look([samples[name] for name in known.origins if name in samples], dataset.scale, known)
            if difference := known.difference(found):
                raise ValueError(f"{run} holds a run {difference}")
        theirs = checkpoint.inspect(run / CHECKPOINT)[0].network
        ignored = {"dropout", "drop_path", *HEADS}
        if field := _differing(network, theirs, ignored):
            raise ValueError(f"{run} is of another network: its {field} is {theirs.get(field)}")
    if recipe is not None:
        _of_one_recipe(folder, [recipe, *(recipes.load(folder / row["folder"] / RECIPE) for row in rows)])


def _of_one_recipe(folder: Path, every: Sequence[Recipe]) -> None:
    """Check that all runs are of one recipe, and that no fold is missing.

    Raises:
        ValueError: They are not, or one is.
    """
    first, *others = map(recipes.fields, every)
    for other in others:
        if field := _differing(first, other, SPLITTING):
            raise ValueError(f"{folder} is of another recipe: {field} is {other.get(field)}, not {first.get(field)}")
    folds = [one for one in every if one.split == "folds"]
    if missing := {*range(folds[0].folds if folds else 0)} - {one.fold for one in folds}:
        raise ValueError(f"{folder} is not complete: fold {min(missing)} is missing; sweep again")


def _differing(one: Mapping[str, Any], other: Mapping[str, Any], ignored: Collection[str]) -> str:
    """A field in which two descriptions differ, but for some; "" if there is none."""
    # As JSON, which makes lists of tuples.
    plain = [json.loads(json.dumps(dict(fields))) for fields in (one, other)]
    names = ({*one} | {*other}) - {*ignored}
    return next((name for name in sorted(names) if plain[0].get(name) != plain[1].get(name)), "")


def by_sources(folder: Path, left_out: Sequence[str]) -> list[CrossValidation]:
    """Figures of the pictures that a recipe learns from, and then, if it leaves sources out, of all."""
    everything = read(folder)
    return [read(folder, left_out=left_out), everything] if left_out else [everything]


def read(folder: Path, *, left_out: Collection[str] = ()) -> CrossValidation:
    """Read the finished runs of a sweep over folds.

    Args:
        folder: The sweep's folder.
        left_out: Sources whose pictures are not counted.

    Raises:
        ValueError: The folder holds no finished sweep, or its runs do not test every picture once.
    """
    tables = [table[~table["source"].isin(left_out)] for table in predictions(folder)]
    together = pd.concat(tables)
    scale = checkpoint.inspect(folder / sweep_results.read(folder)[0]["folder"] / CHECKPOINT)[0].contract.scale
    errors_P = np.abs([scale.spread_to_percent(error) for error in together["error"]])
    known = together["stderr"].fillna(0).to_numpy() > 0
    times_P = errors_P[known] / together["stderr"].to_numpy()[known]
    figures = [measure(table["prediction"], table["mos"]).to_dict() for table in tables]
    return CrossValidation(
        folds=len(tables),
        pictures=len(together),
        left_out=tuple(left_out),
        mean={name: float(np.mean([row[name] for row in figures])) for name in FIGURES},
        spread={name: float(np.std([row[name] for row in figures], ddof=1)) for name in FIGURES},
        error=float(errors_P.mean()),
        within=tuple(float(value) for value in np.percentile(errors_P, SHARES)),
        coverage=tuple(float((times_P <= times).mean()) for times in TIMES) if known.any() else (),
        reach=(float(np.percentile(times_P, 68)), float(np.percentile(times_P, 95))) if known.any() else (0.0, 0.0),
    )
