import json
from pathlib import Path

import pytest
from PIL import Image

from cli.models.precision import some
from model import checkpoint
from model.contract import Contract
from model.networks import registry
from model.scale import Scale
from tests.commands import smart_iqa
from tests.conftest import EXAMPLES


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for place, file in enumerate(EXAMPLES[:4]):
        Image.open(file).convert("RGB").resize((240 + 10 * place, 224)).save(folder / f"{place}.jpg", quality=90)
    return folder


@pytest.fixture(scope="module")
def prepared(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A checkpoint after ``models quantise``, and what the command told."""
    folder = tmp_path_factory.mktemp("checkpoints") / "small"
    # Trained batch norms are not there, so the scores are next to nothing on a scale of this width.
    contract = Contract(crops=1, scale=Scale(dataset="made-up", min=0.0, max=1.0))
    checkpoint.save(folder, registry.build("smart-mobile"), name="small", contract=contract, card="# Random")
    told = smart_iqa("models", "quantise", folder, photos, "--tolerance", "5")
    assert told.returncode == 0, told.stderr
    return folder, told.stdout


def test_quantise_prepares_a_checkpoint(prepared: tuple[Path, str]) -> None:
    folder, told = prepared
    ranges = checkpoint.load(folder).ranges
    assert f"{len(ranges)} of 51 layers in int8; scores of 2 other pictures" in told
    assert ranges


def test_scores_in_int8(prepared: tuple[Path, str], photos: Path) -> None:
    told = smart_iqa("score", "--checkpoint", prepared[0], "--precision", "int8", "--format", "jsonl", photos)
    assert told.returncode == 0, told.stderr
    assert len(told.stdout.splitlines()) == 4


def test_a_checkpoint_that_is_not_prepared(checkpoint_folder: Path, photos: Path) -> None:
    told = smart_iqa("score", "--checkpoint", checkpoint_folder, "--precision", "int8", photos)
    assert told.returncode == 2
    assert "smart-iqa models quantise" in told.stderr


def test_benchmark_precision(prepared: tuple[Path, str], photos: Path) -> None:
    told = smart_iqa("benchmark", "precision", photos, "--checkpoint", prepared[0], "--pictures", 2, "--json")
    assert told.returncode == 0, told.stderr
    rows = {row["precision"]: row for row in map(json.loads, told.stdout.splitlines())}
    assert list(rows) == ["fp32", "bf16", "int8"]
    assert rows["fp32"]["mean"] == 0
    assert all(row["pictures"] == 2 and row["seconds"] > 0 for row in rows.values())
    table = smart_iqa("benchmark", "precision", photos, "--checkpoint", prepared[0], "--pictures", 2).stdout
    assert "mean |difference|" in table


def test_some_files_are_spread_over_all() -> None:
    files = [Path(str(place)) for place in range(11)]
    assert [int(file.name) for file in some(files, 3)] == [0, 5, 10]
    assert some(files, 100) == files
