import random
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from app.cluster import autoscaling
from app.cluster.autoscaling import Load, by_queued_crops, options, wanted


def even(count: int, busy: float, drain: float = 0.0) -> list[Load]:
    return [Load(queued_crops=100 * drain, drain_seconds=drain, busy=busy) for _ in range(count)]


@pytest.mark.parametrize(
    ("loads", "count"),
    [
        ([], 0),
        (even(4, 0.0), 0),
        (even(1, 0.01), 1),
        (even(3, 0.7), 3),
        (even(3, 0.71), 4),
        (even(10, 0.35), 5),
        # Ten that compute all the time are the work of 14.3; 50 s of device time within 5 s are the work of ten more.
        (even(10, 1.0, 5.0), 25),
    ],
)
def test_as_many_as_what_is_computed_and_what_waits_want(loads: list[Load], count: int) -> None:
    assert wanted(loads, target_busy=0.7, drain_within=5.0) == count


def test_replicas_that_have_just_started_change_nothing() -> None:
    loads = even(4, 0.9, 2.0)
    assert wanted([*loads, *even(8, 0.0)]) == wanted(loads) > 4


def test_the_same_work_on_more_replicas_wants_as_many() -> None:
    assert wanted(even(20, 0.45, 0.5)) == wanted(even(10, 0.9, 1.0))


def test_crops_on_a_replica_that_has_computed_nothing_wait_as_long_as_those_on_others() -> None:
    slow = Load(queued_crops=50, drain_seconds=10.0, busy=1.0)
    new = Load(queued_crops=100, drain_seconds=0.0, busy=0.0)
    assert wanted([slow, new], target_busy=1.0, drain_within=5.0) == 1 + 6
    assert wanted([new], target_busy=1.0, drain_within=5.0) == 0  # nobody knows


def context(target: int, **metrics: dict[str, list[float]]) -> Any:
    """What Serve hands to a policy, of the numbers by name and replica."""
    return SimpleNamespace(
        target_num_replicas=target,
        raw_metrics={
            name: {replica: [SimpleNamespace(value=value) for value in series] for replica, series in of.items()}
            for name, of in metrics.items()
        },
    )


def test_the_latest_sample_of_each_replica_counts() -> None:
    given = context(
        2,
        queued_crops={"a": [0.0, 1000.0], "b": [1000.0, 0.0]},
        drain_seconds={"a": [0.0, 10.0], "b": [10.0, 0.0]},
        busy={"a": [0.1, 1.0], "b": [1.0, 0.4]},
    )
    assert by_queued_crops(given) == (7, {})  # 1.4 / 0.7 + 10 / 2


@pytest.mark.parametrize("metrics", [None, {}, {"busy": {}}, {"busy": {"a": []}}])
def test_without_reports_it_stays_as_it_is(metrics: dict[str, Any] | None) -> None:
    assert by_queued_crops(SimpleNamespace(target_num_replicas=7, raw_metrics=metrics)) == (7, {})


def test_a_number_that_is_not_reported_is_none() -> None:
    assert by_queued_crops(context(5, busy={"a": [0.7], "b": [0.7]})) == (2, {})
    assert by_queued_crops(context(5, queued_crops={"a": [8.0]})) == (0, {})


def test_it_is_a_policy_that_serve_takes() -> None:
    config = pytest.importorskip("ray.serve.config")
    serve = pytest.importorskip("ray.serve.autoscaling_policy")
    taken = config.AutoscalingConfig(**options(2, 30))
    assert (taken.min_replicas, taken.max_replicas) == (2, 30)
    # As the controller does: pickled, read again, wrapped in Serve's own delays.
    policy = serve._apply_autoscaling_config(taken.policy.get_policy())
    assert policy(of_serve(taken, running=2, target=2, busy=1.0, drain=5.0))[0] == 8  # at once
    fewer, state = policy(of_serve(taken, running=9, target=9, busy=0.1, drain=0.0))
    assert fewer == 9  # not at once
    assert state


def of_serve(config: Any, *, running: int, target: int, busy: float, drain: float) -> Any:
    from ray.serve._private.common import TimeStampedValue
    from ray.serve.config import AutoscalingContext

    numbers = {"queued_crops": 100 * drain, "drain_seconds": drain, "busy": busy}
    return AutoscalingContext(
        deployment_id=None,
        deployment_name="Engine",
        app_name="smart-iqa",
        current_num_replicas=running,
        target_num_replicas=target,
        running_replicas=list(range(running)),
        total_num_requests=0,
        total_queued_requests=0,
        aggregated_metrics=None,
        raw_metrics=lambda: {
            name: {replica: [TimeStampedValue(0.0, value)] for replica in range(running)}
            for name, value in numbers.items()
        },
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=100,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=None,
        config=config,
    )


def test_ray_is_not_imported() -> None:
    code = f"import sys, {autoscaling.__name__}; sys.exit('ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_more_work_never_wants_fewer() -> None:
    rng = random.Random(0)
    for _ in range(200):
        loads = [
            Load(queued_crops=100 * drain, drain_seconds=drain, busy=rng.random())
            for drain in (rng.choice([0.0, rng.random() * 10]) for _ in range(rng.randint(1, 20)))
        ]
        more = Load(queued_crops=10.0, drain_seconds=0.1, busy=rng.random())
        assert wanted([*loads, more]) >= wanted(loads)
