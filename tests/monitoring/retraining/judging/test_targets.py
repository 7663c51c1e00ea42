"""Verdicts on versions of a regression of two targets, and on those of which no labelled row is known."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from handlers.contract import Array, Example, TensorSpec
from handlers.formats.codec import Codec
from monitoring.retraining.judging.archived import Archived
from monitoring.retraining.judging.judge import UNLABELLED, admit, judge
from monitoring.retraining.policy import JudgePolicy
from tests.monitoring.retraining.judging.test_judge import CHAMPION, HELD_OUT, NEW_AIR, blunt, check, refused, sharp
from tests.support.documents import replaced
from tests.support.monitoring.drifting import INPUTS, regression
from tests.support.monitoring.versions import EXAMPLE, Clock, Rule, opened, version
from training.statistics.pair import Pair

POLICY = JudgePolicy()
TWICE = [
    replace(row, label={"time": float(str(row.label)), "fuel": 10 * float(str(row.label))}) for row in HELD_OUT[:1000]
]


def very_blunt(tensors: Mapping[str, Array]) -> Array:
    """Errs three times as much."""
    distance = tensors["distance"]
    return np.asarray(distance + 4 * np.sin(1e4 * distance))


def of_two_targets(number: str, time: Rule, fuel: Rule) -> Archived:
    """A version of a second target too, which is ten times the first."""
    rules: Mapping[str, Rule] = {"time": time, "fuel": lambda tensors: 10 * fuel(tensors)}
    clock = Clock()

    class Engine:
        def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
            clock.now += 0.001
            return {name: rule(tensors).astype(np.float32) for name, rule in rules.items()}

    one: Mapping[str, Array] = {"distance": np.ones(1, np.float32), "carrier": np.zeros(1, np.int64)}
    answer = {name: float(rule(one)[0]) for name, rule in rules.items()}
    contract = regression(number)
    contract = replaced(
        contract,
        outputs=(*contract.outputs, TensorSpec("fuel", "FP32", unit="kg")),
        example=Example(EXAMPLE, {"prediction": answer}),
        lineage={"parity": {"rows": 1000, "onnxruntime": 1e-6}},
    )
    return Archived(contract, Engine(), Codec(contract, 1024), clock)


def test_a_challenger_that_is_better_in_all_targets_is_promoted_by_the_error_relative_to_their_spread() -> None:
    versions = Pair(of_two_targets("1.0", blunt, blunt), of_two_targets("1.1", sharp, sharp))
    verdict = judge(versions, TWICE, POLICY)
    assert verdict.promote, verdict.reason
    assert verdict.metric == "rmse of 2 targets relative to their spread"
    assert verdict.champion is not None
    assert verdict.challenger is not None
    assert 0 < verdict.challenger < verdict.champion < 2  # labels of a spread of about 1.4, errors of 1 and 1.5
    assert verdict.reason.startswith("rmse of 2 targets relative to their spread 0.")
    assert " kg" in check(verdict, "targets").detail


def test_a_challenger_that_is_worse_in_the_second_target_is_refused_though_it_is_better_on_the_whole() -> None:
    champion, challenger = of_two_targets("1.0", very_blunt, sharp), of_two_targets("1.1", sharp, blunt)
    why = refused(challenger, "targets", champion, TWICE)
    assert why.startswith("it is worse by more than 10% beyond chance in 1 of 2 targets: fuel ")
    assert why.endswith(" kg")


def test_a_challenger_that_is_no_better_on_the_whole_is_refused_though_it_is_in_the_first_target() -> None:
    versions = Pair(of_two_targets("1.0", blunt, sharp), of_two_targets("1.1", sharp, very_blunt))
    verdict = judge(versions, TWICE, POLICY)
    assert not check(verdict, "error").passed
    assert not check(verdict, "targets").passed


def test_without_labelled_rows_a_challenger_is_admitted_by_contract_parity_and_example_alone() -> None:
    verdict = admit(Pair(CHAMPION, version(NEW_AIR, blunt)))
    assert (verdict.promote, verdict.reason, verdict.metric, verdict.rows) == (True, UNLABELLED, "", 0)
    assert [one.name for one in verdict.checks] == ["contract", "parity", "example"]
    verdict = admit(Pair(CHAMPION, opened(replaced(NEW_AIR, inputs=INPUTS[:1]), sharp)))
    assert not verdict.promote
    assert "input carrier is gone" in verdict.reason
