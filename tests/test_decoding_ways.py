"""What the benchmark of decoders compares."""

import importlib

import numpy as np
import pytest
from PIL import Image

from benchmarks import decoding_ways
from benchmarks.decoding_ways import OURS, takes
from model.contract import Contract
from tests.conftest import EXAMPLES, encode, photo


def test_all_ways_show_the_same_picture(contract: Contract) -> None:
    with Image.open(EXAMPLES[0]) as file:
        data = encode(file.convert("RGB").resize((2400, 1800)), quality=95)
    found, missing = decoding_ways.ways()
    assert len(found) == 7 - 2 * len(missing)
    expected = found[OURS](data, contract)
    assert expected.shape == (384, 512, 3)
    for name, way in found.items():
        assert np.abs(way(data, contract).astype(int) - expected).mean() < 2, name


def test_peers_that_are_not_installed_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    found, missing = decoding_ways.ways()
    assert missing == ["cv2"]
    assert all(name.startswith(("ours", "Pillow")) for name in found)


def test_scales_are_tried_on_jpegs_only() -> None:
    found, _ = decoding_ways.ways()
    png = encode(photo(), "PNG")
    assert {name for name in found if takes(name, encode(photo()))} == set(found)
    assert not any("scaled" in name or "draft" in name for name in found if takes(name, png))
