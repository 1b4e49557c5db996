"""Corrections of scores: what they do, and which files are refused."""

import json
from array import array
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.calibration import Calibration, CalibrationError
from model.images import ImageWarning
from model.policies import Policies, PolicyError
from model.score import ModelId
from tests.model.scores import CONTRACT, scored

MODEL = ModelId(name="made-up", digest="sha256:0")
OWN = Calibration(
    name="taste",
    model=MODEL.digest,
    knots=((0.0, 10.0), (50.0, 40.0), (100.0, 90.0)),
    weights=(10.0, -5.0),
    centre=(0.0, 1.0),
)


def test_a_line_and_points_for_the_description() -> None:
    found = OWN.corrected(np.array([0.0, 25.0, 75.0, 100.0]), np.array([[0, 1], [1, 1], [0, 2], [9, 1]], float))
    assert found.tolist() == [10.0, 35.0, 60.0, 100.0]


def test_a_score_is_corrected_with_its_interval() -> None:
    score = replace(scored(50.0, low=40.0, high=70.0), model=MODEL, description=array("f", [1.0, 1.0]))
    own = OWN.apply(score)
    assert (own.score, own.raw_score) == (50.0, score.raw_score)
    assert own.calibration == OWN.id
    assert own.to_dict()["model"]["contract"] == f"{CONTRACT.id}+{OWN.id}"
    assert own.to_dict()["percentile"] is None
    darker = OWN.apply(replace(score, description=array("f", [0.0, 1.0])))
    assert darker.score == 40.0
    assert darker.interval is not None
    assert (darker.interval.low, darker.interval.high) == (30.0, 60.0)
    measured = replace(OWN, width=12.5).apply(replace(score, description=array("f", [-3.0, 1.0])))
    assert measured.interval is not None
    assert (measured.score, measured.interval.low, measured.interval.high) == (10.0, 0.0, 22.5)
    # Of a picture unlike those of the training, labels tell no more than the model.
    strange = replace(score, warnings=(ImageWarning.OUT_OF_DOMAIN,), description=array("f", [0.0, 1.0]))
    wide = replace(OWN, width=12.5).apply(strange)
    assert wide.interval is not None
    assert (wide.score, wide.interval.low, wide.interval.high) == (40.0, 27.5, 60.0)
    assert replace(score, interval=None).interval is OWN.apply(replace(score, interval=None)).interval


def test_scores_of_another_checkpoint_are_not_corrected() -> None:
    with pytest.raises(ValueError, match="fitted for another checkpoint than other"):
        OWN.apply(replace(scored(), model=ModelId(name="other", digest="sha256:1"), description=array("f", [0.0, 0.0])))


def test_what_decides_is_in_the_id() -> None:
    others = [replace(OWN, model="b"), replace(OWN, weights=(10.0, -5.1)), replace(OWN, width=3.0)]
    assert len({OWN.id, *(other.id for other in others)}) == 4
    assert replace(OWN, name="other", about={"count": 3}).id == OWN.id


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "taste.json"
    file.write_text(OWN.to_json())
    again = Calibration.load(file)
    assert again == OWN
    assert again.id == OWN.id


@pytest.mark.parametrize(
    "change",
    [
        {"smart-iqa calibration": 2},
        {"knots": [[0, 0]]},
        {"knots": [[0, 50], [100, 10]]},
        {"knots": [[100, 0], [0, 10]]},
        {"knots": [[0, 0], ["a", 1]]},
        {"knots": 3},
        {"weights": [1.0]},
        {"weights": [1.0, float("nan")]},
        {"weights": ["1", "2"]},
        {"width": -1},
        {"width": 10**400},
        {"more": 1},
        {"name": None, "model": None, "knots": None},
    ],
)
def test_files_that_are_no_calibrations(tmp_path: Path, change: dict[str, object]) -> None:
    file = tmp_path / "taste.json"
    file.write_text(json.dumps({**json.loads(OWN.to_json()), **change}))
    with pytest.raises(CalibrationError, match=r"taste\.json is no calibration"):
        Calibration.load(file)


@pytest.mark.parametrize("text", ["", "[]", "{}", "path,score\n", "[" * 9000, "x" * (2**20 + 1)])
def test_other_files_are_no_calibrations(tmp_path: Path, text: str) -> None:
    file = tmp_path / "taste.json"
    file.write_text(text)
    with pytest.raises(CalibrationError, match=r"taste\.json is no calibration"):
        Calibration.load(file)


def test_policies_bring_calibrations(tmp_path: Path) -> None:
    (tmp_path / "taste.json").write_text(OWN.to_json())
    file = tmp_path / "policies.toml"
    file.write_text(
        '[own]\ncalibration = "taste.json"\n[[own.rules]]\ncode = "low"\nrule = "reject when score < 45"\n'
        '[only]\ncalibration = "taste.json"\n'
    )
    policies = Policies.load(file)
    score = replace(scored(50.0), model=MODEL, description=array("f", [0.0, 1.0]))
    own = policies["own"]
    assert own.decide(own.corrected(score)).outcome == "reject"
    assert replace(own, calibration=None).decide(score).outcome == "accept"
    assert own.version != replace(own, calibration=None).version
    assert own.describe()["calibration"] == OWN.id
    assert policies["only"].decide(policies["only"].corrected(score)).outcome == "accept"
    with pytest.raises(ValueError, match="decides about the scores that its corrected"):
        own.decide(score)
    with pytest.raises(ValueError, match="has been corrected by"):
        own.corrected(own.corrected(score))
    assert own.lacking(CONTRACT, MODEL.digest) is None
    assert "its calibration taste was fitted on" in (own.lacking(CONTRACT, "sha256:1") or "")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"line 2, own\.calibration: taste\.json: No such file"),
        ("{}", r"line 2, own\.calibration: taste\.json is no calibration: make it with smart-iqa calibrate"),
    ],
)
def test_policies_whose_calibration_cannot_be_used(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "taste.json").write_text(content)
    file = tmp_path / "policies.toml"
    file.write_text('[own]\ncalibration = "taste.json"\n')
    with pytest.raises(PolicyError, match=words):
        Policies.load(file)


def test_rules_about_percentiles_do_not_go_with_a_calibration(tmp_path: Path) -> None:
    (tmp_path / "taste.json").write_text(OWN.to_json())
    file = tmp_path / "policies.toml"
    file.write_text(
        '[own]\ncalibration = "taste.json"\n[[own.rules]]\ncode = "low"\nrule = "reject when percentile < 45"\n'
    )
    assert Policies.load(file)["own"].lacking(CONTRACT, MODEL.digest) == "percentile"
