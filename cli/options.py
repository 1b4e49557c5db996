"""Checks, defaults and completions of options that several commands share."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import typer

import training

if TYPE_CHECKING:
    from model.crop_rounds import Crops
    from model.options import DeviceName, Precision


def device_option(value: str) -> "DeviceName":
    """Check the value of ``--device``.

    Raises:
        BadParameter: It is no device name.
    """
    from model.options import DeviceName

    return cast("DeviceName", _one_of(value, get_args(DeviceName), "--device"))


def precision_option(value: str) -> "Precision":
    """Check the value of ``--precision``.

    Raises:
        BadParameter: It is no precision.
    """
    from model.options import Precision

    return cast("Precision", _one_of(value, get_args(Precision), "--precision"))


def crops_option(value: str | None) -> "Crops | None":
    """Check the value of ``--crops``.

    Returns:
        The number of crops, or ``auto``; None for the contract's number.

    Raises:
        BadParameter: It is neither a number of crops nor ``auto``.
    """
    from model.contract import MAX_CROPS
    from model.crop_rounds import AUTO

    if value is None or value == AUTO:
        return value
    if not value.isdecimal() or not 1 <= int(value) <= MAX_CROPS:
        raise typer.BadParameter(f"{value!r} is neither 1 to {MAX_CROPS} nor {AUTO}", param_hint="--crops")
    return int(value)


def decoders_option(value: int | None) -> int:
    """The number of processes that decode for a training: by default one for each core but one, at most eight."""
    return min(max((os.cpu_count() or 1) - 1, 1), 8) if value is None else value


def shipped_recipes(incomplete: str) -> list[str]:
    """Complete the name of a shipped recipe."""
    return _shipped("*.toml", incomplete)


def shipped_sweeps(incomplete: str) -> list[str]:
    """Complete the name of a shipped sweep."""
    return _shipped("sweeps/*.toml", incomplete)


def _shipped(pattern: str, incomplete: str) -> list[str]:
    # Not by training.recipe, which imports torch.
    files = Path(training.__path__[0], "recipes").glob(pattern)
    return sorted(file.stem for file in files if file.stem.startswith(incomplete))


def _one_of(value: str, known: tuple[str, ...], option: str) -> str:
    if value not in known:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(known)}", param_hint=option)
    return value
