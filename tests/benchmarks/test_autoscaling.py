import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.cluster.autoscaling import Load, options, wanted
from benchmarks.fleet import DAY, REPORT_SECONDS, Autoscaler, Fleet, World, simulate, spread

WORLD = World(crops_per_second=100.0, mean_work=4.0, spike=(600, 900), seconds=2400)
FLEET = Fleet(least=4, most=200, start_seconds=5.0)


def test_crops_go_to_the_shortest_queues() -> None:
    queues = np.array([5.0, 0.0, 1.0])
    assert spread(queues, 3.0, 100.0).tolist() == [0.0, 2.0, 1.0]
    assert spread(queues, 12.0, 100.0).tolist() == [1.0, 6.0, 5.0]
    assert spread(queues, 12.0, 4.0).tolist() == [0.0, 4.0, 3.0]  # five find all of them full
    assert spread(queues, 0.0, 100.0).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("start_seconds", "seconds"), [(5.0, 612), (150.0, 650)])
def test_what_is_offered_is_answered_shed_or_waits(start_seconds: float, seconds: int) -> None:
    # It ends in the spike, with full queues.
    result = simulate(replace(FLEET, start_seconds=start_seconds), replace(WORLD, seconds=seconds))
    day = result.day
    assert min(day.answered, day.shed, result.waiting) > 100
    assert day.answered + day.shed + result.waiting == pytest.approx(day.offered)
    assert day.waits.sum() == pytest.approx(day.offered - day.shed)


def test_enough_replicas_shed_nothing_and_half_of_them_do() -> None:
    most = 4.0 * 1.5 * 10
    enough = simulate(replace(FLEET, least=math.ceil(1.2 * most), most=200), WORLD)
    half = simulate(replace(FLEET, least=5, most=5), WORLD)
    assert (enough.day.shed, enough.spike.percentile(0.99)) == (0.0, 0.0)
    # Five replicas do the work of five, of the 20 and more that the spike asks for.
    assert half.spike.shed / half.spike.offered == pytest.approx(1 - 5 / 20, abs=0.1)
    # Their queues are full: what is taken waits for as long as a queue takes.
    assert half.spike.percentile(0.99) == pytest.approx(1024 / 100, abs=1.0)


def test_replicas_that_start_sooner_shed_less() -> None:
    soon, late = (simulate(replace(FLEET, start_seconds=seconds), WORLD) for seconds in (5.0, 150.0))
    fixed = simulate(replace(FLEET, most=4), WORLD)
    assert 0 < soon.day.shed < late.day.shed < fixed.day.shed


def test_what_nobody_waits_for_any_more_is_not_taken() -> None:
    overloaded = replace(FLEET, least=4, most=4)
    patient = simulate(overloaded, replace(WORLD, deadline=30.0))
    hurried = simulate(overloaded, replace(WORLD, deadline=2.0))
    assert patient.spike.percentile(0.99) > 9
    assert hurried.spike.percentile(0.99) <= 2.1


def test_the_same_seed_makes_the_same_day() -> None:
    world = replace(WORLD, seconds=700)
    assert simulate(FLEET, world).rows == simulate(FLEET, world).rows
    assert simulate(FLEET, world, seed=1).day.offered != simulate(FLEET, world).day.offered


def test_a_day_is_lowest_at_midnight_and_three_times_as_high_at_noon() -> None:
    world = World(crops_per_second=1.0)
    assert world.work(DAY // 2) == pytest.approx(3 * world.work(0))
    assert world.work(world.spike[0]) == pytest.approx(10 * world.work(world.spike[0] - 1), rel=1e-3)


def test_delays_and_steps_are_those_of_ray_serve() -> None:
    serve = pytest.importorskip("ray.serve.autoscaling_policy")
    config = pytest.importorskip("ray.serve.config").AutoscalingConfig(**options(1, 100))
    ours, theirs = Autoscaler(Fleet(least=1, most=100, start_seconds=0.0), 10), 10
    rng = random.Random(0)
    state: dict[str, Any] = {}
    seen = set()
    for step in range(1000):
        now = 1.0 + step * REPORT_SECONDS
        # Mostly fewer, for spans around the delay; all replicas run that are asked for.
        busy = rng.choice([8.0, 3.0]) if step % 197 > 1 else 30.0
        loads = [Load(busy=busy / theirs)] * theirs
        number = ours.decide(loads, now)
        scaled = serve._apply_scaling_factors(wanted(loads), theirs, config)
        theirs, state = serve._apply_delay_logic(scaled, theirs, config, state, _now=now)
        assert number == theirs, step
        seen.add(number)
    assert len(seen) > 4
