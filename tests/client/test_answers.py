"""Requests as the service wants them, answers as typed values."""

import dataclasses
import io
import pickle
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel

from app.http import schemas
from smart_iqa_client import (
    Attention,
    BadAnswer,
    Client,
    Comparison,
    CropScore,
    Defect,
    Interval,
    Model,
    Picks,
    PictureProblem,
    Score,
    ScoreMap,
)
from tests.client.fakes import SCORE, Scene, good

ATTENTION = {**SCORE, "stage_weights": [0.1, 0.2, 0.3, 0.4], "stages": ["stage1", "stage2", "stage3", "stage4"]}
MODEL = {
    "name": "made-up", "digest": "sha256:0", "contract": {"crops": 4}, "network": {}, "parameters": 3,
    "stage_attention": True, "trained_on": "made-up", "licence": "none", "figures": {"test": {"srcc": 0.9}},
    "devices": ["cpu"], "precision": "fp32", "batch_shapes": [1, 2], "reproducible": True,
}  # fmt: skip


def test_an_answer_is_typed(scene: Scene) -> None:
    scene.answers = [good()]
    answer = scene.ask("score", b"bytes")
    assert type(answer) is Score
    assert (answer.score, answer.grade, answer.percentile, answer.stderr) == (71.5, "good", None, 2.0)
    assert (answer.image.width, answer.model.name, answer.raw_scale.dataset) == (512, "made-up", "made-up")
    assert (answer.warnings, answer.crop_scores, answer.map) == (("exif_rotated",), None, None)
    # Numbers are floats also where JSON has them without a fraction.
    assert isinstance(answer.timing_ms.decode, float)
    assert answer.timing_ms.decode_wait == 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        answer.score = 100.0  # type: ignore[misc]


def test_intervals_and_defects_are_typed(scene: Scene) -> None:
    interval = {"low": 60, "high": 80.5, "coverage": 0.9}
    noise = {"severity": 0.6, "probability": 0.9, "close": True}
    map_ = {"rows": 1, "columns": 2, "scores": [[1.0, 2.0]], "defects": {"noise": [[0.1, 0.9]]}}
    told = {**SCORE, "interval": interval, "defects": {"noise": noise}, "map": map_}
    scene.answers = [httpx2.Response(200, json=told), good()]
    answer = scene.ask("score", b"bytes")
    assert answer.interval == Interval(low=60.0, high=80.5, coverage=0.9)
    assert answer.defects == {"noise": Defect(severity=0.6, probability=0.9, close=True)}
    assert answer.map.defects == {"noise": ((0.1, 0.9),)}
    plain = scene.ask("score", b"bytes")
    assert (plain.interval, plain.defects) == (None, None)


def test_an_earlier_version_has_no_wait_before_decoding(scene: Scene) -> None:
    timing = {"decode": 3, "queue": 0.4, "compute": 41.0}
    scene.answers = [httpx2.Response(200, json={**SCORE, "timing_ms": timing})]
    answer = scene.ask("score", b"bytes")
    assert (answer.timing_ms.decode, answer.timing_ms.decode_wait) == (3.0, None)


def test_what_a_later_version_adds_does_no_harm_and_can_be_read(scene: Scene) -> None:
    newer = {**SCORE, "sharpness": 3, "image": {**SCORE["image"], "camera": "x"}}
    scene.answers = [httpx2.Response(200, json=newer)]
    answer = scene.ask("score", b"bytes")
    assert answer.json["sharpness"] == 3
    scene.answers = [good()]
    assert scene.ask("score", b"bytes") == answer


def test_crops_and_map(scene: Scene) -> None:
    detailed = {
        **SCORE,
        "crop_scores": [{"box": [0, 1, 2, 3], "score": 70, "stage_weights": None}, {"box": [4, 5, 6, 7], "score": 73}],
        "map": {"rows": 2, "columns": 3, "scores": [[1, 2, 3], [4, 5, 6.5]]},
    }
    scene.answers = [httpx2.Response(200, json=detailed)]
    answer = scene.ask("score", b"bytes", detail="map")
    assert scene.requests[0].url.params["detail"] == "map"
    assert answer.crop_scores == (CropScore(box=(0, 1, 2, 3), score=70.0), CropScore(box=(4, 5, 6, 7), score=73.0))
    assert answer.map == ScoreMap(rows=2, columns=3, scores=((1.0, 2.0, 3.0), (4.0, 5.0, 6.5)))


