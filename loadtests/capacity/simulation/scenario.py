"""Scenarios: everything that a simulated fleet depends on but chance."""

from typing import Annotated

import msgspec
from msgspec import Meta

from loadtests.capacity.simulation.autoscaler import Autoscaling
from loadtests.capacity.simulation.balancer import Policy
from loadtests.capacity.simulation.service import Service
from loadtests.capacity.simulation.traffic import Traffic
from loadtests.capacity.simulation.workers import Discipline

Seconds = Annotated[float, Meta(ge=0)]
Number = Annotated[int, Meta(ge=1)]
MOST_REQUESTS = 50_000_000  # of a run, which would take an hour


class ScenarioError(ValueError):
    """A scenario cannot be simulated."""


class Cluster(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The machines, and what looks after the replicas on them; defaults are Kubernetes' where it has one.

    Attributes:
        nodes: machines over which replicas are spread; each holds as many as come.
        workers: processes of a replica, each on a core of its own.
        connections: that the balancer keeps open to a replica; the system gave each to one of its workers. 0: each
            request comes on a new one.
        start: s from the decision for a replica to its first request.
        detection: s until the balancer leaves out the replicas of a lost node.
        replacement: s until they are started elsewhere: 40 until a node counts as lost, and 300 of toleration.
        connect: s after which a request to a lost node goes to another replica.
        retries: how often one does, as in HAProxy where nothing else is set.
        surge: share of the replicas that a deploy may start beside the old ones.
        losses: s from the start, each the loss of a node.
        deploys: s from the start, each a deploy of a new version.
    """

    nodes: Number = 3
    workers: Number = 1
    connections: Annotated[int, Meta(ge=0)] = 0
    start: Seconds = 5.0
    detection: Seconds = 10.0
    replacement: Seconds = 340.0
    connect: Seconds = 1.0
    retries: Annotated[int, Meta(ge=0)] = 3
    surge: Annotated[float, Meta(gt=0)] = 0.25
    losses: tuple[Seconds, ...] = ()
    deploys: tuple[Seconds, ...] = ()


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fleet and its traffic.

    Attributes:
        seconds: length.
        warm_up: s at the start whose requests are not counted.
        size: bytes of a request's body.
        network: s that a request takes beside its worker.
        bound: s within which an answer is good.
        interval: s of a point of the course over time.
    """

    service: Service
    traffic: Traffic
    autoscaling: Autoscaling
    seconds: Annotated[float, Meta(gt=0)]
    warm_up: Seconds = 0.0
    discipline: Discipline = "batches"
    policy: Policy = "least-connections"
    cluster: Cluster = Cluster()
    size: Annotated[int, Meta(ge=0)] = 0
    network: Seconds = 0.0
    bound: Annotated[float, Meta(gt=0)] = 0.1
    interval: Annotated[float, Meta(gt=0)] = 60.0

    def check(self) -> None:
        """Check what the types do not.

        Raises:
            ScenarioError: says what would be right.
        """
        expected = self.traffic.expected(self.seconds)
        if expected > MOST_REQUESTS:
            raise ScenarioError(
                f"{expected:,.0f} requests would take hours: at most {MOST_REQUESTS:,} are simulated. Take a smaller "
                "peak, a shorter time, or a slower model"
            )
        if self.warm_up >= self.seconds:
            raise ScenarioError(f"the warm-up of {self.warm_up:g} s must be shorter than the {self.seconds:g} s in all")
        if self.autoscaling.most < self.autoscaling.least:
            raise ScenarioError("`most` replicas must be as many as `least` replicas, or more")
        if len(self.cluster.losses) >= self.cluster.nodes:
            raise ScenarioError(f"of {self.cluster.nodes} nodes at most {self.cluster.nodes - 1} can be lost")
