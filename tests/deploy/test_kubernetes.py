"""The Kubernetes manifests: valid, locked down, and in step with the settings."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.observability.metrics import Metrics
from app.settings import Settings
from tests.conftest import ROOT
from tests.deploy.promql import complaints, exposed

FOLDER = ROOT / "deploy" / "kubernetes"
BASE = sorted(file for file in (FOLDER / "base").glob("*.yaml") if file.name != "kustomization.yaml")
VERSIONS = ("1.30", "1.34", "1.37")
BYTES_A_PIXEL = 34
"""What decoding takes at most, by docs/operations.md."""
RESIDENT_BYTES = 1.2e9
"""What the service holds with the default checkpoint, apart from pictures, by docs/performance.md."""


def read(path: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / path).read_text("utf-8")))


def pod(deployment: dict[str, Any]) -> dict[str, Any]:
    return dict(deployment["spec"]["template"]["spec"])


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod(deployment)["containers"]
    return dict(only)


def variables(deployment: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(deployment)["env"]}


def settings(deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings that a pod has."""
    for name, value in variables(deployment).items():
        if name.startswith("SMARTIQA_"):
            monkeypatch.setenv(name, value)
    return Settings()


def quantity(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([KMG]i|m)?", text).groups()  # type: ignore[union-attr]
    return float(number) * {None: 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}[unit]


@pytest.fixture
def deployment() -> dict[str, Any]:
    return read("base/deployment.yaml")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", BASE, ids=lambda file: file.stem)
def test_manifests_are_of_kubernetes_schema(file: Path, version: str) -> None:
    # Strict: a field that the version does not know is an error.
    kubernetes_validate.validate(yaml.safe_load(file.read_text("utf-8")), version, strict=True)


def test_the_schema_notices_misspelled_fields(deployment: dict[str, Any]) -> None:
    deployment["spec"]["template"]["spec"]["terminationGraceSeconds"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def test_kustomizations_name_what_is_there() -> None:
    assert read("base/kustomization.yaml")["resources"] == [
        "deployment.yaml", "service.yaml", "hpa.yaml", "pdb.yaml", "networkpolicy.yaml"
    ]  # fmt: skip
    assert {file.name for file in BASE} == set(read("base/kustomization.yaml")["resources"])
    for folder in ("base", "gpu", "monitoring"):
        kustomization = read(f"{folder}/kustomization.yaml")
        patches = [patch["path"] for patch in kustomization.get("patches", [])]
        assert all((FOLDER / folder / path).exists() for path in [*kustomization["resources"], *patches])


def test_pods_outlive_their_last_requests(deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    held = settings(deployment, monkeypatch)
    name, seconds = container(deployment)["lifecycle"]["preStop"]["exec"]["command"]
    assert name == "sleep"
    needed = float(seconds) + held.drain_seconds + held.shutdown_seconds
    assert needed < pod(deployment)["terminationGracePeriodSeconds"] <= needed + 30
    # By then a pod that leaves has been seen to leave.
    readiness = container(deployment)["readinessProbe"]
    assert float(seconds) >= readiness["periodSeconds"] * readiness["failureThreshold"]


def test_ports_agree(deployment: dict[str, Any]) -> None:
    (port,) = container(deployment)["ports"]
    assert port == {"name": "http", "containerPort": Settings.model_fields["port"].default}
    (service,) = read("base/service.yaml")["spec"]["ports"]
    assert service["targetPort"] == service["name"] == "http"
    (rule,) = read("base/networkpolicy.yaml")["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": "http"}]
    (endpoint,) = read("monitoring/servicemonitor.yaml")["spec"]["endpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")


def test_probes_ask_what_they_mean(deployment: dict[str, Any]) -> None:
    paths = {"startupProbe": "/health/live", "livenessProbe": "/health/live", "readinessProbe": "/health/ready"}
    for probe, path in paths.items():
        assert container(deployment)[probe]["httpGet"] == {"path": path, "port": "http"}


def test_everything_selects_the_same_pods(deployment: dict[str, Any]) -> None:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert read("base/service.yaml")["spec"]["selector"] == labels
    assert read("base/pdb.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert read("base/networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    assert read("monitoring/servicemonitor.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert read("base/service.yaml")["metadata"]["labels"] == labels
    target = read("base/hpa.yaml")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (deployment["kind"], deployment["metadata"]["name"])


def test_pods_have_few_rights(deployment: dict[str, Any]) -> None:
    whole, own = pod(deployment)["securityContext"], container(deployment)["securityContext"]
    assert whole["runAsNonRoot"]
    assert whole["runAsUser"] > 0
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(deployment)["automountServiceAccountToken"] is False
    # What is written to is mounted.
    mounts = {mount["mountPath"] for mount in container(deployment)["volumeMounts"]}
    assert {variables(deployment)["HOME"], variables(deployment)["XDG_CACHE_HOME"]} == mounts
    policy = read("base/networkpolicy.yaml")["spec"]
    assert policy["egress"] == []
    assert policy["policyTypes"] == ["Ingress", "Egress"]


def test_memory_is_enough_for_what_the_settings_let_in(
    deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    held, resources = settings(deployment, monkeypatch), container(deployment)["resources"]
    most = RESIDENT_BYTES + held.max_inflight_pixels * BYTES_A_PIXEL + held.max_queue_bytes + held.max_upload_bytes
    assert most <= quantity(resources["limits"]["memory"]) <= 1.3 * most
    assert quantity(resources["requests"]["memory"]) > RESIDENT_BYTES
    assert held.threads == quantity(resources["requests"]["cpu"])
    assert held.device == "cpu"


def test_gpus_change_only_what_there_is(deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    patch = read("gpu/gpu.yaml")
    assert (patch["kind"], patch["metadata"]["name"]) == (deployment["kind"], deployment["metadata"]["name"])
    assert container(patch)["name"] == container(deployment)["name"], "else a second container is added"
    assert settings(patch, monkeypatch).device == "cuda"
    resources = container(patch)["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == "1"
    for kind in ("requests", "limits"):
        for name, value in container(deployment)["resources"][kind].items():
            assert quantity(resources[kind][name]) >= quantity(value)
    (image,) = read("gpu/kustomization.yaml")["images"]
    assert container(deployment)["image"].startswith(f"{image['name']}:")


def test_autoscaler_gets_its_metrics_from_the_adapter() -> None:
    wanted = {metric["pods"]["metric"]["name"] for metric in read("base/hpa.yaml")["spec"]["metrics"]}
    rules = read("monitoring/prometheus-adapter.yaml")["rules"]["custom"]
    assert {rule.get("name", {}).get("as") or rule["seriesQuery"].partition("{")[0] for rule in rules} == wanted
    series = {name: [{**labels, "namespace": "n", "pod": "p"} for labels in found] for name, found in
              exposed(Metrics().render().text.decode()).items()}  # fmt: skip
    for rule in rules:
        query = rule["metricsQuery"].replace("<<.Series>>", rule["seriesQuery"].partition("{")[0])
        query = query.replace("<<.LabelMatchers>>", 'namespace="n",pod="p"').replace("<<.GroupBy>>", "pod")
        assert "<<" not in query
        assert not list(complaints(query, series, []))


def test_versions_agree() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    (release,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert compose["services"]["smart-iqa"]["image"] == f"smart-iqa:{release}"
    assert container(read("base/deployment.yaml"))["image"] == f"smart-iqa:{release}"
    assert read("gpu/kustomization.yaml")["images"][0]["newTag"] == f"{release}-cuda"
