"""A service over several nodes: its models are exchanged under load, and a node is lost under load."""

import asyncio
import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from app.batching.submission import Submission, SubmissionResult
from app.cluster.engine import RemoteSubmission
from app.cluster.remote import RemoteQueue
from app.settings import Settings
from model.contract import Contract
from model.scale import Scale
from model.scorer import Scorer
from tests.conftest import encode, photo, save_random
from tests.e2e.conftest import free_port
from tests.e2e.ray.conftest import cluster_of

KEY = "of the house"
HEADERS = {"X-API-Key": KEY}
CLIENTS = 4


class Nodes:
    """A head that decodes, two nodes that compute, and clients that never rest.

    Attributes:
        cluster: The nodes.
        url: Of the service.
        answers: What the clients got: number of the picture, status, body.
    """

    def __init__(self, cluster: Any, checkpoint: Path, pictures: Sequence[bytes]) -> None:
        self.cluster = cluster
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.pictures = pictures
        self.answers: list[tuple[int, int, dict[str, Any]]] = []
        self.checkpoint = checkpoint

    def deploy(self, **user_config: object) -> None:
        """Deploy, or deploy again; returns before all is as it should be."""
        from ray.serve.context import _get_global_client
        from ray.serve.schema import ServeDeploySchema

        digest = hashlib.sha256(KEY.encode()).hexdigest()
        settings = {"checkpoints": [str(self.checkpoint)], "admin_keys": [f"root:{digest}"]}
        replicas = {"Ingress": ("head", 1, {}), "Engine": ("engine", 2, {"user_config": user_config})}
        application = {
            "name": "smart-iqa",
            "route_prefix": "/",
            "import_path": "app.cluster.application:build",
            "args": {**settings, "cache_crops": 0, "threads": 1},
            "deployments": [
                {
                    "name": name,
                    "autoscaling_config": {"min_replicas": count, "max_replicas": count},
                    "ray_actor_options": {"num_cpus": 0, "resources": {resource: 1}},
                    **more,
                }
                for name, (resource, count, more) in replicas.items()
            ],
        }
        _get_global_client().deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}))

    def post(self, place: int) -> None:
        files = {"file": self.pictures[place]}
        answer = httpx2.post(f"{self.url}/score", files=files, timeout=60, headers=HEADERS)
        self.answers.append((place, answer.status_code, answer.json()))

    def latest(self) -> set[str]:
        """The checkpoints that the last twenty answers are from."""
        return {body["model"]["digest"] for _, _, body in self.answers[-20:]}

    def engines(self) -> set[str]:
        """The engine replicas that tell their metrics."""
        lines = httpx2.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        told = [line for line in lines if line.startswith("smartiqa_lanes{") and "Engine#" in line]
        return {line.partition('replica="')[2].partition('"')[0] for line in told}

    @contextmanager
    def under_load(self) -> Iterator[None]:
        """Keep clients asking; at the end none may have met an error."""
        self.answers.clear()
        stop = threading.Event()

        def ask(client: int) -> None:
            place = client
            while not stop.is_set():
                self.post(place % len(self.pictures))
                place += 1

        with ThreadPoolExecutor(CLIENTS) as pool:
            futures = [pool.submit(ask, client) for client in range(CLIENTS)]
            try:
                yield
            finally:
                stop.set()
            for future in futures:
                future.result()
        assert {status for _, status, _ in self.answers} == {200}

    def until(self, condition: Callable[[], bool], seconds: float = 90.0) -> None:
        latest = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < latest
            time.sleep(0.2)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    contract = Contract(width=96, height=96, crop_size=64, crops=2, scale=Scale(dataset="made-up", min=1.0, max=5.0))
    folders = [tmp_path_factory.mktemp("checkpoints") / name for name in ("first", "second", "third")]
    for seed, folder in enumerate(folders):
        save_random(folder, contract, seed=seed)
    return folders


@pytest.fixture(scope="module")
def scores(checkpoints: list[Path], pictures: list[bytes]) -> dict[str, list[float]]:
    """The right scores of the pictures, by the digest of the checkpoint."""
    scorers = [Scorer.load(folder, device="cpu", precision="fp32") for folder in checkpoints]
    return {scorer.model.digest: [scorer.score(data).score for data in pictures] for scorer in scorers}


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return [encode(photo(160, 120, seed=seed)) for seed in range(12)]


