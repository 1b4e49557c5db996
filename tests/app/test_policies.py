"""Decisions in answers: policies by name and by key, languages, metrics, reload, refusals."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.http.schemas import PolicyList, ScoreAnswer
from app.main import create_app
from app.settings import Settings
from model.calibration import Calibration
from model.policies import Policies, PolicyError
from model.scorer import Scorer
from tests.app.conftest import wait_ready
from tests.app.test_batch import post_all
from tests.app.test_pictures import metric, post
from tests.conftest import encode, photo

PICTURE = encode(photo(300, 280))
POLICIES = """
[strict]
keys = ["shop"]
[[strict.rules]]
code = "small"
rule = "reject when shorter_side < 300"
message = "Too small: {value:g}."
[[strict.rules]]
code = "wide"
rule = "review when interval.width >= 0"

[lax]
[[lax.rules]]
code = "tiny"
rule = "reject when shorter_side < 64"
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies")
    (folder / "ours.toml").write_text(POLICIES, encoding="utf-8")
    (folder / "ours.de.toml").write_text('[strict]\nsmall = "Zu klein: {value:g}."\n', encoding="utf-8")
    return folder / "ours.toml"


def settings(folder: Path, file: Path | None, **more: object) -> Settings:
    fields = {"checkpoints": (folder,), "device": "cpu", "precision": "fp32", "policies": file, **more}
    return Settings.model_validate(fields)


@pytest.fixture(scope="module")
def service(whole_folder: Path, file: Path) -> Iterator[TestClient]:
    key = hashlib.sha256(b"admin").hexdigest()
    with TestClient(create_app(settings(whole_folder, file, admin_keys=f"root:{key}"))) as client:
        wait_ready(client)
        yield client


def test_the_decision_is_the_policys(service: TestClient, file: Path, whole_folder: Path) -> None:
    answer = post(service, PICTURE, "/score?policy=strict").json()
    assert ScoreAnswer.model_validate(answer)
    score = Scorer.load(whole_folder, device="cpu", precision="fp32").score(PICTURE)
    assert answer["decision"] == Policies.load(file)["strict"].decide(score).to_dict() | {
        "reasons": [
            {
                "code": "small",
                "field": "shorter_side",
                "operator": "<",
                "value": 280.0,
                "threshold": 300.0,
                "severity": None,
                "message": "Too small: 280.",
            }
        ]
    }
    assert post(service, PICTURE, "/score?policy=lax").json()["decision"]["outcome"] == "accept"
    assert "decision" not in post(service, PICTURE, "/score").json()


def test_every_route_that_scores_decides(service: TestClient) -> None:
    (item,) = post_all(service, PICTURE, path="/score/batch?policy=strict").json()["results"]
    assert item["result"]["decision"]["outcome"] == "reject"
    assert post(service, PICTURE, "/attention?policy=strict").json()["decision"]["outcome"] == "reject"
    compared = post_all(service, PICTURE, PICTURE, path="/compare?policy=strict").json()
    assert [item["result"]["decision"]["outcome"] for item in compared["results"]] == ["reject", "reject"]


def test_reasons_come_in_the_readers_language(service: TestClient) -> None:
    def told(**headers: str) -> str:
        answer = post(service, PICTURE, "/score?policy=strict", headers=headers)
        return str(answer.json()["decision"]["reasons"][0]["message"])

    assert told() == "Too small: 280."
    assert told(**{"Accept-Language": "de-DE,de;q=0.9,en;q=0.8"}) == "Zu klein: 280."
    assert told(**{"Accept-Language": "fr"}) == "Too small: 280."


def test_an_entity_tag_knows_policy_and_language(service: TestClient) -> None:
    paths = ["/score", "/score?policy=strict", "/score?policy=lax"]
    tags = [post(service, PICTURE, path).headers["ETag"] for path in paths]
    german = {"Accept-Language": "de"}
    tags.append(post(service, PICTURE, "/score?policy=strict", headers=german).headers["ETag"])
    assert len({*tags}) == 4
    again = post(service, PICTURE, "/score?policy=strict", headers={**german, "If-None-Match": tags[-1]})
    assert again.status_code == 304


def test_decisions_are_counted_by_policy_outcome_and_reason(service: TestClient) -> None:
    decisions = 'smartiqa_decisions_total{outcome="reject",policy="strict"}'
    reasons = 'smartiqa_decision_reasons_total{outcome="reject",policy="strict",reason="small"}'
    before = metric(service, decisions), metric(service, reasons)
    post(service, PICTURE, "/score?policy=strict")
    assert (metric(service, decisions), metric(service, reasons)) == (before[0] + 1, before[1] + 1)
    # Series begin at 0.
    assert metric(service, 'smartiqa_decisions_total{outcome="review",policy="lax"}') == 0
    assert metric(service, 'smartiqa_decision_reasons_total{outcome="reject",policy="lax",reason="tiny"}') == 0


def test_policies_are_listed(service: TestClient) -> None:
    listed = service.get("/policies").json()
    assert PolicyList.model_validate(listed)
    assert [one["name"] for one in listed["policies"]] == ["strict", "lax"]
    assert listed["policies"][0]["languages"] == ["de"]
    assert listed["policies"][0]["rules"][0]["rule"] == "reject when shorter_side < 300"
    assert "keys" not in listed["policies"][0]


def test_an_unknown_policy_gets_a_suggestion(service: TestClient) -> None:
    answer = post(service, PICTURE, "/score?policy=stricct")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_policy")
    assert answer.json()["detail"] == "there is no policy 'stricct'; did you mean strict?"


