"""From which value on a metric is no matter of chance or weather."""

from typing import Any

import numpy as np
import pytest
import yaml

from handlers.contract import ModelContract
from monitoring.live.limits import UNKNOWN, limits
from monitoring.live.quality import WORSE, fell, measure
from serving.settings import ROOT
from tests.support.documents import document, replaced
from tests.support.monitoring.drifting import classification, regression, rows, weekly

AIR, CLOTHES = regression(), classification()
SECONDS, DAYS = np.arange(1000.0), np.arange(1000.0) * 600


def alarms(contract: ModelContract, **options: Any) -> bool:
    measured = measure(contract, rows(contract, **options)).all
    assert measured is not None
    return fell(contract, measured)


def test_a_hundredth_of_windows_is_beyond_the_limit() -> None:
    for contract, name, beyond in ((AIR, "rmse", np.greater), (CLOTHES, "accuracy", np.less)):
        limit = limits(contract, SECONDS[:500])[name]
        found = [measure(contract, rows(contract, 500, seed)).all for seed in range(1, 151)]
        passed = [beyond(one.metrics[name].value, limit) for one in found if one]
        assert sum(passed) <= 5


def test_a_window_of_minutes_has_no_limit_where_the_reference_knows_weeks() -> None:
    assert limits(weekly(AIR), SECONDS) == {}
    assert limits(weekly(AIR), DAYS).keys() == {"rmse"}
    assert limits(AIR, SECONDS[:99]) == {}
    assert limits(AIR, SECONDS[:0]) == {}


def test_an_archive_of_a_former_version_must_be_half_as_bad_again() -> None:
    usual = {"window": 1000, "windows": 8.0, "mean": 0.1, "sd": 0.01, "psi": 0.1}
    for contract, name, value in ((AIR, "rmse", UNKNOWN), (CLOTHES, "accuracy", 1 - UNKNOWN * 0.1)):
        errors = {key: known for key, known in document(contract.reference)["errors"].items() if key != "usual"}
        former = replaced(contract, reference={"errors": errors | {"usual": usual}})
        assert limits(former, DAYS) == pytest.approx({name: value})
        assert limits(former, SECONDS) == {}
        small = replaced(contract, reference={"errors": errors})
        assert limits(small, SECONDS) == pytest.approx({name: value})


def test_no_wrong_answer_among_the_known_ones_does_not_promise_none() -> None:
    errors = {"counts": {"right": 1000, "wrong": 0}}
    perfect = replaced(CLOTHES, reference={"errors": errors}, evaluation={"metrics": {"accuracy": 1.0}})
    assert limits(perfect, SECONDS[:200])["accuracy"] < 0.995


@pytest.mark.parametrize("contract", [AIR, CLOTHES], ids=["regression", "classification"])
def test_only_what_is_worse_beyond_chance_alarms(contract: ModelContract) -> None:
    assert not any(alarms(contract, count=count, seed=seed) for count in (200, 1000) for seed in range(1, 21))
    assert alarms(contract, error=1.0 if contract is AIR else 0.1)
    assert not alarms(contract, count=199, error=1.0 if contract is AIR else 0.1)


def test_the_rule_of_prometheus_has_the_same_objective() -> None:
    groups = yaml.safe_load((ROOT / "monitoring/prometheus/rules/objectives.yml").read_text())["groups"]
    rules = {rule["record"]: rule["expr"] for group in groups for rule in group["rules"]}
    assert rules["objective:quality_loss:ratio"] == f"vector({WORSE})"
