import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from PIL import ImageFilter
from safetensors.torch import save_file

from model import checkpoint, golden, registry
from model.scorer import Scorer
from tests.conftest import encode, photo
from tests.training.test_data import write_csv
from training import datasets, evaluator, recipe, splits, trainer
from training.recipe import Recipe


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, blurred ever more, with labels that say so."""
    folder = tmp_path_factory.mktemp("data")
    rows: list[tuple[str, object]] = []
    for index in range(12):
        image = photo(256, 240, seed=index).filter(ImageFilter.GaussianBlur(index / 2))
        (folder / f"{index:02}.jpg").write_bytes(encode(image))
        rows.append((f"{index:02}.jpg", 1 - index / 12))
    write_csv(folder / "labels.csv", ("path", "mos"), rows)
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Backbone weights in the form that timm's users have them, without batch counters."""
    torch.manual_seed(0)
    weights = timm.create_model("mobilenetv2_100", num_classes=0).state_dict()
    file = tmp_path_factory.mktemp("init") / "backbone.safetensors"
    save_file({name: value for name, value in weights.items() if not name.endswith("tracked")}, file)
    return file


RECIPE = Recipe(
    network="smart-mobile", dataset="csv", epochs=2, batch_pictures=4, validation_share=0.25, crops=2,
    validation_crops=1, frozen=("conv_stem", "bn1", "blocks.0"), freeze_bn=True, ema_decay=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(root: Path, init: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an uninterrupted training."""
    out = tmp_path_factory.mktemp("run")
    assert trainer.train(RECIPE, root, out, init=init, workers=0) == out / "checkpoint"
    return out


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / trainer.METRICS).read_text().splitlines()]


def test_the_result_is_a_checkpoint_that_can_be_served(finished: Path, root: Path) -> None:
    folder = finished / "checkpoint"
    scorer = Scorer.load(folder, device="cpu")
    assert golden.verify(scorer)
    split = splits.load(folder / trainer.SPLIT)
    assert (len(split.train), len(split.validation)) == (9, 3)
    samples = splits.select(datasets.read("csv", root), split.validation)
    measured = evaluator.evaluate(scorer, samples).agreement
    config, _ = checkpoint.inspect(folder)
    assert config.figures == {"csv-validation": {"pictures": 3.0, **measured.to_dict()}}
    assert config.contract.crops == 2
    assert f"{measured.srcc:.4f}" in (folder / checkpoint.CARD).read_text()


def test_every_epoch_is_told(finished: Path) -> None:
    assert [line["epoch"] for line in metrics(finished)] == [1, 2]
    assert all({"loss", "srcc", "plcc", "rmse", "mae"} <= set(line) for line in metrics(finished))


def test_a_resumed_run_ends_like_an_uninterrupted_one(
    finished: Path, root: Path, init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = trainer._save_state

    def save_and_stop(file: Path, state: dict[str, object]) -> None:
        save(file, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            trainer.train(RECIPE, root, tmp_path, init=init, workers=0)
    assert torch.load(tmp_path / trainer.STATE, weights_only=True)["epoch"] == 1
    trainer.train(RECIPE, root, tmp_path, init=init, workers=0)
    assert metrics(tmp_path) == metrics(finished)
    digests = [checkpoint.inspect(out / "checkpoint")[1] for out in (tmp_path, finished)]
    assert digests[0] == digests[1]


def test_frozen_parts_keep_their_weights_and_the_rest_moves(finished: Path, init: Path) -> None:
    start = registry.build("smart-mobile")
    trainer.load_backbone(start, init)
    trained = checkpoint.load(finished / "checkpoint").network.state_dict()
    for name, before in start.backbone.state_dict().items():
        frozen = name.startswith(("features.conv_stem", "features.bn1", "features.blocks.0")) or "running" in name
        if "num_batches" not in name:
            assert torch.equal(before, trained[f"backbone.{name}"]) == frozen, name


def test_a_folder_holds_one_recipe(finished: Path, root: Path, init: Path) -> None:
    with pytest.raises(ValueError, match="another recipe"):
        trainer.train(replace(RECIPE, seed=1), root, finished, init=init)
    with pytest.raises(ValueError, match="other weights"):
        trainer.train(RECIPE, root, finished, init=root)


def test_a_run_does_not_go_on_with_other_pictures(root: Path, init: Path, tmp_path: Path, finished: Path) -> None:
    shorter = root.with_name("shorter.csv")
    shorter.write_text("\n".join(root.read_text().splitlines()[:-1]))
    shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(ValueError, match="other pictures"):
        trainer.train(RECIPE, shorter, tmp_path / "run", init=init)


def test_initial_weights_that_do_not_fit(tmp_path: Path) -> None:
    save_file({"conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "short.safetensors")
    with pytest.raises(ValueError, match="lacks"):
        trainer.load_backbone(registry.build("smart-mobile"), tmp_path / "short.safetensors")


def test_warmup_then_cosine() -> None:
    factor = trainer._warmup_cosine(4, 12)
    assert [factor(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert factor(4) == 1
    assert factor(8) == pytest.approx(0.5)
    assert factor(12) == pytest.approx(0)


def test_shipped_recipes_load() -> None:
    files = list(Path(recipe.__file__).parent.glob("recipes/*.toml"))
    assert files
    for file in files:
        loaded = recipe.load(file)
        assert loaded.network in registry.names()
        assert loaded.dataset in datasets.READERS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("network = 'smart-tiny'\ndataset = 'csv'\nepoch = 3", "'epoch'; did you mean 'epochs'"),
        ("dataset = 'csv'", "network"),
        ("network = 'smart-tiny'\ndataset = 'csv'\nepochs = 0", "epochs must be"),
        ("network = 'smart-tiny'\ndataset = 'csv'\nvalidation_share = 1.0", "validation_share"),
        ("network = 'smart-tiny'\ndataset = 'csv'\nema_decay = 1.0", "ema_decay"),
        ("network = ", "recipe.toml"),
    ],
)
def test_bad_recipes(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=words):
        recipe.load(file)
