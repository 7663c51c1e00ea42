"""The run's metrics are what Locust counted."""

from prometheus_client import CollectorRegistry

from loadtests.results.metrics import LoadCollector
from tests.support.loadtests.statistics import statistics


def test_requests_are_counted_by_model_kind_and_outcome() -> None:
    found = statistics(
        flights_native=(100, 3, {5: 90, 40: 10}), flights_shed=(7, 7, {1: 7}), linear_edge=(4, 0, {1: 4})
    )
    registry = CollectorRegistry()
    registry.register(LoadCollector(lambda: found, lambda: 12, ["flights", "linear"]))

    def count(model: str, kind: str, outcome: str) -> float | None:
        return registry.get_sample_value("locust_requests_total", {"model": model, "kind": kind, "outcome": outcome})

    assert (count("flights", "native", "right"), count("flights", "native", "wrong")) == (97, 3)
    assert (count("flights", "shed", "right"), count("flights", "shed", "shed")) == (0, 7)
    assert count("linear", "edge", "right") == 4
    assert registry.get_sample_value("locust_users") == 12


def test_durations_are_a_histogram_in_seconds() -> None:
    found = statistics(flights_native=(100, 0, {5: 90, 40: 10}))
    registry = CollectorRegistry()
    registry.register(LoadCollector(lambda: found, lambda: 0, ["flights"]))

    def bucket(bound: str) -> float | None:
        name = "locust_request_duration_seconds_bucket"
        return registry.get_sample_value(name, {"model": "flights", "le": bound})

    assert [bucket(bound) for bound in ("0.002", "0.005", "0.02", "0.05", "+Inf")] == [0, 90, 90, 100, 100]
    assert registry.get_sample_value("locust_request_duration_seconds_count", {"model": "flights"}) == 100
    assert registry.get_sample_value("locust_request_duration_seconds_sum", {"model": "flights"}) == 0.85


def test_the_labels_are_of_closed_sets() -> None:
    found = statistics(flights_native=(1, 0, {1: 1}), flights_other=(1, 0, {1: 1}), nobody_native=(1, 0, {1: 1}))
    registry = CollectorRegistry()
    registry.register(LoadCollector(lambda: found, lambda: 0, ["flights"]))
    families = {family.name: family for family in registry.collect()}
    samples = {(s.labels["model"], s.labels["kind"]) for s in families["locust_requests"].samples}
    assert samples == {("flights", "native")}
