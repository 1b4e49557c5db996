"""The way to models that are elsewhere, with replicas that are made up."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError

from app.batching.errors import DeadlineExceeded, DeviceLost, EngineFailed, QueueFull
from app.batching.submission import Priority, Submission, SubmissionResult
from app.cluster import metrics_aggregation
from app.cluster.engine import EngineReplica, RemoteSubmission, Unknown
from app.cluster.metrics_aggregation import Collected
from app.cluster.remote import RemoteModelManager, RemoteQueue
from app.models.loading import ServedModel
from app.observability.metrics import Metrics
from app.settings import Settings
from tests.app.conftest import served
from tests.app.fakes import FakeEngine

ITEMS = np.zeros((2, 4, 4, 3), np.uint8)
ANSWER = SubmissionResult(rows_ND=np.ones((2, 1), np.float32), queue_seconds=3.0, compute_seconds=0.1)
Behaviour = Callable[..., Awaitable[Any]]


class Response:
    """What a handle answers with."""

    def __init__(self, work: Awaitable[Any]) -> None:
        self.task = asyncio.ensure_future(work)
        self.cancelled = False

    def __await__(self) -> Any:
        return asyncio.shield(self.task).__await__()

    def cancel(self) -> None:
        self.cancelled = True
        self.task.cancel()


class Method:
    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.responses: list[Response] = []

    def remote(self, *arguments: Any) -> Response:
        self.responses.append(Response(self.behave(*arguments)))
        return self.responses[-1]


class Handle:
    """A handle whose replicas give these outcomes, one after the other, the last one for ever."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.seen: list[RemoteSubmission] = []
        self.submit = Method(self._submit)
        self.facts = Method(self._facts)

    async def _submit(self, submission: RemoteSubmission) -> Any:
        self.seen.append(submission)
        return await self._next()

    async def _facts(self) -> Any:
        return await self._next()

    async def _next(self) -> Any:
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if outcome == "never":
            await asyncio.Event().wait()
        if isinstance(outcome, Exception) and not isinstance(outcome, (DeviceLost, EngineFailed, QueueFull)):
            raise outcome
        return outcome


def queue_of(handle: Handle, **settings: Any) -> RemoteQueue:
    return RemoteQueue(handle, Settings(**settings), time.monotonic)


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


def test_rows_come_back() -> None:
    async def run() -> None:
        handle = Handle(ANSWER)
        answer = await queue_of(handle).submit(
            Submission(key="m", items=ITEMS, deadline=soon(), priority=Priority.BULK, owner="ann")
        )
        assert answer.rows_ND is ANSWER.rows_ND
        assert answer.compute_seconds == 0.1
        (seen,) = handle.seen
        assert (seen.key, seen.priority, seen.owner) == ("m", Priority.BULK, "ann")
        assert 0 < seen.seconds <= 30

    asyncio.run(run())


@pytest.mark.parametrize(
    "trouble",
    [Unknown(), DeviceLost(), RayActorError(), DeploymentUnavailableError("d")],
    ids=lambda one: type(one).__name__,
)
def test_crops_are_sent_again_when_a_replica_cannot_answer(trouble: Any) -> None:
    async def run() -> None:
        handle = Handle(trouble, trouble, ANSWER)
        assert (
            await queue_of(handle).submit(Submission(key="m", items=ITEMS, deadline=soon()))
        ).rows_ND is ANSWER.rows_ND
        assert len(handle.seen) == 3

    asyncio.run(run())


def test_the_deadline_ends_it() -> None:
    async def run() -> None:
        with pytest.raises(DeadlineExceeded):
            await queue_of(Handle(Unknown())).submit(Submission(key="m", items=ITEMS, deadline=soon(0.2)))
        handle = Handle("never")
        with pytest.raises(DeadlineExceeded):
            await queue_of(handle).submit(Submission(key="m", items=ITEMS, deadline=soon(0.1)))
        assert handle.submit.responses[0].cancelled

    asyncio.run(run())


@pytest.mark.parametrize("refusal", [EngineFailed(), QueueFull(7)], ids=lambda one: type(one).__name__)
def test_what_a_batcher_refuses_is_refused(refusal: Any) -> None:
    async def run() -> None:
        handle = Handle(refusal, ANSWER)
        with pytest.raises(type(refusal)):
            await queue_of(handle).submit(Submission(key="m", items=ITEMS, deadline=soon()))
        assert len(handle.seen) == 1

    asyncio.run(run())


def test_a_defect_is_not_tried_again() -> None:
    async def run() -> None:
        handle = Handle(RayTaskError("submit", "traceback", ValueError("defect")), ANSWER)
        with pytest.raises(RayTaskError):
            await queue_of(handle).submit(Submission(key="m", items=ITEMS, deadline=soon()))

    asyncio.run(run())


