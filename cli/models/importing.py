"""Checkpoint folders from the weights of other projects.

The format is detected by the names of the weights. Files are read with ``weights_only=True``, so no code in them runs.
"""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cli.models.weight_formats import FORMATS, Format, Weights
from model import checkpoint, golden
from model.contract import Contract
from model.networks import registry
from model.scorer import Scorer


def read(file: Path) -> dict[str, Tensor]:
    """Read the tensors of another project's checkpoint, out of the dictionaries that may wrap them.

    Returns:
        The tensors by name.

    Raises:
        ValueError: The file is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        file.open("rb").close()
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    try:
        if file.suffix == ".npz":
            return _read_arrays(file)
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise struct.error, IndexError, AssertionError ...
        kind = "NumPy file of plain arrays" if file.suffix == ".npz" else "PyTorch file of plain tensors"
        # Without the text of torch's error, which advises to load the file without the check.
        raise ValueError(f"{file}: not a {kind} ({type(error).__name__})") from error
    for wrapper in ("params", "learner", "model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            buffers = content.get("bn_buffer")
            content = content[wrapper]
            if isinstance(buffers, dict):
                content = content | {f"bn_buffer.{name}": value for name, value in buffers.items()}
    weights = {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}
    weights = {key.removeprefix("module."): value for key, value in weights.items() if isinstance(value, Tensor)}
    if not weights:
        raise ValueError(f"{file}: holds no tensors by name")
    return weights


def _read_arrays(file: Path) -> dict[str, Tensor]:
    with np.load(file, allow_pickle=False) as arrays:
        names = {name: name.removeprefix("opt/target/").replace("/", ".") for name in arrays.files}
        weights = {ours: arrays[name] for name, ours in names.items()}
    return {name: torch.from_numpy(value) for name, value in weights.items() if value.dtype == np.float32}


def detect(weights: Weights) -> str:
    """Detect the format of weights by their keys.

    Returns:
        A name in ``FORMATS``.

    Raises:
        ValueError: The keys are of no known format.
    """
    for name, format_ in FORMATS.items():
        if format_.mark in weights:
            return name
    known = ", ".join(f"{name} ({format_.title})" for name, format_ in FORMATS.items())
    raise ValueError(
        f"the keys are of no format that is known, the first is {next(iter(weights))!r}; known are {known}"
    )


def convert(weights: Weights, format_: Format, dataset: str = "") -> tuple[registry.Network, Contract]:
    """Make a network of another project's weights, and the contract that they were trained by.

    Args:
        weights: As ``read`` returns them.
        format_: Their format.
        dataset: The data set they were trained on; "" is KonIQ-10k, or AVA if the head grades 1 to 10.

    Raises:
        ValueError: Keys are missing or unexpected, or a tensor has another shape; the message lists them. Or no
            contract is known for that data set.
    """
    renamed = _rename(weights, format_)
    try:
        renamed = format_.convert(renamed)
        name, changes = format_.network(renamed)
    except KeyError as error:
        raise ValueError(_listed("missing keys", [str(error.args[0])], format_)) from error
    dataset = dataset or ("ava" if changes.get("classes", 1) == 10 else "koniq10k")
    contract = format_.contract(dataset, registry.view(name, **changes))
    network = registry.build(name, pretrained=format_.partial, **changes)
    own = network.state_dict()
    # A number is a number, whether it is kept as one or as a list of one.
    single = {name for name, value in renamed.items() if name in own and value.numel() == own[name].numel() == 1}
    renamed |= {name: renamed[name].reshape(own[name].shape) for name in single}
    _check(renamed, own, format_, optional=network.trunks() if format_.partial else ())
    network.load_state_dict(own | renamed)
    return network, contract


def _rename(weights: Weights, format_: Format) -> dict[str, Tensor]:
    """Rename weights to the keys of our networks, by the format's rules."""
    renamed: dict[str, Tensor] = {}
    unexpected = []
    for key, value in weights.items():
        if any(re.match(pattern, key) for pattern in format_.dropped):
            continue
        for pattern, ours in format_.rules:
            if re.match(pattern, key):
                renamed[re.sub(f"^{pattern}", ours, key)] = value
                break
        else:
            unexpected.append(key)
    if unexpected:
        raise ValueError(_listed("unexpected keys", unexpected, format_))
    return renamed


def _check(weights: Weights, own: Weights, format_: Format, *, optional: Iterable[str]) -> None:
    """Check that weights have the keys and shapes of a network.

    Args:
        weights: The weights.
        own: Those of the network.
        format_: Their format, for the message.
        optional: Modules of the network whose weights may be missing.
    """
    prefixes = tuple(f"{module}." for module in optional)
    missing = [
        key
        for key in own
        if key not in weights and not key.endswith("num_batches_tracked") and not key.startswith(prefixes)
    ]
    if missing:
        raise ValueError(_listed("missing keys", missing, format_))
    if unexpected := [key for key in weights if key not in own]:
        raise ValueError(_listed("unexpected keys", unexpected, format_))
    shapes = [
        f"{key} {tuple(value.shape)} instead of {tuple(own[key].shape)}"
        for key, value in weights.items()
        if value.shape != own[key].shape
    ]
    if shapes:
        raise ValueError(_listed("tensors of another shape", shapes, format_))


def _listed(what: str, names: list[str], format_: Format) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} others" if len(names) > 5 else "")
    return f"not {format_.title}: {what}: {shown}"


def write(weights: Weights, format_: Format, out: Path, *, name: str, origin: str, dataset: str = "") -> None:
    """Make a checkpoint folder with golden scores; if that fails, nothing is left of it.

    Args:
        weights: As ``read`` returns them.
        format_: Their format.
        out: The folder; it must not exist.
        name: Name by which requests choose the model.
        origin: Name of the file, for the model card.
        dataset: As for ``convert``.

    Raises:
        ValueError: The weights are not of that format, or the folder exists.
    """
    if out.exists():
        raise ValueError(f"{out} exists already")
    network, contract = convert(weights, format_, dataset)
    staging = out.with_name(f".{out.name}.importing")
    shared = out.parent / checkpoint.TRUNKS
    before = set(shared.glob("*"))
    try:
        checkpoint.save(
            staging,
            network,
            name=name,
            contract=contract,
            card=(
                f"# {name}\n\nImported from `{origin}` ({format_.title}).\n\nIts terms are those of its authors and "
                f"of its training data. No figure of it was measured here.\n"
            ),
            trained_on=f"{contract.scale.dataset}, by its authors",
            licence="of its authors and of the training data",
        )
        golden.write(Scorer.load(staging, device="cpu", precision="fp32"))
        checkpoint.replace(staging, out)
    except BaseException:
        for file in set(shared.glob("*")) - before:
            file.unlink()
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
