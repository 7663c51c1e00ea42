"""What the front refused is counted once, whichever of the two processes began anew."""

from prometheus_client import CollectorRegistry

from serving.hosts.ray.front.refusals import Refusals

UNKNOWN, AWAY = "404/not_found///", "503/overloaded/v2/linear/1.0"
NOBODY = {"model": "", "version": ""}
LINEAR = {"model": "linear", "version": "1.0"}


class Front:
    """Counts refusals, and may not run."""

    def __init__(self) -> None:
        self.counts: dict[str, int] | None = {}

    def __call__(self) -> dict[str, int]:
        if self.counts is None:
            raise ConnectionRefusedError
        return self.counts


def test_each_refusal_is_counted_once_by_protocol_status_and_reason() -> None:
    registry, front = CollectorRegistry(), Front()
    refusals = Refusals(front, registry)
    for counts in ({}, {UNKNOWN: 2}, {UNKNOWN: 3, AWAY: 1}):
        front.counts = counts
        refusals.look()
    unknown = {**NOBODY, "protocol": "unknown", "code": "404"}
    assert registry.get_sample_value("model_requests_total", unknown) == 3
    assert registry.get_sample_value("model_input_errors_total", {**NOBODY, "reason": "not_found"}) == 3
    away = {**LINEAR, "protocol": "v2", "code": "503"}
    assert registry.get_sample_value("model_requests_total", away) == 1
    assert registry.get_sample_value("model_input_errors_total", {**LINEAR, "reason": "overloaded"}) is None


def test_a_front_that_began_anew_counts_from_nothing_and_one_that_does_not_run_harms_nobody() -> None:
    registry, front = CollectorRegistry(), Front()
    refusals = Refusals(front, registry)
    for counts in ({}, {UNKNOWN: 5}, None, {UNKNOWN: 2}):
        front.counts = counts
        refusals.look()
    unknown = {**NOBODY, "protocol": "unknown", "code": "404"}
    assert registry.get_sample_value("model_requests_total", unknown) == 7


def test_what_another_process_counted_before_is_not_counted_again() -> None:
    registry, front = CollectorRegistry(), Front()
    front.counts = {UNKNOWN: 40}
    refusals = Refusals(front, registry)
    refusals.look()
    front.counts = {UNKNOWN: 41}
    refusals.look()
    unknown = {**NOBODY, "protocol": "unknown", "code": "404"}
    assert registry.get_sample_value("model_requests_total", unknown) == 1