@pytest.fixture(scope="module")
def nodes(checkpoints: list[Path], pictures: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions, ProxyLocation

    served = tmp_path_factory.mktemp("served") / "model"
    shutil.copytree(checkpoints[0], served)
    engine = {"num_cpus": 1, "resources": {"engine": 1}}
    with cluster_of({"num_cpus": 1, "resources": {"head": 1}}, engine, engine) as cluster:
        ray.init(address=cluster.address)
        try:
            nodes = Nodes(cluster, served, pictures)
            # All nodes have the same address, so there is one port for all.
            options = HTTPOptions(host="127.0.0.1", port=nodes.port)
            serve.start(proxy_location=ProxyLocation.HeadOnly, http_options=options)
            nodes.deploy()
            nodes.until(lambda: httpx2.get(f"{nodes.url}/health/ready", timeout=120).status_code == 200)
            nodes.until(lambda: len(nodes.engines()) == 2)
            yield nodes
            serve.shutdown()
        finally:
            ray.shutdown()


def right(nodes: Nodes, scores: dict[str, list[float]]) -> set[str]:
    """Check all answers, and name the checkpoints that they are from."""
    for place, _, body in nodes.answers:
        assert body["score"] == scores[body["model"]["digest"]][place]
    return {body["model"]["digest"] for _, _, body in nodes.answers}


def test_both_engines_give_the_offline_scores(nodes: Nodes, scores: dict[str, list[float]]) -> None:
    with nodes.under_load():
        nodes.until(lambda: len(nodes.answers) >= 60)
    assert right(nodes, scores) == {next(iter(scores))}
    text = httpx2.get(f"{nodes.url}/metrics", timeout=30).text
    computed = [line for line in text.splitlines() if line.startswith("smartiqa_device_batches_total{")]
    assert len(computed) == 2
    assert sum(float(line.split()[-1]) for line in computed) >= 30


class Looker:
    """Stands in for an engine, and tells of the items that it gets whether it could write into them."""

    def submit(self, submission: RemoteSubmission) -> SubmissionResult:
        flags = submission.items.flags
        return SubmissionResult(
            rows_ND=np.array([[flags.owndata, flags.writeable]], np.float32), queue_seconds=0, compute_seconds=0
        )


def test_crops_lie_in_the_object_store(nodes: Nodes) -> None:
    from ray import serve

    assert nodes.cluster
    looker = serve.run(
        serve.deployment(Looker).options(ray_actor_options={"num_cpus": 0}).bind(), name="looker", route_prefix=None
    )

    async def send() -> SubmissionResult:
        queue = RemoteQueue(looker, Settings(), time.monotonic)
        return await queue.submit(
            Submission(key="any", items=np.zeros((4, 320, 320, 3), np.uint8), deadline=time.monotonic() + 60)
        )

    try:
        assert asyncio.run(send()).rows_ND.tolist() == [[0, 0]], "nobody has copied them"
    finally:
        serve.delete("looker")


def test_admins_have_replaced_checkpoints_loaded(
    nodes: Nodes, checkpoints: list[Path], scores: dict[str, list[float]]
) -> None:
    shutil.rmtree(nodes.checkpoint)
    shutil.copytree(checkpoints[1], nodes.checkpoint)
    first, second, _ = scores
    with nodes.under_load():
        answer = httpx2.post(f"{nodes.url}/admin/reload", headers=HEADERS, timeout=120)
        assert answer.status_code == 200, answer.text
        assert list(answer.json()["old"].values()) == [first]
        assert list(answer.json()["new"].values()) == [second]
        nodes.until(lambda: nodes.latest() == {second})
    assert right(nodes, scores) <= {first, second}
    elsewhere = {"checkpoints": [str(checkpoints[2])]}
    answer = httpx2.post(f"{nodes.url}/admin/reload", headers=HEADERS, timeout=120, json=elsewhere)
    assert answer.status_code in (409, 422)


def test_a_changed_config_exchanges_the_models(
    nodes: Nodes, checkpoints: list[Path], scores: dict[str, list[float]]
) -> None:
    third = list(scores)[2]
    with nodes.under_load():
        nodes.deploy(checkpoints=[str(checkpoints[2])])
        nodes.until(lambda: nodes.latest() == {third})
    assert third in right(nodes, scores)


def test_a_node_is_lost_under_load(nodes: Nodes, scores: dict[str, list[float]]) -> None:
    with nodes.under_load():
        nodes.until(lambda: len(nodes.answers) >= 20)
        nodes.cluster.remove_node(next(iter(nodes.cluster.worker_nodes)))
        lost = len(nodes.answers)
        nodes.until(lambda: len(nodes.answers) >= lost + 60)
        nodes.until(lambda: len(nodes.engines()) == 1)
    right(nodes, scores)