def test_attention_and_overlays(scene: Scene) -> None:
    png = httpx2.Response(200, content=b"\x89PNG", headers={"Content-Type": "image/png"})
    scene.answers = [httpx2.Response(200, json=ATTENTION), png, png]
    answer = scene.ask("attention", b"bytes")
    assert type(answer) is Attention
    assert answer.stage_weights == (0.1, 0.2, 0.3, 0.4)
    assert scene.ask("overlay", b"bytes", crops=9) == b"\x89PNG"
    assert scene.ask("overlay", b"bytes", stage=3) == b"\x89PNG"
    assert [dict(request.url.params) for request in scene.requests] == [
        {},
        {"crops": "9"},
        {"stage": "3"},
    ]
    assert [request.url.path for request in scene.requests] == ["/attention", *["/attention/overlay"] * 2]


TWO = [
    {"index": 0, "status": 200, "result": SCORE},
    {"index": 1, "status": 415, "problem": {"status": 415, "code": "unsupported_format", "title": "t", "detail": "d"}},
]
"""What became of two pictures."""


def test_a_comparison_is_typed(scene: Scene) -> None:
    pair = {"first": 0, "second": 2, "preferred": 1, "duplicate": False, "because": []}
    scene.answers = [httpx2.Response(200, json={"order": [0, 2], "pairs": [pair], "results": TWO})]
    found = scene.ask("compare", [b"one", b"two"])
    assert (type(found), found.order, found.pairs[0].preferred) == (Comparison, (0, 2), 1.0)
    assert isinstance(found.results[0], Score)
    assert isinstance(found.results[1], PictureProblem)


def test_picks_are_typed(scene: Scene) -> None:
    member: dict[str, Any] = {"index": 0, "preferred": None, "worse": [], "same_file_as": None}
    other = {"index": 2, "preferred": 0.75, "worse": [{"defect": "noise", "by": 0.5}], "same_file_as": 0}
    group = {"kind": "alike", "winner": 0, "runner_up": None, "reasons": ["least_noise"], "members": [member, other]}
    scene.answers = [httpx2.Response(200, json={"groups": [group], "results": TWO})]
    found = scene.ask("pick", [b"one", b"two"])
    assert type(found) is Picks
    assert (found.groups[0].winner, found.groups[0].reasons) == (0, ("least_noise",))
    assert found.groups[0].members[1].worse[0].by == 0.5
    assert isinstance(found.results[1], PictureProblem)
    (request,) = scene.requests
    assert (request.url.path, request.content.count(b"Content-Disposition")) == ("/pick", 2)
    scene.answers = [httpx2.Response(200, json={"groups": [{**group, "winner": "0"}], "results": TWO})]
    with pytest.raises(BadAnswer, match="winner"):
        scene.ask("pick", [b"one", b"two"])


def test_models_and_readiness(scene: Scene) -> None:
    scene.answers = [httpx2.Response(200, json={"models": [MODEL]}), httpx2.Response(200, json={"status": "ready"})]
    (model,) = scene.ask("models")
    assert isinstance(model, Model)
    assert (model.name, model.figures["test"]["srcc"], model.batch_shapes) == ("made-up", 0.9, (1, 2))
    assert scene.ask("ready") is True
    assert [(request.method, request.url.path) for request in scene.requests] == [
        ("GET", "/models"),
        ("GET", "/health/ready"),
    ]


def test_options_go_where_the_service_reads_them(scene: Scene) -> None:
    scene.answers = [good()]
    scene.ask("score", b"bytes", model="other", crops="auto", detail="crops", priority="bulk", deadline=1.5)
    (request,) = scene.requests
    assert (request.method, request.url.path) == ("POST", "/score")
    assert dict(request.url.params) == {"model": "other", "crops": "auto", "detail": "crops"}
    assert request.headers["X-Priority"] == "bulk"
    assert request.headers["X-Deadline-Ms"] == "1500"
    assert request.headers["Authorization"] == "Bearer the-key"
    assert request.headers["User-Agent"].startswith("smart-iqa-client/")
    # Longer than the service's time, to hear that it was not enough.
    assert request.extensions["timeout"] == {"connect": 6.5, "read": 6.5, "write": 6.5, "pool": 6.5}


