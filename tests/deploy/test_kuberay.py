"""The manifests for KubeRay: of its schema and Kubernetes', locked down, in step with Serve's config and commands."""

import copy
import re
import shlex
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from tests.conftest import ROOT
from tests.deploy.kuberay import cluster, groups, pods, schema
from tests.deploy.test_kubernetes import VERSIONS, quantity
from tests.docs.unrun import check

FOLDER = ROOT / "deploy" / "ray"
RESOURCES: dict[str, dict[str, Any]] = {
    name: yaml.safe_load((FOLDER / name / f"{kind}.yaml").read_text("utf-8"))
    for name, kind in (("service", "rayservice"), ("score", "rayjob"), ("train", "rayjob"))
}
POLICY = yaml.safe_load((FOLDER / "network" / "networkpolicy.yaml").read_text("utf-8"))
SERVE = yaml.safe_load((FOLDER / "serve.yaml").read_text("utf-8"))
CONSTRAINTS = (ROOT / "constraints.txt").read_text("utf-8")
(RELEASE,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)

every = pytest.mark.parametrize("resource", RESOURCES.values(), ids=RESOURCES)


def nodes(resource: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Kinds of nodes as Ray's autoscaler reads them from the resource."""
    held = {"metadata": {"name": "any", "namespace": "any"}, "spec": cluster(resource)}
    return dict(_derive_autoscaling_config_from_ray_cr(held)["available_node_types"])


def ray_container(pod: dict[str, Any]) -> dict[str, Any]:
    """KubeRay takes the first one for Ray's."""
    return dict(pod["spec"]["containers"][0])


@every
def test_of_kuberays_schema(resource: dict[str, Any]) -> None:
    jsonschema.validate(resource, schema(resource["kind"]))


@pytest.mark.parametrize("version", VERSIONS)
@every
def test_pods_are_of_kubernetes_schema(resource: dict[str, Any], version: str) -> None:
    for _, pod in pods(resource):
        kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_policy_is_of_kubernetes_schema(version: str) -> None:
    kubernetes_validate.validate(POLICY, version, strict=True)


def test_the_schemas_notice_misspelled_fields() -> None:
    for path in (["spec", "serveConfig"], ["spec", "rayClusterConfig", "authOption"]):
        wrong = copy.deepcopy(RESOURCES["service"])
        inner = wrong
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = ""
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema("RayService"))
    (_, pod), *_ = pods(copy.deepcopy(RESOURCES["score"]))
    # The autoscaler's part is of the pod too.
    pod["spec"]["containers"][-1]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, VERSIONS[-1], strict=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_service_is_that_of_serves_config() -> None:
    from ray.serve.schema import ServeDeploySchema

    assert yaml.safe_load(RESOURCES["service"]["spec"]["serveConfigV2"]) == SERVE
    (application,) = ServeDeploySchema.model_validate(SERVE).applications
    assert application.import_path == "smart_iqa.app.cluster.application:build"
    assert {deployment.name for deployment in application.deployments} == {"Ingress", "Engine"}


def test_the_nodes_have_room_for_all_replicas() -> None:
    kinds = nodes(RESOURCES["service"])
    deployments = {one["name"]: one for one in SERVE["applications"][0]["deployments"]}
    for name, kind in (("Ingress", "cores"), ("Engine", "gpus")):
        wanted, there = deployments[name]["ray_actor_options"], kinds[kind]["resources"]
        each = min(
            int(there.get(resource, 0) / wanted[option])
            for resource, option in (("CPU", "num_cpus"), ("GPU", "num_gpus"))
            if option in wanted
        )
        for bound in ("min", "max"):
            assert (
                each * kinds[kind][f"{bound}_workers"] >= deployments[name]["autoscaling_config"][f"{bound}_replicas"]
            )


@every
def test_the_head_does_no_work(resource: dict[str, Any]) -> None:
    assert nodes(resource)["headgroup"]["resources"]["CPU"] == 0
    assert resource["kind"] == "RayJob" or resource["spec"]["excludeHeadPodFromServeSvc"] is True


@every
def test_pods_get_what_ray_hands_out(resource: dict[str, Any]) -> None:
    kinds = nodes(resource)
    for name, pod in pods(resource):
        resources = ray_container(pod)["resources"]
        assert set(resources["limits"]) <= {"memory", "nvidia.com/gpu"}, "a limit on cores throttles"
        assert quantity(resources["limits"]["memory"]) > quantity(resources["requests"]["memory"])
        if name == "head":
            continue
        assert kinds[name]["resources"]["CPU"] == quantity(resources["requests"]["cpu"])
        gpus = kinds[name]["resources"].get("GPU", 0)
        assert gpus == (1 if name == "gpus" else 0)
        tolerated = [toleration["key"] for toleration in pod["spec"].get("tolerations", [])]
        assert tolerated == (["nvidia.com/gpu"] if gpus else [])


