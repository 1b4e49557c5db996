"""Options that several commands share."""

from typing import TYPE_CHECKING, cast, get_args

import typer

if TYPE_CHECKING:
    from model.engine import DeviceName, Precision


def device_option(value: str) -> "DeviceName":
    """Check a device name.

    Raises:
        BadParameter: There is no such device.
    """
    from model.engine import DeviceName

    return cast("DeviceName", _one_of(value, get_args(DeviceName), "--device"))


def precision_option(value: str) -> "Precision":
    """Check a precision.

    Raises:
        BadParameter: There is no such precision.
    """
    from model.engine import Precision

    return cast("Precision", _one_of(value, get_args(Precision), "--precision"))


def _one_of(value: str, known: tuple[str, ...], option: str) -> str:
    if value not in known:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(known)}", param_hint=option)
    return value
