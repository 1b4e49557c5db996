"""Files for other runtimes answer what the engine answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from timm.models import SwinTransformer, build_model_with_cfg, register_model

from cli.models import exporting
from model import checkpoint
from model.contract import Contract
from model.inference.engine import Engine
from model.networks import registry
from model.scale import Scale
from tests.commands import smart_iqa


@register_model
def small_swin(**options: Any) -> torch.nn.Module:
    """A Swin transformer with all that the large ones have, shifted windows too: the export takes long for each block.

    timm has small networks for tests, but no Swin.
    """
    small = {"embed_dim": 24, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 4, 8), **options}
    made: torch.nn.Module = build_model_with_cfg(
        SwinTransformer, "swin_tiny_patch4_window7_224", feature_cfg={"flatten_sequential": True}, **small
    )
    return made


SMALL: dict[str, dict[str, Any]] = {
    "smart-mobile": {"backbone": "test_resnet"},
    "smart-tiny": {"backbone": "small_swin"},
    "smart-mobile-eq": {"backbone": "test_resnet", "rank": 4},
    "hyperiqa": {"backbone": "test_resnet"},
    "life-iqa-mobile": {"backbone": "test_resnet", "depth": 1},
    "loda-ti": {"backbone": "test_resnet", "transformer": "test_vit"},
    "musiq": {"width": 48, "depth": 1, "heads": 4, "hidden": 64},
}


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A checkpoint of one of the small systems."""
    name: str = request.param
    torch.manual_seed(0)
    network = registry.build(name, **SMALL[name])
    for parameter in network.parameters():
        parameter.data.add_(0.01 * torch.randn_like(parameter))
    view = registry.view(name, **SMALL[name])
    contract = Contract(
        scale=Scale(dataset="made-up", min=0.0, max=1.0), slope=2.0, intercept=0.5, crops=1 if view else 4, **view
    )
    checkpoint.save(tmp_path / name, network, name=name, contract=contract, card="")
    return tmp_path / name


def wanted(folder: Path, count: int) -> tuple[Any, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Items, and the engine's raw scores and stage weights."""
    loaded = checkpoint.load(folder)
    engine = Engine(loaded.network, loaded.contract, device="cpu", precision="fp32")
    items = loaded.contract.probe(count, loaded.contract.item_shapes()[-1])
    rows = engine.predict(items)
    return items, loaded.contract.raw(rows[:, 0].astype(np.float64)), rows[:, 1:]


@pytest.mark.parametrize("folder", SMALL, indirect=True)
def test_onnx_answers_what_the_engine_answers(folder: Path, tmp_path: Path) -> None:
    file, difference = exporting.export(folder, "onnx", tmp_path / "model.onnx", replace=False)
    assert difference < 1e-4
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    loaded = checkpoint.load(folder)
    texts = session.get_modelmeta().custom_metadata_map
    assert texts["digest"] == loaded.digest
    assert Contract.from_dict(json.loads(texts["contract"])) == loaded.contract
    (entry,) = session.get_inputs()
    assert entry.name == loaded.contract.view
    for count in (1, 5):
        items, raw, weights = wanted(folder, count)
        found = session.run(None, {entry.name: items})
        np.testing.assert_allclose(found[0], raw, rtol=1e-4, atol=1e-5)
        assert len(found) == 1 + loaded.network.weighs_stages
        if loaded.network.weighs_stages:
            np.testing.assert_allclose(found[1], weights, rtol=1e-4, atol=1e-5)


# That every network can be traced is shown by ONNX, which is made of the same trace.
@pytest.mark.parametrize("folder", ["smart-mobile"], indirect=True)
def test_torch_export_answers_what_the_engine_answers(folder: Path, tmp_path: Path) -> None:
    file, _ = exporting.export(folder, "torch-export", tmp_path / "model.pt2", replace=False)
    texts = {"digest": "", "contract": "", "name": ""}
    module = torch.export.load(file, extra_files=texts).module()
    loaded = checkpoint.load(folder)
    assert (texts["name"], texts["digest"]) == (loaded.config.name, loaded.digest)
    for count in (1, 5):
        items, raw, weights = wanted(folder, count)
        with torch.inference_mode():
            found = module(torch.from_numpy(items))
        np.testing.assert_allclose(found[0].numpy(), raw, rtol=1e-4, atol=1e-5)
        if loaded.network.weighs_stages:
            np.testing.assert_allclose(found[1].numpy(), weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("folder", ["hyperiqa"], indirect=True)
def test_a_file_that_differs_is_not_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="the torch-export file differs from the engine"):
        exporting.export(folder, "torch-export", tmp_path / "model.pt2", replace=False)
    assert [one.name for one in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize("folder", ["hyperiqa"], indirect=True)
def test_the_command(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    made = smart_iqa("models", "export", folder, "--out", out)
    assert made.returncode == 0, made.stderr
    assert made.stdout.strip() == str(out)
    assert "of the scale" in made.stderr
    assert len(made.stderr.splitlines()) == 1
    for arguments, words in (
        (("--out", out), "exists already; --force replaces it"),
        (("--format", "tflite"), "no format is called 'tflite'; there are onnx, torch-export"),
    ):
        refused = smart_iqa("models", "export", folder, *arguments)
        assert refused.returncode == 2
        assert words in refused.stderr
    none = smart_iqa("models", "export", tmp_path / "none")
    assert "no such checkpoint folder" in none.stderr
