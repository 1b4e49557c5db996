import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import ImageFilter
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from model import checkpoint, golden
from model.contract import Contract
from model.networks import registry
from model.scale import Scale
from model.scorer import Scorer
from tests.conftest import encode, photo
from tests.training.conftest import RECIPE
from tests.training.layouts import write_csv
from training import datasets, evaluator, initial_weights, learner, losses, run, splits, trainer
from training.datasets import DatasetError
from training.errors import TrainingError
from training.recipe import Recipe


def train(recipe: Recipe, root: Path, out: Path, init: Path | None) -> Path:
    return trainer.train(recipe, root, out, init=init, decoders=0)


def test_the_result_is_a_checkpoint_that_can_be_served(finished: Path, root: Path) -> None:
    folder = finished / "checkpoint"
    scorer = Scorer.load(folder, device="cpu")
    assert golden.verify(scorer)
    split = splits.load(folder / run.SPLIT)
    assert (len(split.train), len(split.validation), len(split.test)) == (6, 3, 3)
    config, _ = checkpoint.inspect(folder)
    data = datasets.read("csv", root)
    card = (folder / checkpoint.CARD).read_text()
    for part, names in (("validation", split.validation), ("test", split.test)):
        measured = evaluator.evaluate(scorer, splits.select(data, names)).agreement
        assert config.figures[f"csv-{part}"] == {"pictures": 3.0, **measured.to_dict()}
        assert f"{measured.rmse:.4f}" in card
    assert config.contract.crops == 2


def test_the_run_folder_tells_everything(finished: Path) -> None:
    lines = run.read_metrics(finished)
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all({"loss", "srcc", "plcc", "rmse", "mae", "backbone_lr", "head_lr"} <= set(line) for line in lines)
    assert (finished / run.CURVES).read_bytes().startswith(b"\x89PNG")
    assert "epoch 2" in (finished / run.LOG).read_text()
    events = EventAccumulator(str(finished / run.TENSORBOARD))
    events.Reload()
    assert [event.step for event in events.Scalars("srcc")] == [2, 4]
    assert [event.value for event in events.Scalars("srcc")] == pytest.approx([line["srcc"] for line in lines])


def test_frozen_parts_keep_their_weights_and_the_rest_moves(finished: Path, init: Path) -> None:
    start = registry.build("smart-mobile", backbone="test_resnet")
    initial_weights.load_backbone(start, init)
    trained = checkpoint.load(finished / "checkpoint").network.state_dict()
    for name, before in start.trunks()["backbone"].state_dict().items():
        frozen = name.startswith(("conv1", "bn1")) or "running" in name
        if "num_batches" not in name:
            assert torch.equal(before, trained[f"backbone.features.{name}"]) == frozen, name


def test_the_recipe_of_a_run_makes_the_same_run(finished: Path, root: Path, init: Path, tmp_path: Path) -> None:
    from training import recipe as recipes

    assert recipes.load(finished / run.RECIPE) == RECIPE
    train(RECIPE, root, tmp_path / "again", init)
    digests = {checkpoint.inspect(out / "checkpoint")[1] for out in (tmp_path / "again", finished)}
    assert len(digests) == 1


def test_degraded_crops_and_blanks_add_to_the_loss(root: Path, init: Path, tmp_path: Path) -> None:
    plain = replace(RECIPE, split="folds", folds=4, fold=1, selection="last", crop_size=64, epochs=1, flip=False)
    folder = train(replace(plain, degraded=1.0, degraded_margin=1.0, blank=1.0), root, tmp_path / "run", init)
    config, _ = checkpoint.inspect(folder)
    assert config.contract.crop_size == 64
    assert config.figures["csv-test"]["pictures"] == 3
    assert "fold 1 of 4" in (folder / checkpoint.CARD).read_text()
    train(plain, root, tmp_path / "plain", init)
    (with_them,), (without,) = (run.read_metrics(tmp_path / name) for name in ("run", "plain"))
    # Three levels apart in the mean, at a margin of the whole range each, is far more than any difference of scores.
    assert with_them["loss"] > without["loss"] + 1


