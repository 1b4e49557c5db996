import dataclasses
from pathlib import Path

import pytest

from model.networks import registry
from model.networks.smart import SmartIQA
from training import datasets, recipe, sweep
from training.recipe import SHIPPED, Recipe


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.toml")), ids=lambda file: file.stem)
def test_shipped_recipes_load(file: Path) -> None:
    loaded = recipe.load(file)
    assert loaded.network in registry.names()
    assert loaded.labels in ("", *datasets.READERS[loaded.dataset].columns)
    assert recipe.load(Path(file.stem)) == loaded


@pytest.mark.parametrize("file", sorted(sweep.SHIPPED.glob("*.toml")), ids=lambda file: file.stem)
def test_shipped_sweeps_load(file: Path) -> None:
    runs = sweep.load(file)
    assert len({recipe.dump(run.recipe) for run in runs}) == len(runs) > 2
    assert all(run.recipe.network in registry.names() for run in runs)
    assert sweep.load(Path(file.stem)) == runs


def test_the_published_values() -> None:
    """Table IV of the SMART-IQA paper, where the notes do not resolve it otherwise."""
    for size in ("tiny", "small", "base"):
        loaded = recipe.load(Path(f"smart-{size}-koniq"))
        assert loaded.backbone == f"swin_{size}_patch4_window7_224.ms_in22k_ft_in1k"
        assert (loaded.backbone_lr, loaded.head_lr, loaded.weight_decay) == (5e-7, 5e-6, 1e-4)
        assert (loaded.epochs, loaded.batch_pictures, loaded.visits * loaded.crops_per_picture) == (10, 32, 25)
        assert (loaded.dropout, loaded.drop_path, loaded.loss) == (0.3, 0.2, "l1")
        assert (loaded.resize, loaded.width, loaded.height, loaded.crops) == ("exact", 512, 384, 25)
        assert (loaded.split, loaded.selection, loaded.color_jitter) == ("official", "validation", 0)


def test_a_recipe_survives_being_written(tmp_path: Path) -> None:
    made = Recipe(
        network="smart-tiny", dataset="csv", frozen=("layers_0", 'odd"name'), label_range=(0, 100), backbone_lr=1e-7
    )
    (tmp_path / "recipe.toml").write_text(recipe.dump(made))
    assert recipe.load(tmp_path / "recipe.toml") == made


def test_fields_are_changed_one_by_one() -> None:
    changed = recipe.load(
        Path("smart-tiny-koniq"), ["epochs=3", "loss = l2", 'labels="MOS"', "frozen=['layers_0']", "flip=false"]
    )
    plain = recipe.load(Path("smart-tiny-koniq"))
    assert changed == dataclasses.replace(plain, epochs=3, loss="l2", labels="MOS", frozen=("layers_0",), flip=False)


def test_options_of_a_network(tmp_path: Path) -> None:
    made = recipe.load(Path("smart-mobile-biq2021"), ["options={trunk=[64], attention=false}"])
    (tmp_path / "recipe.toml").write_text(recipe.dump(made))
    again = recipe.load(tmp_path / "recipe.toml")
    assert again == made
    network = registry.build(again.network, pretrained=False, **again.network_changes())
    assert isinstance(network, SmartIQA)
    assert (network.config.trunk, network.config.attention) == ((64,), False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch = 3", "recipe.toml: unknown field 'epoch'; did you mean 'epochs'"),
        ("epochs = 0", "recipe.toml: epochs: "),
        ("epochs = 'three'", "recipe.toml: epochs: "),
        ("validation_share = 1.0", "validation_share: "),
        ("loss = 'l3'", "loss: .*'l1'"),
        ("ema_decay = nan", "ema_decay: "),
        ("accumulate = 5", "batch_pictures must be a multiple of accumulate"),
        ("label_range = [1, 1]", "label_range must rise"),
        ("crops = 65", "crops: "),
        ("loss = 'bins'", "loss = bins needs options"),
        ("loss = 'bins'\noptions = {bins = 7}", "bins = 8"),
        ("loss = 'bins'\noptions = {bins = 9}\nranking_weight = 1.0", "no ranking_weight"),
        ("epochs = ", "not TOML"),
    ],
)
def test_bad_recipes(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(f"network = 'smart-tiny'\ndataset = 'csv'\n{text}\n")
    with pytest.raises(ValueError, match=words):
        recipe.load(file)


def test_missing_fields_and_files(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("dataset = 'csv'")
    with pytest.raises(ValueError, match="network"):
        recipe.load(tmp_path / "recipe.toml")
    with pytest.raises(ValueError, match=r"none.toml: No such file"):
        recipe.load(tmp_path / "none.toml")
    with pytest.raises(ValueError, match="name=value"):
        recipe.load(Path("smart-tiny-koniq"), ["epochs"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base = 'smart-tiny-koniq'", "'runs' is missing"),
        ("base = 'smart-tiny-koniq'\n[[runs]]\nloss = 'l2'", "'name' is missing"),
        ("base = 'smart-tiny-koniq'\n[[runs]]\nname = 'a'\nlos = 'l2'", "run 'a': unknown field 'los'"),
        ("base = 'smart-tiny-koniq'\n[[runs]]\nname = 'a'\n[[runs]]\nname = 'A'", "same name"),
        ("base = 'smart-tiny-koniq'\ngrid = 3\n[[runs]]\nname = 'a'", "unknown field 'grid'"),
        ("base = 'nothing'\n[[runs]]\nname = 'a'", "nothing"),
    ],
)
def test_bad_sweeps(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "sweep.toml").write_text(text)
    with pytest.raises(ValueError, match=words):
        sweep.load(tmp_path / "sweep.toml")


def test_a_sweep_may_name_a_recipe_beside_it(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("network = 'smart-tiny'\ndataset = 'csv'\nepochs = 7\n")
    (tmp_path / "sweep.toml").write_text("base = 'own.toml'\n[[runs]]\nname = 'L2, high rate'\nloss = 'l2'")
    (run,) = sweep.load(tmp_path / "sweep.toml", ["batch_pictures=9"])
    assert (run.name, run.folder) == ("L2, high rate", "l2-high-rate")
    assert (run.recipe.epochs, run.recipe.loss, run.recipe.batch_pictures) == (7, "l2", 9)