def test_without_options_nothing_is_asked_for(scene: Scene) -> None:
    scene.answers = [good()]
    scene.ask("score", b"bytes")
    (request,) = scene.requests
    assert not request.url.query
    assert not {"x-priority", "x-deadline-ms"} & set(request.headers)


def test_pictures_come_as_paths_bytes_and_files_and_their_names_stay_here(scene: Scene, tmp_path: Path) -> None:
    file = tmp_path / "secret.jpg"
    file.write_bytes(b"a picture")
    scene.answers = lambda _: good()
    with file.open("rb") as opened:
        for source in (file, str(file), b"a picture", opened, io.BytesIO(b"a picture")):
            scene.ask("score", source)
    assert [request.content for request in scene.requests] == [b"a picture"] * 5
    assert all("secret" not in f"{request.url}{request.headers}" for request in scene.requests)
    with pytest.raises(FileNotFoundError):
        scene.ask("score", tmp_path / "nothing.jpg")
    with file.open() as text, pytest.raises(TypeError, match="binary"):
        scene.ask("score", text)
    with pytest.raises(TypeError, match="int"):
        scene.ask("score", 3)


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(200, text="<html>Welcome</html>"),
        httpx2.Response(200, json=[]),
        httpx2.Response(200, json={name: SCORE[name] for name in SCORE if name != "crops"}),
        httpx2.Response(200, json={**SCORE, "score": "71"}),
        httpx2.Response(200, json={**SCORE, "score": True}),
        httpx2.Response(200, json={**SCORE, "crop_scores": [{"box": [1, 2, 3], "score": 1}]}),
        httpx2.Response(301, headers={"Location": "https://elsewhere/score"}),
    ],
    ids=["page", "list", "field", "text", "bool", "box", "redirect"],
)
def test_what_is_no_answer_of_the_service_is_told(scene: Scene, answer: httpx2.Response) -> None:
    scene.answers = [answer]
    with pytest.raises(BadAnswer):
        scene.ask("score", b"bytes")
    assert len(scene.requests) == 1


@pytest.mark.parametrize(("method", "body"), [("overlay", SCORE), ("models", SCORE), ("models", {"models": [{}]})])
def test_other_answers_are_checked_too(scene: Scene, method: str, body: dict[str, Any]) -> None:
    scene.answers = [httpx2.Response(200, json=body)]
    with pytest.raises(BadAnswer):
        scene.ask(method, *([b"bytes"] if method == "overlay" else []))


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", ""])
def test_addresses_are_checked(url: str) -> None:
    with pytest.raises(ValueError, match="http://"):
        Client(url)


def test_an_address_may_have_a_path() -> None:
    scene = Scene("Client", [good()])
    with scene.client("http://service/quality/") as client:
        client.score(b"bytes")
    assert scene.requests[0].url == "http://service/quality/score"


def test_options_are_checked(scene: Scene) -> None:
    with pytest.raises(ValueError, match="deadline"):
        scene.ask("score", b"bytes", deadline=0)
    with pytest.raises(TypeError, match=r"crop$"):
        scene.ask("score", b"bytes", crop=3)
    with pytest.raises(ValueError, match="timeout"):
        Client("http://service", timeout=0)


def test_a_client_does_not_show_its_key() -> None:
    assert repr(Scene("Client").client()) == "Client('http://service')"


def test_answers_can_be_sent_to_other_processes(scene: Scene) -> None:
    scene.answers = [good()]
    answer = scene.ask("score", b"bytes")
    assert pickle.loads(pickle.dumps(answer)) == answer


@pytest.mark.parametrize(
    ("mine", "schema"),
    [(Score, schemas.ScoreAnswer), (Attention, schemas.AttentionAnswer), (Model, schemas.ModelFacts)],
)
def test_no_field_of_the_service_is_missing(mine: type, schema: type[BaseModel]) -> None:
    assert set(schema.model_fields) <= {field.name for field in dataclasses.fields(mine)}
