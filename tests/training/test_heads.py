"""Heads that are trained beside a score."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cli.main import app
from model import checkpoint
from model.defects import DEFECTS
from model.networks import registry
from model.networks.findings import DescriptionHead
from model.networks.smart import SmartIQA
from model.scorer import Scorer
from tests.training.conftest import RECIPE
from training import cross_validation, datasets, heads, recipe, splits, sweep, trainer
from training.descriptions import describe, fit
from training.examples import Examples
from training.run import SPLIT

WHOLE = replace(RECIPE, shapes=((96, 96), (128, 64)), crop_size=64, crops=1, crops_per_picture=1, epochs=1, half=True)


@pytest.fixture(scope="module")
def trained(root: Path, init: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of whole views, without heads."""
    return trainer.train(WHOLE, root, tmp_path_factory.mktemp("run") / "run", init=init, decoders=0)


@pytest.fixture(scope="module")
def folds(root: Path, init: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over three folds of twelve pictures."""
    folder = tmp_path_factory.mktemp("folds")
    (folder / "base.toml").write_text(recipe.dump(replace(WHOLE, split="folds", folds=3, selection="last")))
    runs = "".join(f"\n[[runs]]\nname = 'fold {fold}'\nfold = {fold}\n" for fold in range(3))
    (folder / "sweep.toml").write_text(f"base = 'base.toml'\n{runs}")
    sweep.run(sweep.load(folder / "sweep.toml"), root, folder / "out", init=init, decoders=0)
    return folder / "out"


@pytest.fixture(scope="module")
def examples(root: Path, trained: Path) -> Examples:
    contract = checkpoint.load(trained).contract
    return Examples(datasets.read("csv", root).samples, contract, 60, seed=1)


def test_heads_leave_the_scores_as_they_were(trained: Path, folds: Path, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "heads"
    arguments = ["heads", str(trained), str(out), "--root", str(root), "--folds", str(folds), "--examples", "100"]
    result = CliRunner().invoke(app, [*arguments, "--decoders", "0"])
    assert result.exit_code == 0, result.output
    assert "fold 2" in result.output
    before, after = (Scorer.load(folder, precision="fp32") for folder in (trained, out))
    files = [sample.path for sample in datasets.read("csv", root).samples[:4]]
    for file in files:
        old, new = before.score(file), after.score(file)
        assert new.score == old.score
        assert new.interval is not None
        assert new.interval.low <= new.score <= new.interval.high
        assert new.interval.coverage == 0.9
        assert tuple(new.defects) == DEFECTS
        assert len(new.description) == heads.DESCRIPTION
    config, _ = checkpoint.inspect(out)
    assert (config.name, config.figures) == (before.checkpoint.config.name, before.checkpoint.config.figures)
    assert checkpoint.is_half(out)
    assert "| fold 1 | 4 |" in (out / checkpoint.CARD).read_text()
    # A second time: other heads in the place of these, a section in the place of the old one.
    again = tmp_path / "again"
    heads.train(out, root, again, heads.Settings(examples=100, decoders=0))
    assert Scorer.load(again, precision="fp32").score(files[0]).interval is None
    card = (again / checkpoint.CARD).read_text()
    assert card.count("## Defects and intervals") == 1
    assert "fold 1" not in card
    # And who trains on from it starts with the score alone.
    more = trainer.train(WHOLE, root, tmp_path / "more", init=out, decoders=0)
    assert not checkpoint.load(more).contract.defects


def test_descriptions_are_the_components_that_tell_most(trained: Path) -> None:
    network = heads.with_heads(checkpoint.load(trained), 0, 3)
    head = network.description
    assert isinstance(head, DescriptionHead)
    rng = torch.Generator().manual_seed(0)
    length = network.statistics.length if network.statistics is not None else 0
    statistics = 0.01 * torch.randn(200, length, generator=rng)
    deepest = torch.randn(200, network.backbone.channels[-1], generator=rng) + 5
    statistics[:, 7] += 100 * torch.randn(200, generator=rng)
    heads.learn_description(network, heads.Described(statistics, deepest))
    described = head.components(torch.cat([statistics, deepest], dim=1))
    assert described.mean(dim=0).abs().max() < 1e-3
    # The first one is what varies most, as far as one; no two go together.
    assert abs(np.corrcoef(described[:, 0], statistics[:, 7])[0, 1]) > 0.999
    assert described[:, 0].std() == pytest.approx(1, rel=1e-3)
    assert described.std(dim=0)[1:].max() < 1
    assert np.abs(np.corrcoef(described.T) - np.eye(3)).max() < 0.02


def test_photos_of_the_first_fold_teach_no_defects(
    trained: Path, folds: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: set[str] = set()
    monkeypatch.setattr(heads, "learn_defects", lambda _, __, examples, ___: taught.update(examples.photos))
    for tested_on in (folds, None):
        heads.train(trained, root, tmp_path / "out", heads.Settings(folds=tested_on, examples=400, decoders=0))
        tested = {*cross_validation.predictions(folds)[0]["name"]}
        assert taught.isdisjoint(tested) == (tested_on is not None)


def test_defects_alone_are_learned_anew(trained: Path, folds: Path, root: Path, tmp_path: Path) -> None:
    settings = heads.Settings(folds=folds, examples=100, decoders=0)
    heads.train(trained, root, tmp_path / "heads", settings)
    out = tmp_path / "again"
    arguments = ["heads", str(tmp_path / "heads"), str(out), "--root", str(root), "--examples", "200", "--seed", "3"]
    result = CliRunner().invoke(app, [*arguments, "--defects-only", "--decoders", "0"])
    assert result.exit_code == 0, result.output
    before, after = (Scorer.load(folder, precision="fp32") for folder in (tmp_path / "heads", out))
    for sample in datasets.read("csv", root).samples[:4]:
        old, new = before.score(sample.path), after.score(sample.path)
        assert (new.score, new.interval, new.description) == (old.score, old.interval, old.description)
        assert new.defects != old.defects
    card, again = ((folder / checkpoint.CARD).read_text() for folder in (tmp_path / "heads", out))
    assert again == card.replace("from 100 views", "from 200 views") != card
    refused = CliRunner().invoke(app, [*arguments, "--defects-only", "--folds", str(folds)])
    assert refused.exit_code == 2
    with pytest.raises(ValueError, match="finds no defects"):
        heads.train_defects(trained, root, tmp_path / "none", heads.Settings())


def test_photos_that_are_held_back_teach_no_defects(
    trained: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: set[str] = set()
    monkeypatch.setattr(heads, "learn_defects", lambda _, __, examples, ___: taught.update(examples.photos))
    learned = splits.load(trained / SPLIT).train
    file = tmp_path / "split.json"
    file.write_text(splits.dump(splits.Split(dataset="csv", train=learned[1::2], validation=(), test=learned[::2])))
    for held_back in (file, None):
        heads.train(trained, root, tmp_path / "out", heads.Settings(held_back=held_back, examples=400, decoders=0))
        assert taught.isdisjoint(learned[::2]) == (held_back is not None)


def test_recipes_do_not_train_heads() -> None:
    with pytest.raises(ValueError, match="smart-iqa heads"):
        replace(WHOLE, options={"defects": True})


def test_what_cannot_have_heads(checkpoint_folder: Path, root: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["heads", str(checkpoint_folder), str(tmp_path / "out"), "--root", str(root)])
    assert isinstance(result.exception, ValueError)
    assert "whole views" in str(result.exception)


def test_examples_are_the_same_for_any_order(examples: Examples) -> None:
    assert examples.severities_ND.shape == (60, len(DEFECTS))
    with_defects = (examples.severities_ND > 0).sum(axis=1)
    assert {0, 1, 2, 3} == set(with_defects)
    assert {examples[place].shape for place in range(60)} <= {(96, 96, 3), (64, 128, 3), (64, 64, 3)}
    assert np.array_equal(examples[7], examples[7])


def test_close_looks_see_pixels_of_the_picture(root: Path, trained: Path) -> None:
    contract = checkpoint.load(trained).contract
    squares = Examples(datasets.read("csv", root).samples, contract, 80, seed=2)
    shapes = [squares[place].shape for place in range(80)]
    assert 16 <= shapes.count((64, 64, 3)) <= 42


def test_descriptions_do_not_depend_on_the_batch(trained: Path, examples: Examples) -> None:
    network = heads.with_heads(checkpoint.load(trained), kinds=0)
    described = describe(network, checkpoint.load(trained).contract, examples, decoders=0, title="all")
    assert network.statistics is not None
    assert described.shape == (60, network.statistics.length)
    alone = Alone(examples, 41)
    one = describe(network, checkpoint.load(trained).contract, alone, decoders=0, title="one")
    torch.testing.assert_close(described[41:42], one, rtol=1e-4, atol=1e-5)


class Alone(torch.utils.data.Dataset[np.ndarray]):
    def __init__(self, examples: Examples, place: int) -> None:
        self.examples, self.place = examples, place

    def __len__(self) -> int:
        return 1

    def __getitem__(self, _: int) -> np.ndarray:
        return self.examples[self.place]


def test_a_fit_learns_and_is_the_same_again() -> None:
    described = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1))
    wanted = described[:, :1] - described[:, 2:]

    def fitted() -> torch.nn.Linear:
        head = torch.nn.Linear(3, 1)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        fit(head, described, lambda noisy, places: (head(noisy) - wanted[places]).square().mean(), seed=3)
        return head

    head = fitted()
    assert head.weight[0].tolist() == pytest.approx([1, 0, -1], abs=0.2)
    assert torch.equal(head.weight, fitted().weight)
    assert not head.weight.requires_grad


@pytest.mark.parametrize(("name", "channels"), [("smart-lite", (16, 24, 40, 112)), ("smart-tiny", (96, 192, 384))])
def test_finer_levels_are_read_where_there_are_any(name: str, channels: tuple[int, ...]) -> None:
    network = registry.build(name, defects=True)
    assert isinstance(network, SmartIQA)
    assert network.statistics is not None
    assert network.statistics.length == 2 * sum(channels) + 1


def test_heads_are_learned_from_what_the_score_was_learned_from(trained: Path, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root.parent, tmp_path / "data")
    labels = tmp_path / "data" / root.name
    settings = heads.Settings(examples=100, decoders=0)
    shutil.copy(labels.parent / "03.jpg", labels.parent / "07.jpg")
    with pytest.raises(ValueError, match="other labels or pictures than those that"):
        heads.train(trained, labels, tmp_path / "out", settings)
    shutil.copy(root.parent / "07.jpg", labels.parent / "07.jpg")
    heads._read(trained, labels)
    labels.write_text(labels.read_text().replace("03.jpg,0.75", "03.jpg,0.76"))
    with pytest.raises(ValueError, match="other labels or pictures than those that"):
        heads.train_defects(trained, labels, tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()
