import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from model import checkpoint
from model.images import from_image
from model.maps.activations import stage_activations
from model.scale import Scale
from model.scorer import Scorer
from tests.training.layouts import write_csv
from training import datasets, evaluator, run, splits
from training.datasets import DatasetError
from training.figures import report


@pytest.fixture(scope="module")
def scorer(finished: Path) -> Scorer:
    return Scorer.load(finished / "checkpoint", device="cpu", precision="fp32")


def test_the_evaluator_takes_the_serving_path(scorer: Scorer, root: Path) -> None:
    data = datasets.read("csv", root)
    evaluation = evaluator.evaluate(scorer, data.samples)
    for sample, score, prediction in zip(data.samples, evaluation.scores, evaluation.predictions, strict=True):
        assert score == scorer.score(sample.path)
        assert prediction == score.raw_score


def test_as_many_crops_as_it_takes(scorer: Scorer, root: Path) -> None:
    data = datasets.read("csv", root)
    evaluation = evaluator.evaluate(scorer, data.samples, crops="auto")
    assert list(evaluation.scores) == [scorer.score(sample.path, "auto") for sample in data.samples]


def test_what_a_checkpoint_is_judged_on(scorer: Scorer, root: Path, finished: Path, tmp_path: Path) -> None:
    data = datasets.read("csv", root)
    split = splits.load(finished / run.SPLIT)
    for which, expected in (("auto", split.test), ("validation", split.validation), ("train", split.train)):
        part, samples = evaluator.choose(scorer.checkpoint, data, which, None)  # type: ignore[arg-type]
        assert part == ("test" if which == "auto" else which)
        assert tuple(sample.name for sample in samples) == expected
    assert evaluator.choose(scorer.checkpoint, data, "all", None) == ("all", list(data.samples))
    # A set that it was not trained on has no split unless it brings one.
    other = root.with_name("other.csv")
    other.write_text(root.read_text())
    assert evaluator.choose(scorer.checkpoint, datasets.read("csv", other), "auto", None)[0] == "all"
    with pytest.raises(DatasetError, match="no test pictures"):
        evaluator.choose(scorer.checkpoint, datasets.read("csv", other), "test", None)
    rows = [(f"{index:02}.jpg", index, "train" if index < 8 else "test") for index in range(12)]
    write_csv(other, ("path", "mos", "split"), rows)
    part, samples = evaluator.choose(scorer.checkpoint, datasets.read("csv", other), "auto", None)
    assert (part, len(samples)) == ("test", 4)
    (tmp_path / "split.json").write_text(splits.dump(splits.Split(dataset="x", train=("00.jpg",), test=("03.jpg",))))
    part, samples = evaluator.choose(scorer.checkpoint, data, "test", tmp_path / "split.json")
    assert [sample.name for sample in samples] == ["03.jpg"]


def test_a_checkpoint_that_was_trained_on_everything(
    scorer: Scorer, root: Path, finished: Path, tmp_path: Path
) -> None:
    data = datasets.read("csv", root)
    folder = tmp_path / "checkpoint"
    shutil.copytree(finished / "checkpoint", folder)
    everything = dataclasses.replace(scorer.checkpoint, folder=folder)
    names = tuple(sample.name for sample in data.samples)
    for known in (names[:-2], names):
        split = splits.load(finished / run.SPLIT)
        (folder / run.SPLIT).write_text(splits.dump(splits.Split(dataset=split.dataset, train=known)))
        if known == names:
            with pytest.raises(DatasetError, match="trained on all of these pictures"):
                evaluator.choose(everything, data, "auto", None)
        else:
            assert evaluator.choose(everything, data, "auto", None) == ("unseen", list(data.samples[-2:]))


def test_raw_scores_are_mapped_between_known_scales_alone() -> None:
    unit, five = Scale(dataset="biq2021", min=0, max=1), Scale(dataset="koniq10k", min=1, max=5)
    assert evaluator._to_scale(0.25, unit, five) == 2
    assert evaluator._to_scale(0.25, unit, unit) == 0.25
    own, other = Scale(dataset="mine", min=1, max=5), Scale(dataset="mine too", min=1.2, max=4.8)
    assert evaluator._to_scale(3.3, own, other) == 3.3


