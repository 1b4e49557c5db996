"""``smart-iqa calibrate``, and scores by what it makes."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from model.calibration import Calibration
from tests.cli.conftest import WholeRun
from tests.conftest import encode, photo

COUNT = 24


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos, the darker the better for whoever labelled them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    lines = ["path,score"]
    for at in range(COUNT):
        pixels = (np.asarray(photo(160, 120, seed=at)) * (0.3 + 0.7 * at / COUNT)).astype(np.uint8)
        (tmp_path / "photos" / f"{at}.png").write_bytes(encode(Image.fromarray(pixels), "PNG"))
        lines.append(f"photos/{at}.png,{5 - 4 * at / COUNT:.2f}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_a_taste_is_fitted_and_scores_follow_it(smart_iqa: WholeRun) -> None:
    status, told, notes = smart_iqa("calibrate", "labels.csv", "-o", "dark.json")
    assert status == 0
    assert "points for what the photo is like" in " ".join(told.split())
    made = Calibration.load(Path("dark.json"))
    assert f"dark.json holds {made.id}, fitted on 24 scores" in notes
    assert made.name == "dark"
    Path("policies.toml").write_text('[dark]\ncalibration = "dark.json"\n')
    policy = ("--policy", "dark", "--policies", "policies.toml", "-f", "jsonl")
    _, plain, _ = smart_iqa("score", "photos/0.png", "photos/23.png", "-f", "jsonl")
    status, own, _ = smart_iqa("score", "photos/0.png", "photos/23.png", *policy)
    assert status == 0
    dark, light = (json.loads(line) for line in own.splitlines())
    assert dark["score"] > light["score"] + 40
    assert dark["model"]["contract"].endswith(f"+{made.id}")
    assert dark["raw_score"] == json.loads(plain.splitlines()[0])["raw_score"]
    # Bulk rows are the same.
    assert smart_iqa("score-bulk", "photos", "bulk", *policy[:4])[0] == 0
    (file,) = Path("bulk").glob("scores*.parquet")
    scores = dict(zip(*(pq.read_table(file)[name].to_pylist() for name in ("path", "score")), strict=True))
    assert {Path(path).name: score for path, score in scores.items()}["0.png"] == dark["score"]


@pytest.mark.usefixtures("folder")
def test_labels_that_say_nothing_new(smart_iqa: WholeRun) -> None:
    _, told, _ = smart_iqa("score", "photos", "-f", "jsonl")
    lines = [f"{record['path']},{record['score']}" for record in map(json.loads, told.splitlines())]
    Path("same.csv").write_text("\n".join(["path,score", *lines]))
    status, told, notes = smart_iqa("calibrate", "same.csv", "-o", "same.json", "--scale", "0", "100")
    assert status == 3
    assert "not taken: it may be chance" in " ".join(told.split())
    assert "24 scores say nothing that whole does not" in " ".join(notes.split())
    assert not Path("same.json").exists()


def test_what_cannot_be(smart_iqa: WholeRun, folder: Path, checkpoint_folder: Path) -> None:
    assert "must end in .json" in smart_iqa("calibrate", "labels.csv", "-o", "dark.csv")[2]
    assert (
        "does not describe pictures"
        in smart_iqa("calibrate", "labels.csv", "-o", "a.json", checkpoint=checkpoint_folder)[2]
    )
    (folder / "photos" / "3.png").write_bytes(b"no picture")
    status, _, notes = smart_iqa("calibrate", "labels.csv", "-o", "a.json")
    assert (status, "3.png: not a picture" in notes) == (2, True)
    (folder / "photos" / "3.png").unlink()
    assert "3.png: No such file" in smart_iqa("calibrate", "labels.csv", "-o", "a.json")[2]
    Path("few.csv").write_text("path,score\na.png,3\n")
    assert "few.csv has 1 labels; 20 to 500 are needed" in smart_iqa("calibrate", "few.csv", "-o", "a.json")[2]
