"""Networks at full size answer the golden outputs."""

import json

import pytest

from tests.model.seeded import FILE, NAMES, outputs

GOLDEN = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_golden_outputs(name: str) -> None:
    found = outputs(name)
    assert found.keys() == GOLDEN[name].keys()
    for key, values in found.items():
        assert values == pytest.approx(GOLDEN[name][key], rel=1e-4, abs=1e-5), key
