"""A fleet that is scaled, deployed anew, overloaded, and loses nodes."""

import math
import random

import pytest
import simpy

from loadtests.capacity.simulation.autoscaler import Autoscaling, Metric
from loadtests.capacity.simulation.fleet import simulate
from loadtests.capacity.simulation.replica import Outcome, Replica
from loadtests.capacity.simulation.results import Run, describe, interval
from loadtests.capacity.simulation.scenario import Scenario, ScenarioError
from loadtests.capacity.simulation.service import Service
from loadtests.capacity.simulation.traffic import Traffic
from loadtests.capacity.simulation.workers import Discipline, make_workers
from serving.hosts.direct.batches import LONG
from tests.loadtests.capacity.simulation.fleets import QUICK, fleet

BURST = Traffic(25, burst=4, burst_at=300, burst_seconds=600)
SLOW = Service(0.0, 0.04)
SCALED = Autoscaling(2, 12)


def replicas(run: Run, start: float, end: float) -> list[int]:
    return [point.replicas for point in run.course if start <= point.time < end]


def test_the_same_seed_is_the_same_run_and_another_is_not() -> None:
    scenario = fleet(150, 20, replicas=2, service=Service(0.001, 0.009, 0.5))
    first, again, other = (simulate(scenario, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.mean != other.mean


def test_every_request_has_one_outcome() -> None:
    run = simulate(fleet(500, 20, replicas=2, losses=(10.0,), nodes=2), seed=0)  # twice what they can, then four times
    assert run.requests == round(sum(point.rate for point in run.course))
    assert min(run.refused, run.failed) > 0


def test_under_overload_the_host_refuses_and_those_it_takes_wait_for_a_second_at_most() -> None:
    run = simulate(fleet(300, 60), seed=0)
    assert run.refused / run.requests == pytest.approx(2 / 3, rel=0.1)
    assert run.p99 < LONG + 2 * 0.25  # the batch before it, and its own
    unbounded = simulate(fleet(300, 60, discipline="queue"), seed=0)
    assert unbounded.refused == 0
    assert unbounded.p99 > 20


def test_the_loss_of_a_node_fails_what_is_in_flight_there_and_nothing_else() -> None:
    run = simulate(fleet(240, 120, replicas=6, nodes=3, losses=(30.0,), replacement=60.0), seed=0)
    assert 0 < run.failed < 50
    assert {point.time for point in run.course if point.failed} <= set(range(29, 41))
    assert replicas(run, 41, 90) == [4] * 49
    assert replicas(run, 96, 120) == [6] * 24


def test_without_a_second_try_requests_fail_until_the_node_is_left_out() -> None:
    tried, not_tried = (
        simulate(fleet(240, 60, 6, nodes=3, losses=(30.0,), retries=tries, policy="round-robin"), seed=0)
        for tries in (3, 0)
    )
    assert not_tried.failed > 10 * tried.failed
    assert not_tried.failed == pytest.approx(10 * 240 / 3, rel=0.1)


def test_a_balancer_that_counts_connections_sends_little_to_a_node_that_answers_nothing() -> None:
    counting, turning = (
        simulate(fleet(240, 60, 6, nodes=3, losses=(30.0,), retries=0, policy=policy), seed=0)
        for policy in ("least-connections", "round-robin")
    )
    assert counting.failed < turning.failed / 2


def test_a_fleet_whose_only_replica_is_lost_fails_everything_until_it_is_replaced() -> None:
    run = simulate(fleet(20, 100, nodes=2, losses=(10.0,), replacement=40.0), seed=0)
    assert {point.failed > 0 for point in run.course[21:50]} == {True}
    assert {point.failed for point in run.course[56:]} == {0}


def test_a_deploy_fails_nothing_and_keeps_as_many_in_service_as_before() -> None:
    run = simulate(fleet(300, 120, replicas=8, deploys=(30.0,)), seed=0)
    assert (run.failed, run.refused) == (0, 0)
    assert min(replicas(run, 0, 120)) == 8
    assert max(replicas(run, 0, 120)) <= 10
    assert run.replica_hours > simulate(fleet(300, 120, replicas=8), seed=0).replica_hours


def test_autoscaling_follows_a_burst_and_costs_less_than_machines_for_it_at_all_times() -> None:
    scenario = fleet(0, 1800, service=SLOW, traffic=BURST, autoscaling=SCALED, interval=15.0)
    run = simulate(scenario, seed=0)
    fixed = simulate(
        fleet(0, 1800, service=SLOW, traffic=BURST, autoscaling=Autoscaling(12, 12), interval=15.0), seed=0
    )
    assert max(replicas(run, 0, 300)) < 4
    assert min(replicas(run, 600, 900)) >= 6  # of 25 requests/s each, at a target of 0.6
    assert replicas(run, 1500, 1800)[-1] < 4
    assert run.replica_hours < 0.6 * fixed.replica_hours
    assert run.refused > fixed.refused == 0


def test_the_longer_a_replica_takes_to_start_the_more_are_refused_in_a_burst() -> None:
    late = [
        simulate(
            fleet(0, 600, service=SLOW, traffic=BURST, autoscaling=SCALED, start=start, interval=15.0), seed=0
        ).late
        for start in (1.0, 30.0, 90.0)
    ]
    assert late == sorted(late)
    assert late[0] < late[-1]


@pytest.mark.parametrize(("discipline", "in_flight"), [("batches", 4 * 0.04), ("queue", (4 + 3 + 2 + 1) * 0.01)])
@pytest.mark.parametrize("metric", ["cpu", "in-flight"])
def test_a_replica_tells_how_busy_it_was_and_how_many_requests_it_had(
    discipline: Discipline, in_flight: float, metric: Metric
) -> None:
    environment, chance = simpy.Environment(), random.Random(0)
    workers = make_workers(environment, discipline, QUICK, chance, 1, 0)
    replica = Replica(workers, chance, lambda: float(environment.now))
    outcomes: list[Outcome] = []
    for _ in range(4):
        replica.take(outcomes.append)
    assert replica.in_flight == 4
    environment.run(until=0.1)
    assert outcomes == ["answered"] * 4
    assert replica.reading(metric) == pytest.approx(0.4 if metric == "cpu" else in_flight / 0.1)
    environment.run(until=0.2)
    assert replica.reading(metric) == 0


def test_figures_of_several_runs_are_a_mean_with_an_interval_and_of_one_a_mean_alone() -> None:
    runs = [Run(100 + i, 0, 0, 0.0, 0.0, 0.1, 0.2, 1.0, []) for i in range(3)]
    told = interval(runs, lambda run: run.requests)
    assert (told.mean, told.half) == pytest.approx((101.0, 2.484), abs=0.001)
    assert math.isinf(interval(runs[:1], lambda run: run.requests).half)
    assert "±" in "".join(describe(runs, 0.1))
    assert "±" not in "".join(describe(runs[:1], 0.1))


@pytest.mark.parametrize(
    ("scenario", "fault"),
    [
        (fleet(1e6, 86_400), "at most 50,000,000 are simulated"),
        (fleet(1, 10, warm_up=10.0), "must be shorter than"),
        (fleet(1, 10, losses=(1.0, 2.0, 3.0)), "at most 2 can be lost"),
        (fleet(1, 10, autoscaling=Autoscaling(3, 2)), "or more"),
    ],
)
def test_what_cannot_be_simulated_is_said_before_it_runs(scenario: Scenario, fault: str) -> None:
    with pytest.raises(ScenarioError, match=fault):
        simulate(scenario, 0)


def test_few_connections_to_a_machine_of_many_cores_leave_some_of_them_idle() -> None:
    refused = [
        simulate(fleet(560, 60, workers=8, connections=connections), seed=0).refused  # 70 % of what 8 cores answer
        for connections in (8, 64, 0)
    ]
    assert refused[0] > refused[1] >= refused[2] == 0
