"""Which answers of two versions agree, for every task whose requests are captured."""

from typing import Any

import msgspec
import numpy as np
import pytest

from handlers.contract import ModelContract, TensorSpec, classification_outputs, entity_outputs
from monitoring.retraining.judging.agreement import agreements
from tests.support.documents import evaluated
from tests.support.serving.stores import contract_of_doubling
from training.statistics.pair import Pair

NUMBER = contract_of_doubling()
TARGETS = msgspec.structs.replace(NUMBER, outputs=(TensorSpec("delay", "FP32"), TensorSpec("fuel", "FP32")))


def of_tensors(*outputs: TensorSpec, labels: tuple[str, ...] = ()) -> ModelContract:
    return msgspec.structs.replace(NUMBER, task="tensors", outputs=outputs, labels=labels)


def alike(contract: ModelContract, *answers: tuple[Any, Any]) -> list[bool]:
    return [bool(agrees) for agrees in agreements(contract, [Pair(*answer) for answer in answers])]


def measured(contract: ModelContract, **metrics: float) -> ModelContract:
    return msgspec.structs.replace(
        contract, evaluation=evaluated({name.replace("_", " "): v for name, v in metrics.items()})
    )


def test_numbers_agree_within_the_champions_error() -> None:
    assert alike(measured(NUMBER, rmse=0.5), (1.0, 1.5), (1.0, 1.6), (1.0, 0.4)) == [True, False, False]


def test_numbers_of_a_champion_without_a_known_error_agree_within_a_tenth_of_their_spread() -> None:
    spread = float(np.std([0.0, 10.0, 20.0]))
    near, far = 0.09 * spread, 0.11 * spread
    assert alike(NUMBER, (0.0, near), (10.0, 10 + far), (20.0, 20 - near)) == [True, False, True]
    assert alike(NUMBER, (3.0, 3.00001), (3.0, 3.1)) == [True, False]  # without a spread only rounding is allowed


def test_several_targets_must_all_agree_each_within_its_own_error() -> None:
    contract = measured(TARGETS, rmse=1.0, rmse_of_fuel=10.0)
    old = {"delay": 5.0, "fuel": 300.0}
    answers = [(old, old | new) for new in ({"fuel": 309.0}, {"fuel": 311.0}, {"delay": 6.5}, {"delay": 4.5})]
    assert alike(contract, *answers) == [True, False, False, True]


def test_classes_agree_by_their_label() -> None:
    contract = msgspec.structs.replace(
        NUMBER, task="classification", labels=("low", "high"), outputs=classification_outputs(2)
    )
    low, high = ({"label": label, "index": 0, "probability": 0.6} for label in ("low", "high"))
    assert alike(contract, (low, low | {"probability": 0.9}), (low, high)) == [True, False]


def test_entities_agree_by_group_and_place_whatever_their_scores() -> None:
    contract = of_tensors(*entity_outputs(), labels=("O", "PER"))
    ann = {"entity_group": "PER", "score": 0.9, "word": "Ann", "start": 0, "end": 3}
    others: list[list[dict[str, Any]]] = [
        [ann | {"score": 0.5}],
        [ann | {"end": 4}],
        [ann | {"entity_group": "ORG"}],
        [],
        [ann, ann],
    ]
    assert alike(contract, *([[ann], other] for other in others)) == [True, False, False, False, False]  # type: ignore[arg-type]
    assert alike(contract, ([], [])) == [True]


def test_an_only_tensor_agrees_by_its_values() -> None:
    contract = of_tensors(TensorSpec("vector", "FP32", (-1, 3)))
    old = [1.0, 0.0, -1.0]
    assert alike(contract, (old, [1.01, 0.01, -1.0]), (old, [1.0, 0.5, -1.0]), (old, [1.0, 0.0])) == [
        True,
        False,
        False,
    ]
    assert alike(contract, ([None, 1.0, 2.0], [None, 1.0, 2.0]), ([None, 1.0, 2.0], [0.0, 1.0, 2.0])) == [True, False]


def test_named_tensors_must_all_agree_and_only_floats_may_differ() -> None:
    contract = of_tensors(
        TensorSpec("boxes", "INT64", (-1, -1, 2)), TensorSpec("scores", "FP32", (-1, -1)), TensorSpec("name", "BYTES")
    )
    old = {"boxes": [[5, 5], [40, 4]], "scores": [0.9, 0.1], "name": "a"}
    news = (
        {"scores": [0.91, 0.1]},
        {"scores": [0.5, 0.1]},
        {"boxes": [[5, 5], [40, 5]]},
        {"boxes": [[5, 5]]},
        {"name": "b"},
    )
    assert alike(contract, *((old, old | new) for new in news)) == [True, False, False, False, False]


@pytest.mark.parametrize(("task", "why"), [("opaque", "a handler from elsewhere"), ("generation", "a language model")])
def test_answers_that_are_not_captured_are_refused_in_a_sentence(task: Any, why: str) -> None:
    contract = msgspec.structs.replace(NUMBER, task=task)
    with pytest.raises(ValueError, match=f"{why}.* cannot be compared"):
        agreements(contract, [])
