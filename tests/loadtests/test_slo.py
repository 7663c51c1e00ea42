"""What was measured is judged by the objectives of the model and the profile."""

from pathlib import Path

import pytest

from loadtests.profiles import PROFILES
from loadtests.slo import Measured, Objectives, failed, judge, read_slo

OBJECTIVES = Objectives(p95_ms=100, p99_ms=200, error_ratio=0.01, throughput=10)
GOOD = Measured(requests=1000, errors=10, shed=0, seconds=50, times={50: 960, 150: 40})


def names(measured: Measured, objectives: Objectives = OBJECTIVES, recovery: Measured | None = None) -> list[str]:
    return [verdict.objective for verdict in failed(judge("flights", objectives, measured, recovery))]


def test_a_run_that_meets_everything_fails_nothing() -> None:
    assert names(GOOD) == []


@pytest.mark.parametrize(
    ("measured", "objective"),
    [
        (Measured(1000, 0, 0, 50, {50: 940, 150: 60}), "p95_ms"),
        (Measured(1000, 0, 0, 50, {50: 980, 250: 20}), "p99_ms"),
        (Measured(1000, 11, 0, 50, {50: 1000}), "error_ratio"),
        (Measured(1000, 0, 1, 50, {50: 999}), "shed_ratio"),
        (Measured(1000, 0, 0, 101, {50: 1000}), "throughput"),
    ],
)
def test_each_objective_is_named_when_it_is_missed(measured: Measured, objective: str) -> None:
    assert names(measured) == [objective]


def test_only_right_answers_count_as_throughput() -> None:
    objectives = Objectives(p95_ms=100, p99_ms=200, error_ratio=1, shed_ratio=1, throughput=10)
    assert names(Measured(1000, 200, 0, 100, {50: 1000}), objectives) == ["throughput"]
    assert names(Measured(1000, 0, 200, 100, {50: 800}), objectives) == ["throughput"]


@pytest.mark.parametrize(
    ("measured", "objective"),
    [
        (Measured(100, seconds=10, times={50: 100}, first_times={90: 94, 310: 6}, tokens=900), "ttft_p95_ms"),
        (Measured(100, seconds=10, times={50: 100}, first_times={90: 95, 310: 5}, tokens=799), "tokens_per_second"),
        (Measured(100, seconds=10, times={50: 100}, tokens=900), "ttft_p95_ms"),
    ],
)
def test_a_language_model_is_judged_by_its_first_tokens_and_by_their_rate(measured: Measured, objective: str) -> None:
    objectives = Objectives(100, 200, 0, 10, ttft_p95_ms=300, tokens_per_second=80)
    assert names(measured, objectives) == [objective]


def test_a_model_that_got_no_request_fails() -> None:
    assert {"p95_ms", "p99_ms", "throughput"} <= set(names(Measured()))


def test_recovery_is_judged_by_its_own_stage() -> None:
    objectives = Objectives(p95_ms=1000, p99_ms=1000, error_ratio=0.01, throughput=1, recovery_p95_ms=100)
    before = Measured(500, 0, 0, 20, {50: 100, 500: 400})
    quick = Measured(600, 0, 0, 30, {50: 200, 500: 400})
    slow = Measured(600, 0, 0, 30, {50: 100, 500: 500})
    assert quick.since(before) == Measured(100, 0, 0, 10, {50: 100, 500: 0})
    assert names(quick, objectives, quick.since(before)) == []
    assert names(slow, objectives, slow.since(before)) == ["recovery_p95_ms"]


def test_a_missed_objective_is_told_with_measured_against_limit() -> None:
    (verdict,) = failed(judge("flights", OBJECTIVES, Measured(1000, 0, 0, 50, {50: 940, 150: 60})))
    assert str(verdict) == "flights: p95_ms is 150, but must be at most 100"
    (verdict,) = failed(judge("flights", OBJECTIVES, Measured(1000, 0, 0, 200, {50: 1000})))
    assert str(verdict) == "flights: throughput is 5, but must be at least 10"


def test_a_percentile_is_the_time_within_which_that_share_ended() -> None:
    measured = Measured(100, times={1: 94, 2: 1, 30: 5})
    assert [measured.percentile(share) for share in (0.5, 0.94, 0.95, 0.96, 1.0)] == [1, 1, 2, 30, 30]
    assert Measured().percentile(0.5) == float("inf")


FILE = """
default: {p95_ms: 100, p99_ms: 200, error_ratio: 0, throughput: 5, profiles: {stress: {p95_ms: 900, shed_ratio: 1}}}
models:
  flights: {p95_ms: 50, weight: 3, profiles: {stress: {p99_ms: 800, pacing: 2}}}
"""


def test_a_model_overrides_the_default_and_a_profile_both(tmp_path: Path) -> None:
    path = tmp_path / "slo.yaml"
    path.write_text(FILE)
    slo = read_slo(path)
    assert slo.objectives("other", "smoke") == Objectives(100, 200, 0, 5)
    assert slo.objectives("flights", "smoke") == Objectives(50, 200, 0, 5)
    assert slo.objectives("flights", "stress") == Objectives(900, 800, 0, 5, shed_ratio=1)
    assert (slo.weight("flights"), slo.weight("other")) == (3, 1)
    assert [slo.pacing(*one, otherwise=0.1) for one in (("flights", "stress"), ("flights", "smoke"))] == [2, 0.1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default: {p95: 1}", "unknown field `p95`"),
        ("default: {p95_ms: fast}", "Expected `float`, got `str`"),
        ("default: [", "slo.yaml"),
    ],
)
def test_a_fault_of_the_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "slo.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_slo(path)


def test_a_missing_objective_is_named(tmp_path: Path) -> None:
    path = tmp_path / "slo.yaml"
    path.write_text("default: {p95_ms: 1, p99_ms: 1, error_ratio: 0}")
    with pytest.raises(ValueError, match=r"flights, smoke.*throughput"):
        read_slo(path).objectives("flights", "smoke")


def test_the_repositorys_file_has_objectives_for_every_model_and_profile() -> None:
    slo = read_slo()
    for model in (*slo.models, "a model of the user's"):
        for profile in PROFILES:
            assert slo.objectives(model, profile).throughput > 0
        assert slo.objectives(model, "spike").recovery_p95_ms
