"""What the environment says of the loop."""

from datetime import timedelta

import pytest

from monitoring.retraining.policy import JudgePolicy, RetrainPolicy, WatchPolicy


def test_without_variables_the_defaults_hold_and_empty_ones_are_unset() -> None:
    assert RetrainPolicy.from_environment({}) == RetrainPolicy()
    assert RetrainPolicy.from_environment({"MARLOOP_RETRAIN": "", "MARLOOP_RETRAIN_DAYS": ""}) == RetrainPolicy()
    assert WatchPolicy.from_environment({}) == WatchPolicy()
    judging = JudgePolicy.from_environment({})
    assert (judging.shadow_requests, judging.latency) == (200, 1.2)


def test_variables_change_the_policy() -> None:
    environ = {
        "MARLOOP_RETRAIN": "off",
        "MARLOOP_RETRAIN_DAYS": "90",
        "MARLOOP_RETRAIN_MOST_ROWS": "5000",
        "MARLOOP_RETRAIN_HOLDOUT": "0.2",
        "MARLOOP_RETRAIN_ROWS": "50",
        "MARLOOP_RETRAIN_COOLDOWN_HOURS": "168",
        "MARLOOP_RETRAIN_PER_DAY": "2",
        "MARLOOP_RETRAIN_EVERY_HOURS": "24.5",
        "MARLOOP_RETRAIN_LIMIT_MINUTES": "0.5",
    }
    policy = RetrainPolicy.from_environment(environ)
    assert (policy.enabled, policy.most_rows, policy.holdout, policy.rows, policy.per_day) == (False, 5000, 0.2, 50, 2)
    assert (policy.age, policy.cooldown) == (timedelta(days=90), timedelta(days=7))
    assert (policy.every, policy.limit) == (timedelta(hours=24.5), timedelta(seconds=30))
    watch = WatchPolicy.from_environment({"MARLOOP_WATCH_HOURS": "0", "MARLOOP_WATCH_ROWS": "50"})
    assert (watch.age, watch.rows) == (timedelta(0), 50)
    judging = JudgePolicy.from_environment({"MARLOOP_SHADOW_REQUESTS": "0", "MARLOOP_JUDGE_LATENCY": "2"})
    assert (judging.shadow_requests, judging.latency) == (0, 2)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MARLOOP_RETRAIN", "yes"),
        ("MARLOOP_RETRAIN_DAYS", "0"),
        ("MARLOOP_RETRAIN_DAYS", "nan"),
        ("MARLOOP_RETRAIN_MOST_ROWS", "1e5"),
        ("MARLOOP_RETRAIN_HOLDOUT", "1"),
        ("MARLOOP_RETRAIN_ROWS", "0"),
        ("MARLOOP_RETRAIN_COOLDOWN_HOURS", "-1"),
        ("MARLOOP_RETRAIN_PER_DAY", "0"),
        ("MARLOOP_RETRAIN_EVERY_HOURS", "weekly"),
        ("MARLOOP_RETRAIN_LIMIT_MINUTES", "inf"),
        ("MARLOOP_WATCH_HOURS", "-1"),
        ("MARLOOP_WATCH_ROWS", "five"),
        ("MARLOOP_SHADOW_REQUESTS", "-1"),
        ("MARLOOP_JUDGE_LATENCY", "0.5"),
        ("MARLOOP_JUDGE_LATENCY", "500"),
    ],
)
def test_a_value_out_of_range_is_an_error_that_names_the_variable(variable: str, value: str) -> None:
    def read() -> list[object]:
        policies = (RetrainPolicy, WatchPolicy, JudgePolicy)
        return [policy.from_environment({variable: value}) for policy in policies]

    with pytest.raises(ValueError, match=f"{variable} is '{value}'; it must be"):
        read()


def test_so_many_rows_are_needed_that_the_judge_has_enough() -> None:
    assert RetrainPolicy().enough_for(200).rows == 2000
    assert RetrainPolicy(rows=5000).enough_for(200).rows == 5000
