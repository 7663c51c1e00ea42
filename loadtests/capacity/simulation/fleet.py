"""A fleet in simulated time: replicas behind a balancer, scaled, deployed anew and lost with their nodes.

What the fleet should be is compared with what it is after each change, as Kubernetes' controllers do, and the
difference is made good.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial

import numpy as np
import simpy

from loadtests.capacity.simulation.autoscaler import Autoscaler
from loadtests.capacity.simulation.balancer import make_balancer
from loadtests.capacity.simulation.loop import call_after
from loadtests.capacity.simulation.replica import Outcome, Replica
from loadtests.capacity.simulation.results import Run, Tally
from loadtests.capacity.simulation.scenario import Scenario
from loadtests.capacity.simulation.workers import make_workers

Steps = Generator[simpy.Event, None, None]  # of a process of simpy


def simulate(scenario: Scenario, seed: int) -> Run:
    """Simulate a scenario once; the same seed gives the same run.

    Raises:
        ScenarioError: the scenario cannot be simulated.
    """
    scenario.check()
    environment = simpy.Environment()
    tally = Tally(scenario.seconds, scenario.warm_up, scenario.interval, scenario.bound)
    fleet = Fleet(environment, scenario, random.Random(seed), tally)
    arrivals = scenario.traffic.arrivals(scenario.seconds, np.random.default_rng(seed))
    environment.process(_arrive(environment, arrivals, fleet.ask))
    environment.run(until=scenario.seconds)
    hours = fleet.replica_seconds() / 3600
    fleet.end()
    environment.run()  # what came before the end is answered
    return tally.run(hours)


class Fleet:
    """The replicas of one model.

    Args:
        chance: of service times, balancers and connections.
        tally: gets the outcome of each request.
    """

    def __init__(self, environment: simpy.Environment, scenario: Scenario, chance: random.Random, tally: Tally) -> None:
        self._environment, self._scenario, self._chance, self._tally = environment, scenario, chance, tally
        self._cluster, self._desired = scenario.cluster, scenario.autoscaling.least
        self._autoscaler = Autoscaler(scenario.autoscaling, self._desired)
        self._choose = make_balancer(scenario.policy, chance)
        self._replicas: list[Replica] = []  # that start, serve, or were lost and are not replaced yet
        self._in_service: list[Replica] = []  # to which the balancer sends
        self._nodes, self._generation, self._open = set(range(self._cluster.nodes)), 0, True
        self._seconds, self._changed = 0.0, self._now()
        self._in_service += [self._launch() for _ in range(self._desired)]
        environment.process(self._watch())
        if scenario.autoscaling.least < scenario.autoscaling.most:
            environment.process(self._scale())
        for time in self._cluster.losses:
            call_after(environment, time, self._lose_node)
        for time in self._cluster.deploys:
            call_after(environment, time, self._deploy)

    def ask(self) -> None:
        """Take a request of a client."""
        self._route(self._now(), self._cluster.retries)

    def replica_seconds(self) -> float:
        """Return the seconds of all replicas from their launch until now, or until they were taken away."""
        self._seconds += len(self._replicas) * (self._now() - self._changed)
        self._changed = self._now()
        return self._seconds

    def end(self) -> None:
        """Change nothing any more."""
        self._open = False

    def _now(self) -> float:
        return float(self._environment.now)

    def _route(self, arrived: float, retries: int, without: Replica | None = None) -> None:
        replicas = self._in_service
        if without is not None:
            replicas = [replica for replica in replicas if replica is not without]
        if not replicas:
            self._record(arrived, "failed")
            return
        replica = replicas[self._choose(replicas)]
        if replica.lost:
            replica.connecting += 1
            call_after(self._environment, self._cluster.connect, partial(self._retry, replica, arrived, retries))
        else:
            replica.take(partial(self._record, arrived))

    def _retry(self, replica: Replica, arrived: float, retries: int) -> None:
        replica.connecting -= 1
        if retries:
            self._route(arrived, retries - 1, replica)
        else:
            self._record(arrived, "failed")

    def _record(self, arrived: float, outcome: Outcome) -> None:
        self._tally.record(arrived, self._now() - arrived + self._scenario.network, outcome)

    def _launch(self) -> Replica:
        """Return a new replica on the machine with the fewest."""
        self.replica_seconds()
        counts = Counter(replica.node for replica in self._replicas)
        node = min(self._nodes, key=lambda number: (counts[number], number))
        scenario = self._scenario
        workers = make_workers(
            self._environment, scenario.discipline, scenario.service, self._chance, self._cluster.workers, scenario.size
        )
        replica = Replica(workers, self._chance, self._now, node, self._generation, self._cluster.connections)
        self._replicas.append(replica)
        return replica

    def _enter_service(self, replica: Replica) -> None:
        if replica in self._replicas and not replica.lost:
            self._in_service.append(replica)
            self._reconcile()

    def _remove(self, replicas: Iterable[Replica]) -> None:
        """Send nothing more to replicas, and count them no more; they answer what they have."""
        self.replica_seconds()
        for replica in replicas:
            self._replicas.remove(replica)
            if replica in self._in_service:
                self._in_service.remove(replica)

    def _reconcile(self) -> None:
        """Take away what is too much, then launch what is missing."""
        if not self._open:
            return
        old = [replica for replica in self._replicas if replica.generation < self._generation]
        self._remove(self._surplus(old))
        old = [replica for replica in old if replica in self._replicas]
        most = self._desired + (math.ceil(self._cluster.surge * self._desired) if old else 0)
        new = len(self._replicas) - len(old)
        for _ in range(min(most - len(self._replicas), self._desired - new)):
            call_after(self._environment, self._cluster.start, partial(self._enter_service, self._launch()))

    def _surplus(self, old: list[Replica]) -> list[Replica]:
        """Return what to take away: old replicas while enough serve without them, else what starts, then the newest."""
        if old:
            serving = [replica for replica in self._in_service if not replica.lost]
            spare = max(0, len(serving) - self._desired)
            replaced = [replica for replica in old if replica in serving][:spare]
            return replaced + [replica for replica in old if replica not in self._in_service]
        starting = [replica for replica in self._replicas if replica not in self._in_service]
        newest = [replica for replica in reversed(self._replicas) if replica in self._in_service]
        return [*starting, *newest][: max(0, len(self._replicas) - self._desired)]

    def _scale(self) -> Steps:
        autoscaling = self._scenario.autoscaling
        while self._open:
            yield self._environment.timeout(autoscaling.interval)
            values = [replica.reading(autoscaling.metric) for replica in self._in_service if not replica.lost]
            silent = len(self._replicas) - len(values)
            self._desired = self._autoscaler.decide(self._now(), values, silent)
            self._reconcile()

    def _watch(self) -> Steps:
        """Note the number of replicas at the start of each point of the course."""
        for number in range(self._tally.points):
            self._tally.see(number, len(self._in_service))
            yield self._environment.timeout(self._scenario.interval)

    def _lose_node(self) -> None:
        """Lose the machine with the most replicas."""
        if not self._open:
            return
        counts = Counter(replica.node for replica in self._replicas)
        node = max(self._nodes, key=lambda number: (counts[number], -number))
        self._nodes.remove(node)
        lost = [replica for replica in self._replicas if replica.node == node]
        for replica in lost:
            replica.lose()
        call_after(self._environment, self._cluster.detection, partial(self._leave_out, lost))
        call_after(self._environment, self._cluster.replacement, partial(self._replace, lost))

    def _leave_out(self, lost: list[Replica]) -> None:
        self._in_service = [replica for replica in self._in_service if replica not in lost]

    def _replace(self, lost: list[Replica]) -> None:
        self._remove([replica for replica in lost if replica in self._replicas])
        self._reconcile()

    def _deploy(self) -> None:
        self._generation += 1
        self._reconcile()


def _arrive(environment: simpy.Environment, arrivals: Iterator[float], ask: Callable[[], None]) -> Steps:
    for time in arrivals:
        yield environment.timeout(max(0.0, time - environment.now))
        ask()
