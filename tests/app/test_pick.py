"""``/pick``: groups of pictures, and the best of each."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.http.schemas import PickAnswer
from app.main import create_app
from app.settings import Settings
from model.picking import picking
from model.picking.photo import Photo
from model.scorer import Scorer
from tests.app.conftest import wait_ready
from tests.app.test_batch import post_all
from tests.app.test_cache import without_timing
from tests.conftest import EXAMPLES, encode
from tests.model.test_picking import SCENES, shifted

FILES = [encode(Image.fromarray(shifted(SCENES[name], 3 * at, 2))) for name in ("cat", "coffee") for at in range(3)]
FACE = next(file for file in EXAMPLES if file.stem == "astronaut").read_bytes()


@pytest.fixture(scope="module")
def service(whole_folder: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(checkpoints=(whole_folder,), device="cpu", precision="fp32"))) as client:
        wait_ready(client)
        yield client


def test_the_answer_is_the_offline_one(service: TestClient, whole_folder: Path) -> None:
    answer = post_all(service, *FILES, path="/pick").json()
    assert PickAnswer.model_validate(answer)
    scorer = Scorer.load(whole_folder, device="cpu", precision="fp32")
    photos = [one for _, one in scorer.photos(FILES) if isinstance(one, Photo)]
    expected = [json.loads(json.dumps(group.to_dict())) for group in picking.pick(photos)]
    assert answer["groups"] == expected
    assert [group["kind"] for group in expected] == ["alike", "alike"]
    scores = [json.loads(json.dumps(scorer.score(data).to_dict())) for data in FILES]
    assert [without_timing(item["result"]) for item in answer["results"]] == scores
    # What is in memory gives the same groups.
    assert post_all(service, *FILES, path="/pick").json()["groups"] == expected


def test_a_bad_picture_leaves_the_others_to_pick_from(service: TestClient) -> None:
    answer = post_all(service, b"no picture", FILES[0], FILES[3], FILES[0], path="/pick").json()
    assert answer["results"][0]["problem"]["code"] == "unsupported_format"
    pair, single = answer["groups"]
    assert (pair["kind"], pair["winner"], pair["runner_up"]) == ("alike", 1, None)
    assert [(member["index"], member["same_file_as"]) for member in pair["members"]] == [(1, None), (3, 1)]
    assert (single["kind"], single["winner"]) == ("single", 2)


def test_models_tell_whether_they_pick(service: TestClient) -> None:
    assert service.get("/models").json()["models"][0]["picks"] is True


def test_faces_are_told(service: TestClient) -> None:
    (group,) = post_all(service, FACE, FACE, path="/pick").json()["groups"]
    assert group["reasons"][-1] == "eyes_not_judged"


def test_two_to_thirty_two_pictures(service: TestClient) -> None:
    one = post_all(service, FILES[0], path="/pick")
    assert (one.status_code, one.json()["code"]) == (422, "too_few_files")
    many = post_all(service, *FILES[:1] * 33, path="/pick")
    assert (many.status_code, many.json()["code"]) == (413, "too_many_files")


def test_a_model_without_descriptions_picks_nothing(checkpoint_folder: Path) -> None:
    with TestClient(create_app(Settings(checkpoints=(checkpoint_folder,), device="cpu", precision="fp32"))) as client:
        wait_ready(client)
        answer = post_all(client, *FILES[:2], path="/pick")
    assert (answer.status_code, answer.json()["code"]) == (409, "picking_not_supported")


def test_a_service_without_the_packages_says_so(whole_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.models.loading.PICKING", ("scipy", "no_such_package"))
    with TestClient(create_app(Settings(checkpoints=(whole_folder,), device="cpu", precision="fp32"))) as client:
        wait_ready(client)
        answer = post_all(client, *FILES[:2], path="/pick")
        assert client.get("/models").json()["models"][0]["picks"] is False
    assert (answer.status_code, answer.json()["code"]) == (409, "picking_not_supported")
    assert "smart-iqa[pick]" in answer.json()["detail"]