def test_a_folder_holds_one_run(finished: Path, root: Path, init: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of another recipe"):
        train(replace(RECIPE, seed=1), root, finished, init)
    other = tmp_path / "other.safetensors"
    save_file({name: value + 1 for name, value in load_file(init).items()}, other)
    with pytest.raises(ValueError, match="from other first weights"):
        train(RECIPE, root, finished, other)


def test_a_run_does_not_go_on_with_other_pictures(root: Path, init: Path, tmp_path: Path, finished: Path) -> None:
    shorter = root.with_name("shorter.csv")
    shorter.write_text("\n".join(root.read_text().splitlines()[:-1]))
    shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(ValueError, match="on other pictures"):
        train(RECIPE, shorter, tmp_path / "run", init)


def test_a_given_split_is_taken(root: Path, init: Path, tmp_path: Path) -> None:
    names = [f"{index:02}.jpg" for index in range(12)]
    split = splits.Split(dataset="labels", train=tuple(names[:8]), validation=tuple(names[8:]))
    (tmp_path / "split.json").write_text(splits.dump(split))
    out = tmp_path / "run"
    trainer.train(replace(RECIPE, epochs=1), root, out, init=init, split=tmp_path / "split.json", decoders=0)
    assert splits.load(out / "checkpoint" / run.SPLIT) == split


def test_fifty_steps_lower_the_loss(tmp_path: Path) -> None:
    """The smoke training: pictures whose blur is their label, learned from random weights."""
    rows: list[tuple[str, object]] = []
    for index in range(40):
        image = photo(80, 80, seed=index).filter(ImageFilter.GaussianBlur(index % 5))
        (tmp_path / f"{index}.jpg").write_bytes(encode(image))
        rows.append((f"{index}.jpg", 1 - (index % 5) / 4))
    write_csv(tmp_path / "labels.csv", ("path", "mos"), rows)
    torch.manual_seed(0)
    save_file(
        registry.build("smart-mobile", backbone="test_resnet").trunks()["backbone"].state_dict(),
        tmp_path / "random.safetensors",
    )
    recipe = Recipe(
        network="smart-mobile", backbone="test_resnet", dataset="csv", epochs=3, visits=8, batch_pictures=16,
        backbone_lr=2e-3, head_lr=2e-3, validation_share=0.2, crops=1, crop_size=64, validation_crops=1, ema_decay=0.9,
        dropout=0.0,
    )  # fmt: skip
    train(recipe, tmp_path / "labels.csv", tmp_path / "run", tmp_path / "random.safetensors")
    lines = run.read_metrics(tmp_path / "run")
    assert len(lines) * 32 * 8 / 16 == 48
    loss = [line["loss"] for line in lines]
    assert loss[-1] < 0.5 * loss[0], loss
    assert max(line["srcc"] for line in lines) > 0.8


@pytest.fixture(scope="module")
def compared(root: Path, init: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an epoch with a loss that only compares."""
    out = tmp_path_factory.mktemp("compared") / "run"
    train(replace(RECIPE, loss="srcc", epochs=1), root, out, init)
    return out


def test_a_loss_that_only_compares_gets_its_scale_afterwards(compared: Path, root: Path) -> None:
    folder = compared / "checkpoint"
    config, _ = checkpoint.inspect(folder)
    assert config.contract.slope != 1
    data = datasets.read("csv", root)
    split = splits.load(folder / run.SPLIT)
    measured = evaluator.evaluate(Scorer.load(folder), splits.select(data, split.validation)).agreement
    labels = [sample.mos for sample in splits.select(data, split.validation)]
    # A least-squares line is never further from the labels than their mean.
    assert measured.rmse <= np.std(labels) + 1e-6
    assert "a line to the labels was fitted" in (folder / checkpoint.CARD).read_text()


def test_fine_tuning_goes_on_from_a_checkpoint(finished: Path, root: Path, tmp_path: Path) -> None:
    """On labels that are ten times as high, the network starts with the answers that it had, ten times as high."""
    rows = [line.split(",") for line in root.read_text().splitlines()[1:]]
    tenfold = root.with_name("tenfold.csv")
    write_csv(tenfold, ("path", "mos"), [(name, 10 * float(mos)) for name, mos in rows])
    recipe = replace(RECIPE, epochs=1, backbone_lr=0.0, head_lr=0.0, dropout=0.1)
    train(recipe, tenfold, tmp_path / "tuned", finished / "checkpoint")
    before, after = Scorer.load(finished / "checkpoint"), Scorer.load(tmp_path / "tuned" / "checkpoint")
    picture = root.with_name("03.jpg")
    assert after.score(picture).raw_score == pytest.approx(10 * before.score(picture).raw_score, rel=1e-4)
    assert after.score(picture).score == pytest.approx(before.score(picture).score, rel=1e-4)


def test_the_line_from_outputs_to_labels() -> None:
    scale = Scale(dataset="made-up", min=1, max=5)
    plain = initial_weights.contract(RECIPE, scale, None)
    assert (plain.slope, plain.intercept) == (1, 0)
    ranged = initial_weights.contract(replace(RECIPE, label_range=(0.0, 100.0)), scale, None)
    assert ranged.raw(np.array([0.0, 50.0, 100.0])).tolist() == pytest.approx([1, 3, 5])


def test_a_distribution_over_bins_learns_the_range_of_labels(root: Path, init: Path, tmp_path: Path) -> None:
    own = replace(RECIPE, epochs=1, loss="bins", options={"bins": 8}, degraded=0.5, blank=0.5)
    scale = Scale(dataset="made-up", min=1, max=5)
    assert initial_weights.contract(own, scale, None).raw(np.array([0.0, 1.0])).tolist() == [1, 5]
    with pytest.raises(ValueError, match="label_range cannot change"):
        initial_weights.contract(replace(own, label_range=(0.0, 100.0)), scale, None)
    made = checkpoint.load(train(own, root, tmp_path / "bins", init))
    assert made.network.config.bins == 8
    # Whoever trains on from it needs as many bins.
    with pytest.raises(ValueError, match="its bins is 8, the recipe's is 1"):
        train(replace(RECIPE, epochs=1), root, tmp_path / "other", tmp_path / "bins" / "checkpoint")


def test_the_last_epoch_may_be_kept_without_validation(root: Path, init: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1, selection="last", validation_share=0.0, test_share=0.0)
    train(recipe, root, tmp_path, init)
    assert checkpoint.inspect(tmp_path / "checkpoint")[0].figures == {}
    with pytest.raises(DatasetError, match="selection = 'validation' needs pictures"):
        train(replace(recipe, selection="validation"), root, tmp_path / "other", init)


def test_best_on_test_only_by_its_name(root: Path, init: Path, tmp_path: Path) -> None:
    train(replace(RECIPE, epochs=1, selection="best_on_test", validation_share=0.0), root, tmp_path, init)
    assert "TEST" in (tmp_path / "checkpoint" / checkpoint.CARD).read_text()
    assert "csv-test" in checkpoint.inspect(tmp_path / "checkpoint")[0].figures


def test_early_stopping_and_not_going_on_after_it(root: Path, init: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=9, patience=2, backbone_lr=0.0, head_lr=0.0, ema_decay=0.0)
    train(recipe, root, tmp_path, init)
    assert len(run.read_metrics(tmp_path)) == 3
    train(recipe, root, tmp_path, init)
    assert len(run.read_metrics(tmp_path)) == 3


def test_accumulated_batches_make_the_step_of_the_whole_one(root: Path, init: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, network="smart-mobile-no-attention", dropout=0.0, batch_pictures=6, epochs=2)
    train(recipe, root, tmp_path / "whole", init)
    train(replace(recipe, accumulate=3), root, tmp_path / "parts", init)
    whole, parts = (run.read_metrics(tmp_path / name) for name in ("whole", "parts"))
    assert [line["loss"] for line in parts] == pytest.approx([line["loss"] for line in whole], rel=1e-4)


def test_bf16_trains_too(root: Path, init: Path, tmp_path: Path) -> None:
    train(replace(RECIPE, epochs=1, precision="bf16"), root, tmp_path / "bf16", init)
    weights = checkpoint.load(tmp_path / "bf16" / "checkpoint").network.state_dict()
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert {value.dtype for value in weights.values() if value.is_floating_point()} == {torch.float32}


def not_a_number(x: Tensor, _: Tensor) -> Tensor:
    return (x * float("nan")).mean()


def without_a_gradient(x: Tensor, _: Tensor) -> Tensor:
    """0, whose gradient is 0 times infinity."""
    return (x - x.detach()).abs().sqrt().mean()


@pytest.mark.parametrize("loss", [not_a_number, without_a_gradient])
def test_a_loss_or_a_gradient_that_is_not_a_number_ends_the_run(
    loss: losses.Loss, finished: Path, root: Path, init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    text = (tmp_path / "run" / run.RECIPE).read_text()
    (tmp_path / "run" / run.RECIPE).write_text(text.replace("epochs = 2\n", "epochs = 3\n"))
    before = {file.name: file.read_bytes() for file in (tmp_path / "run" / "best").iterdir()}
    state = (tmp_path / "run" / run.STATE).read_bytes()
    monkeypatch.setattr(losses, "make", lambda *_, **__: loss)
    with pytest.raises(TrainingError, match=r"loss is not a number, epoch 3, step 2; .* saved before is untouched"):
        train(replace(RECIPE, epochs=3), root, tmp_path / "run", init)
    assert (tmp_path / "run" / run.STATE).read_bytes() == state
    assert {file.name: file.read_bytes() for file in (tmp_path / "run" / "best").iterdir()} == before


def test_initial_weights_that_do_not_fit(finished: Path, tmp_path: Path) -> None:
    network = registry.build("smart-mobile")
    save_file({"conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "short.safetensors")
    with pytest.raises(ValueError, match="lacks"):
        initial_weights.load_backbone(network, tmp_path / "short.safetensors")
    weights = {name: torch.zeros(3) for name in network.trunks()["backbone"].state_dict()}
    save_file(weights, tmp_path / "shapes.safetensors")
    with pytest.raises(ValueError, match="another shape"):
        initial_weights.load_backbone(network, tmp_path / "shapes.safetensors")
    (tmp_path / "text.safetensors").write_text("none")
    with pytest.raises(ValueError, match=r"not a safetensors file"):
        initial_weights.load_backbone(network, tmp_path / "text.safetensors")
    with pytest.raises(ValueError, match=r"another architecture: its backbone is 'test_resnet', .* 'mobilenetv2_100'"):
        initial_weights.load_checkpoint(network, finished / "checkpoint")


def test_backbones_of_swin_load_by_the_names_of_the_whole_network(tmp_path: Path) -> None:
    whole = timm.create_model("swin_tiny_patch4_window7_224", num_classes=0)
    save_file(whole.state_dict(), tmp_path / "swin.safetensors")
    network = registry.build("smart-tiny")
    initial_weights.load_backbone(network, tmp_path / "swin.safetensors")
    loaded = network.trunks()["backbone"].state_dict()["layers_2.blocks.5.attn.qkv.weight"]
    assert torch.equal(loaded, whole.state_dict()["layers.2.blocks.5.attn.qkv.weight"])


def test_the_average_does_not_keep_the_first_weights_of_a_short_run() -> None:
    network = registry.build("smart-mobile", backbone="test_resnet")
    made = learner.Learner(network, replace(RECIPE, ema_decay=0.998), steps=30)
    weight, kept = (one.get_parameter("hyper.last_weight.weight") for one in (network, made.averaged))
    for step in range(30):
        with torch.no_grad():
            weight.fill_(float(step >= 5))
        made.step()
    assert kept.mean().item() > 0.9


def test_a_corrected_recipe_may_start_in_the_folder_of_one_that_never_began(
    root: Path, init: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="frozen: no parameter belongs to a part 'layer9'"):
        train(replace(RECIPE, frozen=("layer9",)), root, tmp_path, init)
    train(replace(RECIPE, epochs=1, selection="last", validation_share=0.0, test_share=0.0), root, tmp_path, init)


def test_the_same_command_again_leaves_a_finished_run_as_it_is(
    compared: Path, root: Path, init: Path, tmp_path: Path
) -> None:
    shutil.copytree(compared, tmp_path / "run")
    (tmp_path / "run" / run.METRICS).unlink()
    train(replace(RECIPE, loss="srcc", epochs=1), root, tmp_path / "run", init)
    for folder in ("best", "checkpoint"):
        assert checkpoint.inspect(tmp_path / "run" / folder)[1] == checkpoint.inspect(compared / folder)[1]
    assert run.read_metrics(tmp_path / "run") == run.read_metrics(compared)


def test_a_missing_picture_ends_a_resumed_run_with_its_name(
    finished: Path, root: Path, init: Path, tmp_path: Path
) -> None:
    shutil.copytree(root.parent, tmp_path / "data")
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "data" / "07.jpg").unlink()
    with pytest.raises(DatasetError, match=r"07\.jpg: no such picture"):
        train(RECIPE, tmp_path / "data" / "labels.csv", tmp_path / "run", init)


def test_pictures_are_checked_before_training(root: Path, init: Path, tmp_path: Path) -> None:
    shutil.copytree(root.parent, tmp_path / "data")
    file = tmp_path / "data" / "07.jpg"
    file.write_bytes(file.read_bytes()[:1500])
    with pytest.raises(DatasetError, match=r"07\.jpg: .*truncated"):
        train(RECIPE, tmp_path / "data" / "labels.csv", tmp_path / "run", init)


def test_learning_rates() -> None:
    cosine = learner.rates(replace(RECIPE, epochs=3, warmup_epochs=1.0), steps=4)
    assert [cosine(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert cosine(4) == 1
    assert cosine(8) == pytest.approx(0.5)
    assert cosine(12) == pytest.approx(0)
    stairs = learner.rates(
        replace(RECIPE, epochs=6, warmup_epochs=0.0, schedule="step", step_epochs=2, step_factor=0.5), steps=4
    )
    assert [stairs(4 * epoch) for epoch in range(6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_the_two_tiers_of_learning_rates() -> None:
    network = registry.build("smart-mobile", backbone="test_resnet")
    made = learner.Learner(network, replace(RECIPE, backbone_lr=1e-5, head_lr=1e-3, warmup_epochs=0.0), steps=4)
    assert made.learning_rates() == {"backbone_lr": 1e-5, "head_lr": 1e-3}
    with pytest.raises(ValueError, match="frozen: no parameter belongs to a part 'layer9'"):
        learner.Learner(network, replace(RECIPE, frozen=("layer9",)), steps=4)


def test_a_contract_without_a_slope_is_that_of_older_checkpoints() -> None:
    description = Contract(scale=Scale(dataset="made-up", min=0, max=1)).to_dict()
    older = {name: value for name, value in description.items() if name not in ("slope", "intercept")}
    assert Contract.from_dict(json.loads(json.dumps(older))) == Contract.from_dict(description)
