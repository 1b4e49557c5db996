"""What KubeRay's resources may hold, after the API reference of KubeRay 1.5; where Kubernetes' own fields begin."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT = {"type": "integer", "minimum": 0}
SECONDS = {"type": "integer", "minimum": 1}
OF_KUBERNETES: Mapping[str, Any] = {"type": "object"}
"""Checked by Kubernetes' schema, inside a pod."""


def _object(required: Sequence[str] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


_AUTOSCALER = _object(
    version=_one_of("v1", "v2"),
    idleTimeoutSeconds=SECONDS,
    upscalingMode=_one_of("Default", "Aggressive", "Conservative"),
    image={"type": "string"},
    imagePullPolicy=_one_of("Always", "IfNotPresent", "Never"),
    resources=OF_KUBERNETES,
    securityContext=OF_KUBERNETES,
    env={"type": "array"},
    envFrom={"type": "array"},
    volumeMounts={"type": "array"},
)
_HEAD = _object(
    ["template"],
    template=OF_KUBERNETES,
    rayStartParams=STRINGS,
    headService=OF_KUBERNETES,
    enableIngress={"type": "boolean"},
    serviceType=_one_of("ClusterIP", "NodePort", "LoadBalancer"),
)
_WORKERS = _object(
    ["groupName", "minReplicas", "maxReplicas", "template"],
    groupName={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    numOfHosts=SECONDS,
    idleTimeoutSeconds=SECONDS,
    rayStartParams=STRINGS,
    suspend={"type": "boolean"},
    template=OF_KUBERNETES,
)
_CLUSTER = _object(
    ["headGroupSpec"],
    rayVersion={"type": "string"},
    authOptions=_object(["mode"], mode=_one_of("disabled", "token")),
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=_AUTOSCALER,
    gcsFaultToleranceOptions=OF_KUBERNETES,
    headServiceAnnotations=STRINGS,
    suspend={"type": "boolean"},
    managedBy={"type": "string"},
    headGroupSpec=_HEAD,
    workerGroupSpecs={"type": "array", "items": _WORKERS},
)
_SERVICE = _object(
    ["rayClusterConfig"],
    serveConfigV2={"type": "string"},
    rayClusterConfig=_CLUSTER,
    excludeHeadPodFromServeSvc={"type": "boolean"},
    upgradeStrategy=_object(type=_one_of("NewCluster", "NewClusterWithIncrementalUpgrade", "None")),
    serveService=OF_KUBERNETES,
)
_JOB = _object(
    [],
    entrypoint={"type": "string"},
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    submissionMode=_one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    submitterPodTemplate=OF_KUBERNETES,
    submitterConfig=_object(backoffLimit=COUNT),
    backoffLimit=COUNT,
    activeDeadlineSeconds=SECONDS,
    shutdownAfterJobFinishes={"type": "boolean"},
    ttlSecondsAfterFinished=COUNT,
    runtimeEnvYAML={"type": "string"},
    clusterSelector=STRINGS,
    metadata=STRINGS,
    suspend={"type": "boolean"},
    rayClusterSpec=_CLUSTER,
)


def schema(kind: str) -> dict[str, Any]:
    """The JSON schema of a resource."""
    return _object(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=_object(["name"], name={"type": "string"}, labels=STRINGS, annotations=STRINGS),
        spec={"RayService": _SERVICE, "RayJob": _JOB}[kind],
    )


def cluster(resource: Mapping[str, Any]) -> dict[str, Any]:
    """The cluster that a resource brings up."""
    spec = resource["spec"]
    return dict(spec["rayClusterConfig"] if resource["kind"] == "RayService" else spec["rayClusterSpec"])


def groups(resource: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Its groups of pods by name; the head's is ``head``."""
    held = cluster(resource)
    yield "head", held["headGroupSpec"]
    for group in held["workerGroupSpecs"]:
        yield group["groupName"], group


def pods(resource: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A pod of each group, as the operator would make it; the head's with the autoscaler beside it."""
    options = cluster(resource).get("autoscalerOptions", {})
    own = ("resources", "securityContext", "volumeMounts", "env")
    for name, group in groups(resource):
        spec = dict(group["template"]["spec"])
        if name == "head" and options:
            beside = {"name": "autoscaler", "image": "a", **{key: options[key] for key in own if key in options}}
            spec["containers"] = [*spec["containers"], beside]
        metadata = {"name": name, **group["template"]["metadata"]}
        yield name, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
