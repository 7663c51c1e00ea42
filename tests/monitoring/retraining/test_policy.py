"""What the environment says of the loop."""

from datetime import timedelta

import pytest

from monitoring.retraining.policy import RetrainPolicy, WatchPolicy, shadow_options


def test_without_variables_the_defaults_hold_and_empty_ones_are_unset() -> None:
    assert RetrainPolicy.from_environment({}) == RetrainPolicy()
    assert RetrainPolicy.from_environment({"MARLOOP_RETRAIN": "", "MARLOOP_RETRAIN_DAYS": ""}) == RetrainPolicy()
    assert WatchPolicy.from_environment({}) == WatchPolicy()
    assert shadow_options({}) == {"requests": 200, "latency": 1.2}


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
    assert RetrainPolicy.from_environment(environ) == RetrainPolicy(
        enabled=False,
        age=timedelta(days=90),
        most_rows=5000,
        hold_out=0.2,
        rows=50,
        cooldown=timedelta(days=7),
        per_day=2,
        every=timedelta(hours=24.5),
        limit=timedelta(seconds=30),
    )
    watch = WatchPolicy.from_environment({"MARLOOP_WATCH_HOURS": "0", "MARLOOP_WATCH_ROWS": "50"})
    assert watch == WatchPolicy(timedelta(0), 50)
    assert shadow_options({"MARLOOP_SHADOW_REQUESTS": "0", "MARLOOP_JUDGE_LATENCY": "2"}) == {
        "requests": 0,
        "latency": 2.0,
    }


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
    ],
)
def test_a_value_out_of_range_is_an_error_that_names_the_variable(variable: str, value: str) -> None:
    def read() -> list[object]:
        all_of_them = (RetrainPolicy.from_environment, WatchPolicy.from_environment, shadow_options)
        return [one({variable: value}) for one in all_of_them]

    with pytest.raises(ValueError, match=f"{variable} is '{value}'; it must be"):
        read()


def test_so_many_rows_are_needed_that_the_judge_has_enough() -> None:
    assert RetrainPolicy().enough_for(200).rows == 2000
    assert RetrainPolicy(rows=5000).enough_for(200).rows == 5000