def test_a_policy_may_ask_for_more_than_a_model_tells(checkpoint_folder: Path, file: Path) -> None:
    with TestClient(create_app(settings(checkpoint_folder, file))) as client:
        wait_ready(client)
        answer = post(client, PICTURE, "/score?policy=strict")
        assert (answer.status_code, answer.json()["code"]) == (409, "policy_not_supported")
        # A picture for an answer has no room for a decision.
        assert post(client, PICTURE, "/attention?policy=strict&overlay=png").status_code == 200
        assert answer.json()["detail"] == "strict asks for interval, which smart-mobile-0 does not tell"
        assert post(client, PICTURE, "/score?policy=lax").json()["decision"]["outcome"] == "accept"


def test_a_binding_to_a_key_that_does_not_exist_is_told(
    whole_folder: Path, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with TestClient(create_app(settings(whole_folder, file))) as client:
        wait_ready(client)
    assert "policy strict is bound to the key shop, which does not exist" in caplog.text


def test_a_key_may_have_a_policy_of_its_own(whole_folder: Path, file: Path) -> None:
    keys = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("shop", "lab")}
    joined = ",".join(f"{name}:{digest}" for name, digest in keys.items())
    with TestClient(create_app(settings(whole_folder, file, api_keys=joined, probes_key=False))) as client:
        wait_ready(client)
        shop, lab = ({"X-API-Key": name} for name in keys)
        assert post(client, PICTURE, "/score", headers=shop).json()["decision"]["policy"] == "strict"
        assert post(client, PICTURE, "/score?policy=lax", headers=shop).json()["decision"]["policy"] == "lax"
        assert "decision" not in post(client, PICTURE, "/score", headers=lab).json()
        assert client.get("/policies").status_code == 401


def test_the_shipped_policies_are_there_without_a_file(whole_folder: Path) -> None:
    with TestClient(create_app(settings(whole_folder, None))) as client:
        wait_ready(client)
        assert post(client, PICTURE, "/score?policy=marketplace").json()["decision"]["outcome"] == "reject"


def test_a_bad_file_is_refused_at_start_and_at_reload(whole_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text(POLICIES.replace("interval.width", "intervall.width"), encoding="utf-8")
    with pytest.raises(PolicyError, match=r"ours.toml, line 10, strict.rules\[1\].rule: there is no 'intervall.width'"):
        create_app(settings(whole_folder, file))
    with pytest.raises(FileNotFoundError):
        create_app(settings(whole_folder, tmp_path / "nowhere.toml"))
    file.write_text(POLICIES, encoding="utf-8")
    key = hashlib.sha256(b"admin").hexdigest()
    with TestClient(create_app(settings(whole_folder, file, admin_keys=f"root:{key}"))) as client:
        wait_ready(client)
        admin = {"X-API-Key": "admin"}
        file.write_text(POLICIES.replace("< 300", "< 200"), encoding="utf-8")
        assert client.post("/admin/reload", headers=admin).status_code == 200
        assert post(client, PICTURE, "/score?policy=strict").json()["decision"]["outcome"] == "review"
        file.write_text(POLICIES.replace("reject when", "deny when"), encoding="utf-8")
        answer = client.post("/admin/reload", headers=admin)
        assert (answer.status_code, answer.json()["code"]) == (409, "reload_failed")
        assert "ours.toml, line 6, strict.rules[0].rule: 'deny' is no outcome" in answer.json()["detail"]
        assert str(tmp_path) not in answer.json()["detail"]
        # What was there stays.
        assert post(client, PICTURE, "/score?policy=strict").json()["decision"]["outcome"] == "review"


def test_a_policys_calibration_corrects_scores(whole_folder: Path, tmp_path: Path) -> None:
    scorer = Scorer.load(whole_folder, device="cpu", precision="fp32")
    plain = scorer.score(PICTURE)
    taste = Calibration(
        name="taste",
        model=scorer.model.digest,
        knots=((0.0, 20.0), (100.0, 60.0)),
        weights=(3.0,) * len(plain.description),
        centre=(0.0,) * len(plain.description),
    )
    (tmp_path / "taste.json").write_text(taste.to_json())
    other = replace(taste, model="sha256:1")
    (tmp_path / "other.json").write_text(other.to_json())
    file = tmp_path / "policies.toml"
    file.write_text(
        '[taste]\ncalibration = "taste.json"\n[[taste.rules]]\ncode = "low"\nrule = "reject when score < 99"\n'
        '[other]\ncalibration = "other.json"\n'
    )
    expected = taste.apply(plain)
    assert expected.score != plain.score
    with TestClient(create_app(settings(whole_folder, file))) as client:
        wait_ready(client)
        before = post(client, PICTURE, "/score")
        own = post(client, PICTURE, "/score?policy=taste")
        assert (own.json()["score"], own.json()["interval"]) == (expected.score, expected.to_dict()["interval"])
        assert own.json()["model"]["contract"] == f"{plain.contract.id}+{taste.id}"
        assert own.json()["decision"]["reasons"][0]["value"] == expected.score
        assert own.headers["ETag"] != before.headers["ETag"]
        # Each has its own place in memory.
        again, plainly = (post(client, PICTURE, path) for path in ("/score?policy=taste", "/score"))
        assert (again.headers["X-Cache"], again.json()["score"]) == ("hit", expected.score)
        assert (plainly.headers["X-Cache"], plainly.json()["score"]) == ("hit", plain.score)
        batch = post_all(client, PICTURE, path="/score/batch?policy=taste").json()["results"][0]["result"]
        assert batch["score"] == expected.score
        assert client.get("/policies").json()["policies"][0]["calibration"] == taste.id
        refused = post(client, PICTURE, "/score?policy=other")
        assert (refused.status_code, refused.json()["code"]) == (409, "policy_not_supported")
