"""Quality, drift and judgement of a regression of several targets: each is measured as one that has no other."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from handlers.contract import ModelContract, TensorSpec
from handlers.contract.model_card import Reference
from monitoring.live.drift import detect
from monitoring.live.quality import fell, measure
from monitoring.retraining.judging.losses import gather, metric_of
from monitoring.store.contracts import output_fault
from monitoring.store.records import Labelled, Prediction
from tests.support.documents import evaluated
from tests.support.monitoring.drifting import predictions, regression, rows
from training.statistics.labels import label_fault
from training.statistics.pair import Pair
from training.statistics.targets import targets_of

ONE = regression()
OTHER = TensorSpec("fuel", "FP32", unit="kg")


def two(main: ModelContract = ONE) -> ModelContract:
    """A model whose second target is distributed as its first."""
    own = main.reference
    reference = msgspec.structs.replace(own, targets={"fuel": Reference(output=own.output, errors=own.errors)})
    metrics = {"rmse": 1.0, "mae": 0.8, "rmse of fuel": 1.0, "mae of fuel": 0.8}
    return msgspec.structs.replace(
        main, outputs=(*main.outputs, OTHER), reference=reference, evaluation=evaluated(metrics)
    )


def both(count: int = 1000, time: float = 0.0, fuel: float = 0.0) -> list[Labelled]:
    """Rows with both targets, whose answers are off by so much."""
    return [
        replace(
            one,
            prediction=replace(one.prediction, output={"time": one.prediction.output, "fuel": other.prediction.output}),
            label={"time": float(str(one.label)), "fuel": float(str(other.label))},
        )
        for one, other in zip(rows(ONE, count, error=time), rows(ONE, count, error=fuel), strict=True)
    ]


def test_each_target_has_its_own_metrics_and_the_first_the_plain_names() -> None:
    measured = measure(two(), both(fuel=3)).all
    assert measured is not None
    alone = [measure(ONE, rows(ONE, error=error)).all for error in (0, 3)]
    for suffix, own in zip(["", " of fuel"], alone, strict=True):
        assert own is not None
        for name, metric in own.metrics.items():
            assert measured.metrics[name + suffix] == metric
        assert measured.limits["rmse" + suffix] == own.limits["rmse"]
    assert len(measured.metrics) == 6


@pytest.mark.parametrize(("time", "fuel", "expected"), [(3, 0, True), (0, 3, True), (0, 0, False)])
def test_the_quality_fell_where_that_of_any_target_did(time: float, fuel: float, expected: bool) -> None:
    measured = measure(two(), both(time=time, fuel=fuel)).all
    assert measured is not None
    assert fell(two(), measured) is expected


def test_answers_and_errors_of_each_target_are_watched_for_drift() -> None:
    labelled = both(fuel=3)
    findings = {one.name: one for one in detect(two(), predictions(labelled), labelled).findings}
    assert findings.keys() == {"distance", "carrier", "prediction", "error", "prediction of fuel", "error of fuel"}
    assert {name for name, one in findings.items() if one.alarm} == {"prediction of fuel", "error of fuel"}
    assert not detect(two(), predictions(both()), both()).alarm


class Answering:
    """Answers 1 of everything, but for what it is off by."""

    def __init__(self, time: float, fuel: float) -> None:
        self.contract, self._off = two(), {"time": time, "fuel": fuel}

    def answers(self, some: list[Prediction]) -> list[dict[str, float]]:
        return [{name: 1.0 + off for name, off in self._off.items()} for _ in some]


def test_the_judge_goes_by_all_targets_each_relative_to_its_spread() -> None:
    labels = [{"time": 1.0 + x, "fuel": 1.0 + 100 * x} for x in (-1.0, 1.0)]  # of a spread of 1 and of 100
    labelled = [replace(one, label=label) for one, label in zip(both(2), labels, strict=True)]
    pair: Any = Pair(Answering(0.0, 0.0), Answering(1.0, 0.0))
    evidence = gather(pair, labelled)
    assert (evidence.by.name, evidence.unfit) == ("rmse", [])
    assert metric_of(two(), evidence.by) == "rmse of 2 targets relative to their spread"
    assert evidence.losses.champion == pytest.approx([1.0, 1.0])  # (1² + 1²) / 2
    assert evidence.losses.challenger == pytest.approx([(4 + 1) / 2, (0 + 1) / 2])
    assert evidence.targets["time"].challenger == pytest.approx([4, 0])
    assert evidence.targets["fuel"].champion == pytest.approx([100**2, 100**2])


def test_labels_that_are_all_alike_are_no_division_by_zero() -> None:
    labelled = [replace(one, label={"time": 1.0, "fuel": 0.0}) for one in both(3)]
    pair: Any = Pair(Answering(3.0, 0.0), Answering(0.5, 9.0))
    evidence = gather(pair, labelled)
    assert evidence.losses.champion == pytest.approx([(9 + 1) / 2] * 3)
    assert evidence.losses.challenger == pytest.approx([(0.25 + 100) / 2] * 3)
    unlabelled = gather(pair, [replace(one, label=1.0) for one in labelled])
    assert len(unlabelled.unfit) == 3


def test_an_answer_and_a_label_must_have_every_target() -> None:
    right = {"time": 1.0, "fuel": 2.0}
    assert output_fault(two(), right) is None
    assert label_fault(two(), right) is None
    for wrong in (
        1.0,
        {"time": 1.0},
        right | {"more": 1.0},
        {"time": 1.0, "fuel": "much"},
        {"time": 1.0, "fuel": None},
    ):
        assert output_fault(two(), wrong) == "an object with time, fuel, each a finite number"
        assert label_fault(two(), wrong) is not None
    assert label_fault(two(), {"time": 1.0, "fuel": 1e30}) is not None
    assert "for fuel" in str(label_fault(two(), {"time": 1.0, "fuel": 1e30}))


def test_a_target_is_a_contract_of_its_own() -> None:
    first, other = targets_of(two())
    assert (first.contract.outputs, other.contract.outputs) == (ONE.outputs, (OTHER,))
    assert other.contract.evaluation.metrics == {"rmse": 1.0, "mae": 0.8}
    assert targets_of(ONE)[0].contract is ONE
    assert np.isfinite(other.value({"time": 1.0, "fuel": 2.0}))
