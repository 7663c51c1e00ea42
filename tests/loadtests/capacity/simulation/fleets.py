"""Scenarios of tests: a constant rate at a fixed fleet, with what differs given."""

from typing import Any

from loadtests.capacity.simulation.autoscaler import Autoscaling
from loadtests.capacity.simulation.scenario import Cluster, Scenario
from loadtests.capacity.simulation.service import Service
from loadtests.capacity.simulation.traffic import Traffic

QUICK = Service(0.0, 0.01)


def fleet(rate: float, seconds: float, replicas: int = 1, service: Service = QUICK, **others: Any) -> Scenario:
    """A fleet without a warm-up; fields of its cluster may be named as its own are."""
    cluster = {name: others.pop(name) for name in Cluster.__struct_fields__ if name in others}
    values: dict[str, Any] = {
        "traffic": Traffic(rate),
        "autoscaling": Autoscaling(replicas, replicas),
        "interval": 1.0,
        "cluster": Cluster(**cluster),
    }
    return Scenario(service=service, seconds=seconds, **(values | others))
