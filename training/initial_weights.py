"""First weights of a training: a backbone's, a whole checkpoint's, or random ones."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from model import checkpoint
from model.contract import Contract
from model.inference.engine import mean_std, network_inputs
from model.networks import registry
from model.networks.network import HEADS
from model.scale import Scale
from training.recipe import Recipe

RANDOM = Path("random")
"""Stands in the place of a file for random weights."""


def network(recipe: Recipe, init: Path | None, *, fetch: bool) -> registry.Network:
    """Make the recipe's network with its first weights.

    Args:
        recipe: Names the network and its dropout rates.
        init: A safetensors file with a timm backbone, a checkpoint folder of the same network, or ``RANDOM``.
        fetch: Whether to ask timm's hub for the backbone's weights if ``init`` is None.

    Raises:
        ValueError: The weights are of another network.
    """
    made = registry.build(recipe.network, pretrained=fetch and init is None, **recipe.network_changes())
    if init is None or init == RANDOM:
        return made
    if init.is_dir():
        load_checkpoint(made, init)
    else:
        load_backbone(made, init)
    return made


def check(recipe: Recipe, contract: Contract, init: Path | None) -> None:
    """Check that the recipe's network can be built and takes the contract's items, before anything is written.

    Raises:
        ValueError: It cannot be built, or does not take them.
    """
    with torch.random.fork_rng():
        made = network(recipe, init, fetch=False).eval()
    item = torch.from_numpy(contract.probe(1, contract.item_shapes()[0]))
    try:
        with torch.inference_mode():
            made(network_inputs(item, mean_std(contract, "cpu")))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"{recipe.network} cannot see items of {item.shape[1:]}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def load_backbone(network: registry.Network, file: Path) -> None:
    """Load a safetensors file of a whole timm network into the only trunk of a network, see ``load_trunk``.

    Raises:
        ValueError: The network has no trunk or several, or the file does not fit.
    """
    if len(network.trunks()) != 1:
        raise ValueError(
            f"{file}: a file holds one backbone, but this network has {' and '.join(network.trunks()) or 'none'}; "
            "start it from a checkpoint folder"
        )
    (trunk,) = network.trunks().values()
    load_trunk(trunk, file)


def load_trunk(trunk: nn.Module, file: Path) -> None:
    """Load a safetensors file of a whole timm network into a trunk, without the layers after its last level.

    Raises:
        ValueError: The file is no safetensors file or lacks weights of the trunk.
    """
    own = trunk.state_dict()
    try:
        weights = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file}: not a safetensors file: {error}") from error
    # As a feature extractor timm calls layers_0 what it calls layers.0 in the whole network.
    plain = {name.replace(".", "_"): value for name, value in weights.items()}
    # Checkpoints from before batch norms counted their batches lack the counters, which nothing reads.
    found = {name: plain.get(name.replace(".", "_")) for name in own}
    absent = [name for name, value in found.items() if value is None and not name.endswith("num_batches_tracked")]
    if absent:
        raise ValueError(f"{file}: lacks {absent[0]} and {len(absent) - 1} other weights of the backbone")
    try:
        trunk.load_state_dict({name: own[name] if value is None else value for name, value in found.items()})
    except RuntimeError as error:
        raise ValueError(f"{file}: weights of another shape: {str(error).splitlines()[-1].strip()}") from error


def load_checkpoint(network: registry.Network, folder: Path) -> None:
    """Load a checkpoint's weights into a network of the same architecture; its dropout rates may differ.

    Heads beside the score are left out: they belong to the weights that they were trained on.

    Raises:
        ValueError: The checkpoint is of another architecture.
    """
    loaded = checkpoint.load(folder)
    theirs, ours = registry.to_dict(loaded.network), registry.to_dict(network)
    for field in sorted(set(theirs) | set(ours)):
        if field not in {"dropout", "drop_path", *HEADS} and theirs.get(field) != ours.get(field):
            raise ValueError(
                f"{folder} is a checkpoint of another architecture: "
                f"its {field} is {theirs.get(field)!r}, the recipe's is {ours.get(field)!r}"
            )
    own = network.state_dict()
    network.load_state_dict({name: value for name, value in loaded.network.state_dict().items() if name in own})


def contract(recipe: Recipe, scale: Scale, init: Path | None) -> Contract:
    """Make the contract of the checkpoint to be trained, with the line from the network's output to the labels.

    The line maps the recipe's ``label_range`` to the range of labels. Without one, a network that starts from a
    checkpoint keeps its outputs for the worst and the best label, and any other network learns the labels as they are;
    one whose outputs have a range learns that.

    Raises:
        ValueError: The network's outputs cannot have that range.
    """
    changes = recipe.network_changes()
    outputs = registry.output_range(recipe.network, **changes)
    low, high = outputs or (scale.min, scale.max)
    if recipe.label_range is not None:
        low, high = recipe.label_range
        if outputs not in (None, recipe.label_range):
            raise ValueError(f"the outputs of a distribution over bins are {outputs}, which label_range cannot change")
    elif init not in (None, RANDOM) and init.is_dir():
        first = checkpoint.inspect(init)[0].contract
        low = (first.scale.min - first.intercept) / first.slope
        high = (first.scale.max - first.intercept) / first.slope
        if first.scale.higher_is_better != scale.higher_is_better:
            low, high = high, low
    slope = (scale.max - scale.min) / (high - low)
    whole: dict[str, Any] = {"view": "whole", "shapes": recipe.shapes} if recipe.shapes else {}
    return Contract(
        **registry.view(recipe.network, **changes),
        **whole,
        resize=recipe.resize,
        width=recipe.width,
        height=recipe.height,
        decoding=recipe.decoding,
        crop_size=recipe.crop_size,
        zooms=recipe.zooms,
        crops=recipe.crops,
        mean=recipe.mean,
        std=recipe.std,
        scale=scale,
        slope=slope,
        intercept=scale.min - slope * low,
    )


def teacher(recipe: Recipe, folder: Path | None) -> checkpoint.Checkpoint | None:
    """Load the checkpoint that a recipe learns from; None without one.

    Raises:
        ValueError: There is a teacher and no ``distil_weight``, or the other way round.
    """
    if (folder is None) == bool(recipe.distil_weight):
        raise ValueError("a distil_weight needs a teacher, and a teacher a distil_weight above 0")
    return None if folder is None else checkpoint.load(folder)


def digests(init: Path | None, teacher: Path | None) -> dict[str, str]:
    """Digests of the first weights and, if there is one, of the teacher."""
    own = {"init": _digest(init)}
    return own if teacher is None else {**own, "teacher": checkpoint.inspect(teacher)[1]}


def _digest(init: Path | None) -> str:
    """Digest of the first weights; "" for timm's hub, "random" for random ones."""
    if init is None or init == RANDOM:
        return "" if init is None else str(init)
    if init.is_dir():
        return checkpoint.inspect(init)[1]
    try:
        return f"sha256:{hashlib.sha256(init.read_bytes()).hexdigest()}"
    except OSError as error:
        raise ValueError(f"{init}: {error.strerror}") from error
