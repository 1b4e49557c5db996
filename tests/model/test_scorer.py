import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model import golden, images
from model.contract import Contract
from model.crop_rounds import CropRounds
from model.images import ImageWarning
from model.picture_source import PictureSource
from model.score import ModelId, QualityScore, aggregate
from model.scorer import Scorer
from tests.conftest import encode, photo


@pytest.fixture(scope="module")
def data() -> bytes:
    return encode(photo(400, 300))


def test_every_form_of_a_picture_gets_the_same_score(scorer: Scorer, data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(data)
    expected = scorer.score(data).score
    image = Image.open(file)
    tensor = torch.from_numpy(np.array(image))
    forms: list[PictureSource] = [file, str(file), data, image, np.asarray(image), tensor, tensor.permute(2, 0, 1)]
    for source in forms:
        assert scorer.score(source).score == expected
    for many in (forms, iter(forms)):
        results = list(scorer.score_many(many))
        assert [source for source, _ in results] == forms
        assert [result.score for _, result in results if isinstance(result, QualityScore)] == [expected] * len(forms)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(64, 64, 3),
        torch.zeros(64, 64, dtype=torch.uint8),
        torch.zeros(1, 64, 64, dtype=torch.uint8),
        torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
    ],
)
def test_tensors_that_are_no_picture(scorer: Scorer, tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"a tensor must be uint8 \(H, W, 3\) or \(3, H, W\), not (float32|uint8) \("):
        scorer.score(tensor)


def test_aggregate_by_hand(contract: Contract) -> None:
    rows = np.array([[2, 0.1, 0.2, 0.3, 0.4], [3, 0.3, 0.2, 0.1, 0.4]], np.float32)
    picture = images.from_image(photo(512, 512))
    views = contract.views(picture, crops=2)
    rounds = CropRounds(views, contract, 2)
    rounds.add(rows)
    result = aggregate(rounds, picture.facts, contract, ModelId(name="m", digest="d"))
    assert (result.raw_score, result.score) == (2.5, 37.5)
    assert result.std == pytest.approx(25 / 2**0.5, abs=1e-4)
    assert result.stderr == pytest.approx(12.5, abs=1e-4)
    assert result.stage_weights == pytest.approx((0.2, 0.2, 0.2, 0.4))
    assert [crop.score for crop in result.crops] == [25, 50]
    rounds = CropRounds(contract.views(picture, crops=1), contract, 1)
    rounds.add(rows[:1, :1])
    single = aggregate(rounds, picture.facts, contract, ModelId(name="m", digest="d"))
    assert single.std is None
    assert single.stderr is None
    assert single.stage_weights is None


def test_json_form(scorer: Scorer, data: bytes) -> None:
    body = json.loads(json.dumps(scorer.score(data).to_dict()))
    assert body["image"] == {"width": 400, "height": 300, "format": "JPEG", "sha256": images.decode(data).facts.sha256}
    assert body["raw_scale"] == {"dataset": "made-up", "min": 1.0, "max": 5.0, "higher_is_better": True}
    assert body["crops"] == 4
    assert body["model"]["contract"] == scorer.checkpoint.contract.id
    assert body["score"] == scorer.score(data).score


def test_warnings_of_decode_and_views_meet(scorer: Scorer) -> None:
    result = scorer.score(encode(photo(100, 80).convert("L"), "PNG"))
    assert result.warnings == (ImageWarning.GRAYSCALE, ImageWarning.UPSCALED_LOW_RESOLUTION)


def test_many_in_order_with_errors_in_place(scorer: Scorer, data: bytes, tmp_path: Path) -> None:
    sources: list[bytes | Path] = [data, b"no picture", tmp_path / "missing.jpg", encode(photo(seed=1))] * 3
    results = list(scorer.score_many(sources))
    assert [source for source, _ in results] == sources
    kinds = [type(result) for _, result in results[:4]]
    assert kinds == [QualityScore, images.UnsupportedFormat, FileNotFoundError, QualityScore]
    assert results[0][1] == scorer.score(data)


def test_arrays_that_are_no_pictures(scorer: Scorer) -> None:
    for array in (np.zeros((40, 40, 4), np.uint8), np.zeros((40, 40, 3), np.float32), np.zeros(40, np.uint8)):
        with pytest.raises(ValueError, match="array must be"):
            scorer.score(array)  # type: ignore[arg-type]
    assert ImageWarning.GRAYSCALE in scorer.score(np.full((64, 64), 90, np.uint8)).warnings


def test_golden_scores_hold(scorer: Scorer) -> None:
    results = golden.verify(scorer)
    assert len(results) == 3
    assert all(result.actual == result.expected for result in results)


@pytest.mark.parametrize("damage", ["score", "nan", "missing", "picture", "empty", "lenient"])
def test_golden_mismatch(checkpoint_folder: Path, tmp_path: Path, damage: str) -> None:
    folder = Path(shutil.copytree(checkpoint_folder, tmp_path / "copy"))
    file = folder / golden.FILE
    content = json.loads(file.read_text())
    if damage in ("score", "nan"):
        content["pictures"][0]["score"] += 0.02 if damage == "score" else float("nan")
    elif damage == "lenient":
        content["tolerance"]["fp32"] = 1e9
        content["pictures"][0]["score"] += 1
    elif damage == "empty":
        content["pictures"] = []
    elif damage == "picture":
        shutil.copyfile(folder / golden.PICTURES / "noise.jpg", folder / golden.PICTURES / "waves.png")
    file.write_text(json.dumps(content))
    if damage == "missing":
        file.unlink()
    with pytest.raises(golden.GoldenMismatch):
        golden.verify(Scorer.load(folder, device="cpu", precision="fp32"))