@every
def test_pods_have_few_rights(resource: dict[str, Any]) -> None:
    scaled = cluster(resource).get("enableInTreeAutoscaling", False)
    assert scaled == (resource["metadata"]["name"] != "smart-iqa-train")
    for name, pod in pods(resource):
        whole = pod["spec"]["securityContext"]
        assert whole["runAsNonRoot"]
        assert whole["runAsUser"] > 0
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
        # The autoscaler of the head asks Kubernetes for pods.
        assert pod["spec"].get("automountServiceAccountToken", True) is (name == "head" and scaled)
        assert len(pod["spec"]["containers"]) == (2 if name == "head" and scaled else 1)
        for container in pod["spec"]["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert "/tmp" in mounted
            held = {entry["name"]: entry["value"] for entry in container.get("env", [])}
            assert {held[key] for key in ("HOME", "XDG_CACHE_HOME") if key in held} <= mounted
    assert cluster(resource)["authOptions"] == {"mode": "token"}


@every
def test_probes_ask_what_they_mean(resource: dict[str, Any]) -> None:
    for name, pod in pods(resource):
        container = ray_container(pod)
        # The agent of a node, which needs no token.
        assert container["livenessProbe"]["httpGet"] == {"path": "/api/healthz", "port": 52365}
        serves = resource["kind"] == "RayService" and name != "head"
        wanted = {"path": "/-/healthz", "port": "serve"} if serves else {"path": "/api/healthz", "port": 52365}
        assert container["readinessProbe"]["httpGet"] == wanted
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports.get("serve", SERVE["http_options"]["port"]) == SERVE["http_options"]["port"]


def test_only_ray_reaches_ray() -> None:
    labels = POLICY["spec"]["podSelector"]["matchLabels"]
    for resource in RESOURCES.values():
        for _, group in groups(resource):
            assert group["template"]["metadata"]["labels"] == labels
    own, operator, everybody = POLICY["spec"]["ingress"]
    assert own == {"from": [{"podSelector": {"matchLabels": labels}}]}
    assert [rule["port"] for rule in operator["ports"]] == ["dashboard"]
    assert [rule["port"] for rule in everybody["ports"]] == ["serve", "metrics"]


def test_jobs_go_on_where_they_stopped() -> None:
    for name in ("score", "train"):
        spec = RESOURCES[name]["spec"]
        assert spec["backoffLimit"] > 0
        assert spec["shutdownAfterJobFinishes"] is True
        words = shlex.split(spec["entrypoint"])
        assert words[0] == "smart-iqa"
        check(words)
        assert "--ray" in words
        # Every path is on the claim, which all pods have.
        paths = [word for word in words if "/" in word]
        assert len(paths) >= 2
        assert all(word.startswith("/data/") for word in paths)
        for _, pod in pods(RESOURCES[name]):
            assert {"name": "data", "mountPath": "/data"} in ray_container(pod)["volumeMounts"]


def test_a_training_has_a_gpu_for_each_worker() -> None:
    entrypoint = RESOURCES["train"]["spec"]["entrypoint"]
    (workers,) = re.findall(r"--workers (\d+)", entrypoint)
    kind = nodes(RESOURCES["train"])["gpus"]
    assert kind["min_workers"] == kind["max_workers"] == int(workers)


@pytest.mark.parametrize("name", RESOURCES)
def test_kustomizations_name_what_is_there(name: str) -> None:
    kustomization = yaml.safe_load((FOLDER / name / "kustomization.yaml").read_text("utf-8"))
    assert kustomization["resources"][0] == "../network"
    assert all((FOLDER / name / path).exists() for path in kustomization["resources"])
    network = yaml.safe_load((FOLDER / "network" / "kustomization.yaml").read_text("utf-8"))
    assert network["resources"] == ["networkpolicy.yaml"]


@every
def test_versions_agree(resource: dict[str, Any]) -> None:
    assert f"ray=={cluster(resource)['rayVersion']}\n" in CONSTRAINTS
    for _, pod in pods(resource):
        assert ray_container(pod)["image"] == f"smart-iqa:{RELEASE}-ray"
