"""Precisions of a checkpoint: choosing the layers for int8, and the differences of scores from those of fp32."""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoint import Checkpoint, CheckpointError
from model.inference.engine import Engine, mean_std, network_inputs
from model.inference.selection import Selection, select
from model.options import Precision
from model.views import Items


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The scores of a precision compared with those of fp32.

    Attributes:
        precision: Name of the precision.
        pictures: Number of pictures.
        mean: Mean absolute difference of the scores, in points of 100.
        most: Largest absolute difference.
        bias: Mean difference, with its sign.
        seconds: The engine's time for a crop, the median over pictures.
        speed: The seconds of fp32 divided by these.
    """

    precision: str
    pictures: int
    mean: float
    most: float
    bias: float
    seconds: float
    speed: float


def some(files: Sequence[Path], count: int) -> list[Path]:
    """At most ``count`` of the files, evenly spread over the list."""
    indices = np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)
    return [files[index] for index in indices]


def quantise(
    loaded: Checkpoint, files: Sequence[Path], *, tolerance: float, progress: Callable[[Iterable[str]], Iterable[str]]
) -> tuple[Selection, Difference]:
    """Choose the layers that compute in int8 by every other picture, and measure the error on the rest.

    Args:
        loaded: The checkpoint.
        files: The pictures.
        tolerance: How far scores may move in the mean, in points of 100.
        progress: Wraps the names of the layers while they are tried.

    Returns:
        The layers, and the difference that they make.

    Raises:
        ImageError: A picture cannot be scored.
    """
    contract = loaded.contract
    normalisation = mean_std(contract, "cpu")
    pictures = [network_inputs(torch.tensor(_items(loaded, file)), normalisation) for file in files[::2]]
    selection = select(
        loaded.network, pictures, lambda outputs: _percent(loaded, outputs), tolerance=tolerance, progress=progress
    )
    exact = Engine.of(loaded, device="cpu", precision="fp32")
    quick = Engine(loaded.network, contract, device="cpu", precision="int8", ranges=selection.ranges)
    return selection, differences(loaded, {"fp32": exact, "int8": quick}, files[1::2])[1]


def engines(loaded: Checkpoint) -> dict[str, Engine]:
    """Make the engines of all precisions in which a checkpoint can be computed on a CPU; fp32 first."""
    names: list[Precision] = ["fp32", "bf16", "int8"]
    made = {}
    for name in names:
        try:
            made[str(name)] = Engine.of(loaded, device="cpu", precision=name)
        except CheckpointError:  # not prepared for int8
            continue
    return made


def differences(loaded: Checkpoint, engines: dict[str, Engine], files: Iterable[Path]) -> list[Difference]:
    """Score each picture in all precisions, and compare.

    Args:
        loaded: The checkpoint.
        engines: Its engines by precision, fp32 among them.
        files: The pictures.

    Raises:
        ImageError: A picture cannot be scored.
    """
    scores: dict[str, list[float]] = {name: [] for name in engines}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for file in files:
        items = _items(loaded, file)
        for name, engine in engines.items():
            began = time.perf_counter()
            rows_ND = engine.predict(items)
            seconds[name].append((time.perf_counter() - began) / len(items))
            scores[name].append(_percent(loaded, rows_ND[:, 0].astype(np.float64)))
    exact = np.array(scores["fp32"])
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    rows = []
    for name, values in scores.items():
        off = np.array(values) - exact
        rows.append(
            Difference(
                precision=name,
                pictures=len(off),
                mean=float(np.abs(off).mean()),
                most=float(np.abs(off).max()),
                bias=float(off.mean()),
                seconds=medians[name],
                speed=medians["fp32"] / medians[name],
            )
        )
    return rows


def _items(loaded: Checkpoint, file: Path) -> Items:
    return loaded.contract.views(loaded.contract.decode(file.read_bytes())).items


def _percent(loaded: Checkpoint, outputs: NDArray[np.float64]) -> float:
    return loaded.contract.scale.to_percent(float(loaded.contract.raw(outputs).mean()))