def test_room_is_bounded_and_given_back() -> None:
    async def run() -> None:
        handle = Handle(ANSWER, "never")
        queue = queue_of(handle, max_queue_crops=64)
        queue.check(64, 0)
        await queue.submit(Submission(key="m", items=ITEMS, deadline=soon()))
        task = asyncio.create_task(queue.submit(Submission(key="m", items=ITEMS, deadline=soon())))
        await asyncio.sleep(0.01)
        queue.check(62, 0)
        with pytest.raises(QueueFull) as full:
            queue.check(63, 0)
        assert full.value.retry_after == 3, "what the last answer had waited"
        with queue.reserve(62, 62) as reservation:
            with pytest.raises(QueueFull):
                queue.check(1, 0)
            reservation.release()
            queue.check(62, 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert handle.submit.responses[-1].cancelled, "the replica need not go on"
        queue.check(64, 0)

    asyncio.run(run())


@asynccontextmanager
async def hosting(
    handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[RemoteModelManager, list[list[str]]]]:
    monkeypatch.setattr("app.cluster.remote.FACTS_SECONDS", 0.01)
    manager = RemoteModelManager(handle, Settings(), time.monotonic)
    installed: list[list[str]] = []
    manager.start(lambda models: installed.append(list(models)))
    yield manager, installed
    manager.close()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError


@pytest.fixture
def facts(checkpoint_folder: Path) -> Callable[[str], list[ServedModel]]:
    return lambda name: [served(checkpoint_folder, FakeEngine(), name=name).facts()]


def test_models_are_installed_when_they_have_changed(facts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        handle = Handle(facts("a"), facts("a"), facts("a"), facts("b"))
        async with hosting(handle, monkeypatch) as (manager, installed):
            await until(lambda: installed == [["a"], ["b"]])
            assert manager.alive
            assert manager.unready_reason is None

    asyncio.run(run())


def test_engines_that_are_gone_make_the_service_unready_until_they_are_back(
    facts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        handle = Handle(facts("a"), DeploymentUnavailableError("d"))
        async with hosting(handle, monkeypatch) as (manager, installed):
            await until(lambda: manager.unready_reason is not None)
            assert manager.unready_reason == "no engine replica answers (DeploymentUnavailableError)"
            handle.outcomes = [facts("a")]
            await until(lambda: manager.unready_reason is None)
            assert installed == [["a"]]

    asyncio.run(run())


def test_only_what_is_configured_can_be_loaded_again(tmp_path: Path) -> None:
    async def run() -> None:
        manager = RemoteModelManager(Handle(ANSWER), Settings(), time.monotonic)
        with pytest.raises(ValueError, match="deploy it"):
            await manager.reload([tmp_path], {})

    asyncio.run(run())


def test_facts_can_be_sent(facts: Any) -> None:
    import pickle

    (model,) = facts("a")
    again = pickle.loads(pickle.dumps(model))
    assert again == model
    assert again.describe() == model.describe()


def test_metrics_of_all_replicas_have_their_names() -> None:
    one, other = Metrics(), Metrics()
    one.batch_flush.labels("full").inc(3)
    other.batch_flush.labels("full").inc(4)
    one.compute_seconds.observe(0.5)
    text = metrics_aggregation.render(
        [Collected("Engine#a", one.collect()), Collected("Engine#b", other.collect())]
    ).text.decode()
    lines = text.splitlines()
    assert 'smartiqa_batch_flush_total{reason="full",replica="Engine#a"} 3.0' in lines
    assert 'smartiqa_batch_flush_total{reason="full",replica="Engine#b"} 4.0' in lines
    assert 'smartiqa_compute_seconds_count{replica="Engine#a"} 1.0' in lines
    assert lines.count("# TYPE smartiqa_compute_seconds histogram") == 1


async def engine_of(folder: Path) -> EngineReplica:
    replica = EngineReplica.__new__(EngineReplica)
    await replica.__init__({"checkpoints": [str(folder)], "device": "cpu", "threads": 1})  # type: ignore[misc]
    return replica


def test_an_engine_answers_and_tells_what_it_has_to_do(checkpoint_folder: Path) -> None:
    async def run() -> None:
        replica = await engine_of(checkpoint_folder)
        replica.check_health()
        (model,) = replica.facts()
        assert replica.record_autoscaling_stats() == {"queued_crops": 0.0, "drain_seconds": 0.0, "busy": 0.0}
        crops = model.config.contract.probe(4, (224, 224, 3))
        submission = RemoteSubmission(model.key, crops, 60.0, 0.0, Priority.INTERACTIVE, "")
        answer = await replica.submit(submission)
        assert isinstance(answer, SubmissionResult)
        assert len(answer.rows_ND) == 4
        assert 0 < replica.record_autoscaling_stats()["busy"] <= 1
        assert await replica.submit(submission._replace(key="other")) == Unknown()
        assert isinstance(await replica.submit(submission._replace(seconds=-1.0)), DeadlineExceeded)

    asyncio.run(run())


def test_an_engine_keeps_its_old_models_until_nobody_can_ask_for_them(
    checkpoint_folder: Path, sixteen_crops: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        replica = await engine_of(checkpoint_folder)
        (old,) = replica.facts()
        monkeypatch.setattr("app.cluster.engine.FACTS_SECONDS", -2 * Settings().deadline_seconds + 0.2)
        await replica.reconfigure({"checkpoints": [str(sixteen_crops)]})
        (new,) = replica.facts()
        assert new.digest != old.digest
        assert {old.key, new.key} <= replica._manager.batcher.keys
        await until(lambda: old.key not in replica._manager.batcher.keys)
        assert new.key in replica._manager.batcher.keys
        await replica.reload()
        assert replica.facts() == [new], "loaded again is what the config says by now"
        with pytest.raises(ValueError, match="no such checkpoint folder"):
            await replica.reconfigure({"checkpoints": [str(checkpoint_folder / "nowhere")]})
        assert replica.facts() == [new], "a checkpoint that cannot be used changes nothing"
        await replica.reconfigure({})
        assert replica.facts() == [old], "a config that names none means those of the settings"

    asyncio.run(run())