def test_too_few_pictures_to_measure(scorer: Scorer, root: Path) -> None:
    with pytest.raises(DatasetError, match="too few"):
        evaluator.evaluate(scorer, datasets.read("csv", root).samples[:1])


@pytest.fixture(scope="module")
def evaluated(scorer: Scorer, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation")
    data = datasets.read("csv", root)
    evaluation = evaluator.evaluate(scorer, data.samples)
    evaluator.write(out, evaluation, scorer.checkpoint, dataset=data, root=root, part="all", crops=None)
    return out


def test_a_line_for_each_picture(evaluated: Path, scorer: Scorer, root: Path) -> None:
    lines = pd.read_csv(evaluated / evaluator.PREDICTIONS)
    assert list(lines["name"]) == [f"{index:02}.jpg" for index in range(12)]
    score = scorer.score(root.with_name("04.jpg"))
    assert lines["prediction"][4] == pytest.approx(score.raw_score, abs=1e-6)
    assert lines["error"][4] == pytest.approx(score.raw_score - (1 - 4 / 12), abs=1e-6)
    assert lines[["stage1", "stage2", "stage3", "stage4"]].sum(axis=1).to_numpy() == pytest.approx(
        np.ones(12), abs=1e-5
    )


def test_the_report_of_an_evaluation(evaluated: Path) -> None:
    page = report.make(evaluated).read_text()
    for name in ("scatter", "stages", "activations"):
        file = evaluated / "figures" / f"{name}.png"
        assert f"figures/{name}.png" in page
        colours = Image.open(file).convert("RGB").getcolors(1 << 24)
        assert colours is not None
        assert len(colours) > 50
        assert file.with_suffix(".svg").read_text().lstrip().startswith("<?xml")
    assert page.count("data:image/jpeg;base64") == 12
    assert "95 % interval" in page
    assert "http" not in page


def test_the_report_of_a_run(finished: Path) -> None:
    page = report.make(finished).read_text()
    assert "figures/curves.png" in page
    assert "network = &#34;smart-mobile&#34;" in page


def test_a_folder_that_holds_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no run .* evaluation .* or sweep"):
        report.make(tmp_path)


def test_activation_maps_cover_the_picture(checkpoint_folder: Path) -> None:
    loaded = checkpoint.load(checkpoint_folder)
    # One bright textured corner in an even picture.
    pixels = np.full((300, 420, 3), 90, np.uint8)
    pixels[:80, :80] = np.random.default_rng(0).integers(0, 256, (80, 80, 3))
    resized, maps = stage_activations(loaded, from_image(Image.fromarray(pixels)))
    assert resized.size == (420, 300)
    assert len(maps) == 4
    for activation_HW in maps:
        assert activation_HW.shape == (300, 420)
        assert (activation_HW.min(), activation_HW.max()) == (0, 1)
    assert maps[0][:60, :60].mean() > 2 * maps[0][150:, 200:].mean()


def test_activation_maps_have_no_holes_in_a_large_picture(checkpoint_folder: Path) -> None:
    loaded = checkpoint.load(checkpoint_folder)
    contract = dataclasses.replace(loaded.contract, resize="none")
    loaded = dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, contract=contract))
    _, maps = stage_activations(loaded, from_image(Image.linear_gradient("L").resize((1100, 700))))
    assert all(np.isfinite(activation_HW).all() for activation_HW in maps)


def test_activation_maps_are_the_mean_magnitude_over_channels(checkpoint_folder: Path) -> None:
    """Eq. 18 on a picture of just one crop."""
    import torch

    from model.inference.engine import mean_std, normalise

    loaded = checkpoint.load(checkpoint_folder)
    pixels = np.random.default_rng(1).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    _, maps = stage_activations(loaded, from_image(Image.fromarray(pixels)))
    crops = normalise(torch.from_numpy(pixels)[None], mean_std(loaded.contract, "cpu"))
    with torch.inference_mode():
        stages = loaded.network.stages(crops)
    assert stages is not None
    features = stages[0]
    expected = features.abs().mean(dim=1, keepdim=True)
    expected = torch.nn.functional.interpolate(expected, size=(224, 224), mode="bilinear")[0, 0]
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    assert maps[0] == pytest.approx(expected.numpy(), abs=1e-5)
