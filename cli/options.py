"""Checks, defaults and completions of options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

import training
from model.inference import processors

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.crop_rounds import Crops
    from model.options import DeviceName, Precision
    from model.policies import Policy

PolicyOption = Annotated[
    str | None, typer.Option("--policy", help="Policy that decides about each picture: accept, review or reject.")
]
PoliciesOption = Annotated[
    Path | None, typer.Option("--policies", help="File of policies; the shipped ones if left out.")
]
LanguageOption = Annotated[
    str | None, typer.Option(help="Language of a decision's reasons, such as de; English if the policy has none in it.")
]
ThreadsOption = Annotated[
    int,
    typer.Option("--threads", min=0, max=512, help="CPU threads of the model; 0 takes what was measured as fastest."),
]


ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="PATTERN",
        help="Names of files and folders to leave out, such as 'raw' or '*_small.*', in any case; with a slash the end "
        "of a path, such as 'old/*.jpg'. May be repeated.",
    ),
]
DefaultExcludesOption = Annotated[
    bool,
    typer.Option(
        "--default-excludes/--no-default-excludes",
        help="Leave out thumbnails, waste and snapshots of NAS, phones and desktops, such as @eaDir and ._*.",
    ),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="End with status 1 if anything was not looked at: links, what is left out.")
]


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


def policy_option(name: str | None, file: Path | None, language: str | None) -> "Policy | None":
    """Find the policy of ``--policy`` in the file of ``--policies``, speaking the language of ``--language``.

    Raises:
        BadParameter: There is no such policy, or a file but no name.
        PolicyError: The file cannot be used.
        OSError: It cannot be read.
    """
    from model.policies import SHIPPED, Policies, UnknownPolicy

    policies = Policies.load(file or SHIPPED) if name or file else Policies()
    if name is None:
        if file is not None:
            names = ", ".join(policies.by_name)
            raise typer.BadParameter(f"say which one with --policy; there are {names}", param_hint="--policies")
        return None
    try:
        return policies[name].speaking(language or "")
    except UnknownPolicy as error:
        raise typer.BadParameter(str(error), param_hint="--policy") from error


def check_policy(policy: "Policy | None", loaded: "Checkpoint") -> None:
    """Check that a checkpoint tells what a policy asks for.

    Raises:
        BadParameter: It does not.
    """
    lacking = policy.lacking(loaded.contract, loaded.digest) if policy is not None else None
    if policy is not None and lacking is not None:
        message = f"{policy.name} asks for {lacking}, which this checkpoint does not tell"
        raise typer.BadParameter(message, param_hint="--policy")


def check_photos(wanted: bool, loaded: "Checkpoint") -> None:
    """Check that a checkpoint tells what picking needs, if that is wanted.

    Raises:
        ValueError: It does not.
    """
    if wanted and not (loaded.contract.description and loaded.contract.defects):
        raise ValueError(f"{loaded.config.name} does not describe pictures, so it cannot tell which are alike")


def decoders_option(value: int | None) -> int:
    """The number of processes that decode for a training: by default one for each core but one, at most eight."""
    return min(max(processors.usable() - 1, 1), 8) if value is None else value


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
