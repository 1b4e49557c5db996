from pathlib import Path

import pytest

from model import checkpoint
from model.contract import Contract
from model.networks import registry
from training import published
from training.accuracy import Measured, of_checkpoints
from training.card import SELECTION
from training.datasets import READERS


def test_rows_are_of_networks_and_data_sets_that_there_are() -> None:
    for row in published.ROWS:
        assert row.preset in registry.PRESETS
        assert row.source
        assert row.notes
        assert set(row.notes) <= set(published.NOTES)
        assert row.figures
        assert set(row.figures) <= set(published.TITLES)
    assert set(published.TITLES) <= set(READERS)


def test_no_figure_is_there_twice() -> None:
    keys = [(row.preset, dataset) for row in published.ROWS for dataset in row.figures]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("preset", "missing"),
    [
        ("smart-tiny", {"live", "csiq", "tid2013", "kadid10k", "clive", "spaq", "flive"}),
        ("hyperiqa", {"csiq"}),
        ("life-iqa", {"flive"}),
        ("loda-b", {"csiq"}),
        ("musiq", set()),
    ],
)
def test_every_figure_that_was_published_is_there(preset: str, missing: set[str]) -> None:
    eight = set(published.TITLES) - {"biq2021", "agiqa3k"}
    found = {dataset for row in published.rows([preset]) for dataset in row.figures}
    assert found == eight - missing


def test_figures_are_in_range() -> None:
    for row in published.ROWS:
        for pair in row.figures.values():
            assert 0.5 < pair.srcc < 1
            # A slip of a digit would tear the two apart; FLIVE and LIVEC have the widest gaps.
            assert abs(pair.plcc - pair.srcc) <= 0.11


def test_a_part_that_chose_the_epoch_says_so(tmp_path: Path, contract: Contract) -> None:
    network = registry.build("smart-mobile")
    figures = {f"koniq10k-{part}": {"pictures": 9.0, "srcc": 0.9, "plcc": 0.8} for part in ("validation", "test")}
    for selection in SELECTION:
        checkpoint.save(
            tmp_path / selection, network, name="x", contract=contract, card=SELECTION[selection], figures=figures
        )
    found = {(row.folder, row.part): row for row in of_checkpoints(tmp_path)}
    assert {key for key, row in found.items() if row.chosen_on} == {
        ("best_on_test", "test"),
        ("validation", "validation"),
    }
    assert found["last", "test"] == Measured(
        folder="last", name="x", dataset="koniq10k", part="test", chosen_on=False, pictures=9, srcc=0.9, plcc=0.8
    )
