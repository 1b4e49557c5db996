"""How well a checkpoint finds defects."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from model.defects import DEFECTS
from tests.conftest import encode, photo
from training import found_defects


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    made = [folder / f"{seed}.png" for seed in range(2)]
    for seed, file in enumerate(made):
        file.write_bytes(encode(photo(160, 128, seed=seed), "PNG"))
    return made


def arrays(finds: Callable[[dict[str, float]], dict[str, float]]) -> tuple[np.ndarray, ...]:
    """What a finder of severities finds in two photos, as ``figures`` takes it."""

    def row(added: dict[str, float]) -> list[list[float]]:
        severities = [finds(added).get(name, 0.0) for name in DEFECTS]
        return [severities, severities]

    single = [[row({name: severity}) for severity in found_defects.SEVERITIES] for name in DEFECTS]
    pairs = [dict.fromkeys(pair, 0.5) for pair in itertools.combinations(DEFECTS, 2)]
    parts = [[name in pair for name in DEFECTS] for pair in pairs]
    return np.array([row({})] * 2), np.array([single] * 2), np.array([row(pair) for pair in pairs]), np.array(parts)


def test_who_finds_all_has_perfect_figures() -> None:
    measured = found_defects.figures(DEFECTS, *arrays(lambda added: added))
    assert measured.photos == 2
    assert measured.named == 1
    assert measured.false_alarms == 0
    assert [row.name for row in measured.rows] == list(DEFECTS)
    for row in measured.rows:
        assert row.against_untouched == row.against_others == row.in_mixtures == row.named == 1
        assert row.follows == pytest.approx(1)


def test_who_always_finds_noise_has_poor_ones() -> None:
    measured = found_defects.figures(DEFECTS, *arrays(lambda _: {"noise": 0.6}))
    assert measured.false_alarms == 1
    assert measured.named == pytest.approx(1 / len(DEFECTS))
    for row in measured.rows:
        assert row.against_untouched == row.against_others == row.in_mixtures == 0.5
        assert row.false_alarms == (row.name == "noise")


def test_areas_count_pairs() -> None:
    assert found_defects._area(np.array([0.9, 0.8]), np.array([0.1, 0.2, 0.3])) == 1
    assert found_defects._area(np.array([0.5]), np.array([0.5, 0.1])) == 0.75
    assert found_defects._area(np.array([0.0]), np.array([1.0])) == 0


def test_the_command_shows_defects(files: list[Path], whole_folder: Path) -> None:
    asked = ["benchmark", "behaviour", str(whole_folder), str(files[0].parent), "--pictures", "2"]
    shown = CliRunner().invoke(app, [*asked, "--json"])
    assert shown.exit_code == 0, shown.output
    rows = json.loads(shown.stdout)["defects"]["rows"]
    assert [row["name"] for row in rows] == list(DEFECTS)
    assert all(0 <= row["against_untouched"] <= 1 for row in rows)
