"""Checkpoints: a folder with everything that a score depends on.

    model.safetensors   the weights
    config.json         network, contract, hash of the weights, training data, licence, measured figures
    card.md             the same for readers: data, terms, figures, limits
    golden.json         scores of the small pictures in golden/, checked before anything is served
    int8.json           ranges of activations, if the checkpoint can also compute in 8-bit integers

Weights that are never trained (both trunks of LoDa) are in a file of their own, ``trunks/<sha256>.safetensors`` beside
the folder or in it, which the checkpoints of several data sets share.

No pickle is ever read, because reading one can run any code.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from model.contract import Contract
from model.networks import registry
from model.ranges import Range, Ranges

FORMAT = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "card.md"
TRUNKS = "trunks"
INT8 = "int8.json"

_PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt")
_PICKLE_STARTS = (b"\x80", b"PK\x03\x04")


class CheckpointError(ValueError):
    """The folder is not a checkpoint that this release can serve; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The content of ``config.json``.

    Attributes:
        name: Name that requests choose the model by.
        network: Family and config of the network, as ``registry.to_dict`` writes it.
        contract: How pictures are preprocessed, and what scores mean.
        weights_sha256: Hash of ``model.safetensors``, hexadecimal.
        trunk_sha256: Hash, and file name, of the weights that are never trained; "" if there are none.
        trained_on: The training data, in one line.
        licence: Terms of the weights, in one line.
        figures: Measured results: split name to metric to value.
    """

    name: str
    network: Mapping[str, Any]
    contract: Contract
    weights_sha256: str
    trunk_sha256: str = ""
    trained_on: str = ""
    licence: str = ""
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        folder: The folder that it was read from.
        network: The network with its weights, in evaluation mode, on the CPU.
        config: The content of ``config.json``.
        digest: ``sha256:`` and the hash of ``config.json``, which in turn contains the hash of the weights.
    """

    folder: Path
    network: registry.Network
    config: Config
    digest: str

    @property
    def contract(self) -> Contract:
        """The scoring contract."""
        return self.config.contract

    @property
    def ranges(self) -> dict[str, tuple[Range, Range]]:
        """Ranges of the inputs and outputs of the layers that compute in int8, by layer.

        Raises:
            CheckpointError: The checkpoint has none, or they belong to other weights.
        """
        file = self.folder / INT8
        if not file.is_file():
            raise CheckpointError(
                f"{self.folder} has no {INT8}: prepare it for int8 with smart-iqa models quantise {self.folder} PHOTOS"
            )
        try:
            content = json.loads(_read(file))
            if content["weights_sha256"] != self.config.weights_sha256:
                raise ValueError("it belongs to other weights")
            return {name: (Range(*ends[:2]), Range(*ends[2:])) for name, ends in content["layers"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{file}: {error}") from error

    def save_ranges(self, ranges: Ranges) -> None:
        """Write the ranges of activations to ``int8.json``."""
        layers = {name: [*inputs, *outputs] for name, (inputs, outputs) in ranges.items()}
        text = json.dumps({"weights_sha256": self.config.weights_sha256, "layers": layers}, indent=1)
        (self.folder / INT8).write_text(text + "\n", encoding="utf-8")


def load(folder: Path | str) -> Checkpoint:
    """Read and verify a checkpoint folder.

    Raises:
        CheckpointError: A file is missing, damaged or a pickle, a hash is wrong, or the contract or network is unknown.
    """
    folder = Path(folder)
    config, digest, parts = _verified(folder)
    weights = folder / WEIGHTS
    try:
        network = registry.from_dict(config.network)
        network.load_state_dict({key: value for data in parts for key, value in safetensors.torch.load(data).items()})
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{weights} does not hold this network's weights: {error}") from error
    return Checkpoint(folder=folder, network=network.eval(), config=config, digest=digest)


def inspect(folder: Path | str) -> tuple[Config, str]:
    """Read a checkpoint's config and digest and verify its files, without making the network.

    Raises:
        CheckpointError: As for ``load``, except for faults that only making the network finds.
    """
    return _verified(Path(folder))[:2]


def save(
    folder: Path | str,
    network: registry.Network,
    *,
    name: str,
    contract: Contract,
    card: str,
    trained_on: str = "",
    licence: str = "",
    figures: Mapping[str, Mapping[str, float]] | None = None,
    half: bool = False,
) -> None:
    """Write or replace a checkpoint folder in a single step: a failure leaves an older folder untouched.

    Args:
        folder: The folder to make. Other files of an older folder, its golden pictures among them, are not kept.
        network: The network whose weights and config are written.
        name: Name that requests will choose the model by.
        contract: The scoring contract.
        card: Text of ``card.md``.
        trained_on: The training data, in one line.
        licence: Terms of the weights, in one line.
        figures: Measured results: split name to metric to value.
        half: Whether matrices are stored with 16 bits a number. They are computed with in fp32 all the same.
    """
    folder = Path(folder)
    staging = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        # safetensors refuses strided (channels-last) tensors, and those that share memory.
        weights = {
            key: value.to(torch.float16 if half and value.dim() > 1 else value.dtype).clone(
                memory_format=torch.contiguous_format
            )
            for key, value in network.state_dict().items()
        }
        trunk = {key: weights.pop(key) for key in network.frozen}
        data = safetensors.torch.save(weights)
        (staging / WEIGHTS).write_bytes(data)
        config = Config(
            name=name,
            network=registry.to_dict(network),
            contract=contract,
            weights_sha256=hashlib.sha256(data).hexdigest(),
            trunk_sha256=_share(trunk, folder.parent / TRUNKS) if trunk else "",
            trained_on=trained_on,
            licence=licence,
            figures=figures or {},
        )
        fields = {**dataclasses.asdict(config), "contract": contract.to_dict()}
        text = json.dumps({"format": FORMAT, **fields}, indent=2)
        (staging / CONFIG).write_text(text + "\n", encoding="utf-8")
        (staging / CARD).write_text(card, encoding="utf-8")
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    replace(staging, folder)


def is_half(folder: Path | str) -> bool:
    """Whether a checkpoint was saved with ``half``."""
    with safetensors.safe_open(Path(folder) / WEIGHTS, "pt") as file:
        names = file.keys()
        return any(file.get_slice(name).get_dtype() == "F16" for name in names)


def _share(weights: dict[str, Tensor], folder: Path) -> str:
    """Write weights to a file that is named by their hash, unless an intact one exists; returns the hash."""
    data = safetensors.torch.save(weights)
    digest = hashlib.sha256(data).hexdigest()
    file = folder / f"{digest}.safetensors"
    if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
        folder.mkdir(exist_ok=True)
        staging = file.with_suffix(f".{os.getpid()}.writing")
        try:
            staging.write_bytes(data)
            os.replace(staging, file)
        finally:
            staging.unlink(missing_ok=True)
    return digest


def replace(staging: Path, folder: Path) -> None:
    """Move a finished folder to the place of another one, which need not exist."""
    if folder.exists():
        retired = folder.with_name(f".{folder.name}.retired")
        shutil.rmtree(retired, ignore_errors=True)
        os.replace(folder, retired)
        os.replace(staging, folder)
        shutil.rmtree(retired)
    else:
        os.replace(staging, folder)


def _verified(folder: Path) -> tuple[Config, str, list[bytes]]:
    """Read config, digest and weight files, and check the hashes of the very bytes that will be loaded."""
    _refuse_pickles(folder)
    text = _read(folder / CONFIG)
    config = _parse_config(text, folder)
    expected = {folder / WEIGHTS: config.weights_sha256}
    if config.trunk_sha256:
        expected[_trunk(folder, config.trunk_sha256)] = config.trunk_sha256
    parts = []
    for file, digest in expected.items():
        parts.append(_read(file))
        actual = hashlib.sha256(parts[-1]).hexdigest()
        if actual != digest:
            raise CheckpointError(f"{file}: sha256 is {actual}, but {CONFIG} says {digest}")
    return config, f"sha256:{hashlib.sha256(text).hexdigest()}", parts


def _trunk(folder: Path, digest: str) -> Path:
    """Find the file with the weights that are never trained."""
    places = (folder / TRUNKS, folder.resolve().parent / TRUNKS)
    for place in places:
        # The name comes from an untrusted file: drop any path in it.
        file = place / f"{Path(digest).name}.safetensors"
        if file.is_file():
            return file
    raise CheckpointError(
        f"{folder}: {digest}.safetensors, with the weights that were not trained, is neither in {places[0]} "
        f"nor in {places[1]}; copy it along with the checkpoint"
    )


def _refuse_pickles(folder: Path) -> None:
    if not folder.exists():
        raise CheckpointError(f"{folder}: no such checkpoint folder")
    files = [folder] if folder.is_file() else list(folder.iterdir())
    pickles = [file.name for file in files if file.suffix in _PICKLE_SUFFIXES]
    weights = folder / WEIGHTS
    if weights.is_file():
        with weights.open("rb") as file:
            start = file.read(9)
            # safetensors begins with a length that may look like a pickle's first byte; a brace follows at offset 8.
            if start.startswith(_PICKLE_STARTS) and start[8:] != b"{":
                pickles.append(WEIGHTS)
    if pickles:
        raise CheckpointError(
            f"{folder}: {', '.join(pickles)} is or may be a pickle, which can run any code when it is read; "
            "only safetensors weights are loaded"
        )
    if folder.is_file():
        raise CheckpointError(f"{folder} is a file; a checkpoint is a folder with {CONFIG} and {WEIGHTS}")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error


def _parse_config(text: bytes, folder: Path) -> Config:
    try:
        fields = json.loads(text)
        if fields.pop("format", None) != FORMAT:
            raise ValueError(f"checkpoint format is not {FORMAT}")
        fields["contract"] = Contract.from_dict(fields["contract"])
        config = Config(**fields)
        for name in ("name", "weights_sha256", "trunk_sha256", "trained_on", "licence"):
            if not isinstance(getattr(config, name), str):
                raise ValueError(f"{name} is no text")
        if not all(isinstance(split, dict) for split in config.figures.values()):
            raise ValueError("figures are no table of tables")
        return config
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error
