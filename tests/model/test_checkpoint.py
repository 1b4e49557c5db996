import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from model import checkpoint
from model.checkpoint import CheckpointError
from model.contract import Contract
from model.networks.loda import LoDa, LodaConfig
from tests.conftest import save_random


@pytest.fixture
def folder(checkpoint_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint_folder, tmp_path / "copy"))


def change(folder: Path, **fields: object) -> None:
    file = folder / checkpoint.CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_round_trip(checkpoint_folder: Path, contract: Contract) -> None:
    loaded = checkpoint.load(checkpoint_folder)
    assert loaded.contract == contract
    assert loaded.config.name == "smart-mobile-0"
    assert loaded.digest.startswith("sha256:")
    assert not loaded.network.training
    assert checkpoint.inspect(checkpoint_folder) == (loaded.config, loaded.digest)


def test_digest_covers_the_weights(tmp_path: Path, contract: Contract) -> None:
    save_random(tmp_path / "a", contract)
    before = checkpoint.load(tmp_path / "a").digest
    save_random(tmp_path / "a", contract)
    assert checkpoint.load(tmp_path / "a").digest == before
    save_random(tmp_path / "a", contract, seed=1)
    assert checkpoint.load(tmp_path / "a").digest != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_damaged_weights_are_refused(folder: Path) -> None:
    weights = folder / checkpoint.WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match="sha256"):
        checkpoint.load(folder)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    network = json.loads((folder / checkpoint.CONFIG).read_text())["network"]
    change(folder, network={**network, "backbone": "mobilenetv2_050"})
    with pytest.raises(CheckpointError, match="does not hold this network"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"format": 2}, "format"),
        ({"contract": {"version": 99}}, "contract version 99 is unknown"),
        ({"contract": None}, "config.json"),
        ({"surprise": 1}, "surprise"),
        ({"network": {"family": "nobody"}}, "unknown network family"),
        ({"network": 5}, "config.json"),
    ],
)
def test_unknown_configs_are_refused(folder: Path, fields: dict[str, object], words: str) -> None:
    change(folder, **fields)
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load(folder)


def test_config_that_is_not_json(folder: Path) -> None:
    (folder / checkpoint.CONFIG).write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", ["weights.pth", "model.pkl", "pytorch_model.bin"])
def test_pickles_beside_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match="pickle"):
        checkpoint.load(folder)


@pytest.mark.parametrize("torch_format", [True, False])
def test_pickles_in_disguise_are_refused_unread(folder: Path, torch_format: bool) -> None:
    weights = folder / checkpoint.WEIGHTS
    if torch_format:
        torch.save({"a": 1}, weights)
    else:
        weights.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match="pickle"):
        checkpoint.load(folder)


def test_safetensors_whose_length_begins_like_a_pickle_are_none(folder: Path) -> None:
    """A header of 128, 384, 640 ... bytes: read as far as its hash, which the padding has changed."""
    weights = folder / checkpoint.WEIGHTS
    data = weights.read_bytes()
    length = int.from_bytes(data[:8], "little")
    padding = (0x80 - length) % 256
    weights.write_bytes(
        (length + padding).to_bytes(8, "little") + data[8 : 8 + length] + b" " * padding + data[8 + length :]
    )
    assert weights.read_bytes()[0] == 0x80
    with pytest.raises(CheckpointError, match="sha256 is"):
        checkpoint.load(folder)


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="is a file"):
        checkpoint.load(folder / checkpoint.CARD)
    (folder / checkpoint.WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        checkpoint.load(folder)


def test_checkpoints_share_the_weights_that_were_not_trained(tmp_path: Path, contract: Contract) -> None:
    network = LoDa(LodaConfig(transformer="vit_tiny_patch16_224", backbone="test_resnet")).eval()
    for name in ("first", "second"):
        torch.nn.init.normal_(network.head)
        checkpoint.save(tmp_path / name, network, name=name, contract=contract, card="")
    (trunk,) = (tmp_path / "trunks").iterdir()
    adapters = (tmp_path / "first" / checkpoint.WEIGHTS).stat().st_size
    learning = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert 4 * learning < adapters < 1.05 * 4 * learning < trunk.stat().st_size
    loaded = checkpoint.load(tmp_path / "second").network
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in network.state_dict().items())

    other = tmp_path / "elsewhere" / "first"
    shutil.copytree(tmp_path / "first", other)
    with pytest.raises(CheckpointError, match="copy it along with the checkpoint"):
        checkpoint.load(other)
    shutil.copytree(tmp_path / "trunks", other / "trunks")
    checkpoint.load(other)
    copy = other / "trunks" / trunk.name
    copy.write_bytes(copy.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match=r"trunks/.*: sha256 is"):
        checkpoint.load(other)
    # A damaged one is written anew.
    trunk.write_bytes(trunk.read_bytes()[:-1] + b"x")
    checkpoint.save(tmp_path / "third", network, name="third", contract=contract, card="")
    checkpoint.load(tmp_path / "third")


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"trunk_sha256": 5}, "trunk_sha256 is no text"), ({"figures": {"a": 1}}, "no table of tables")],
)
def test_configs_of_other_types(folder: Path, fields: dict[str, object], words: str) -> None:
    change(folder, **fields)
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load(folder)


def test_weights_that_share_memory(tmp_path: Path, contract: Contract) -> None:
    network = LoDa(LodaConfig(transformer="vit_tiny_patch16_224", backbone="test_resnet")).eval()
    network.injectors[1].scale = network.injectors[0].scale
    checkpoint.save(tmp_path / "tied", network, name="tied", contract=contract, card="")
    loaded = checkpoint.load(tmp_path / "tied").network.state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(loaded[name], value), name
