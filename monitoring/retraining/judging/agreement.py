"""The agreement of two versions' answers to the same requests, for every task whose requests are captured."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from handlers.contract import Array, ModelContract
from monitoring.store.contracts import unmeasured
from training.statistics.pair import Pair
from training.statistics.targets import targets_of

SHARE = 0.1  # of the spread of the champion's answers, by which two numbers may differ where no error is known
ROUNDING = 1e-4  # relative for values over 1: FP32 computes in another order
PLACE = ("entity_group", "start", "end")  # of an entity


class _Values(NamedTuple):
    """The values of one output.

    Attributes:
        are_numbers: whether they may differ a little.
        pairs: one for each request.
        tolerance: largest difference of equal answers; None where it is not known.
    """

    are_numbers: bool
    pairs: list[Pair[Any]]
    tolerance: float | None


def agreements(contract: ModelContract, answers: Sequence[Pair[Any]]) -> Array:
    """Return which of the challenger's answers agree with the champion's.

    - A classification agrees by its label.
    - A regression agrees if each target differs by no more than the champion's held-out RMSE. Where no RMSE is known,
      it may differ by a tenth of the standard deviation of the champion's answers.
    - Entities agree by their groups and places, whatever their scores.
    - Other tensors agree if each output has the same shape. Its floats may differ by a tenth of the standard deviation
      of the champion's; integers, booleans and strings must be the same.

    Args:
        contract: the champion's.
        answers: the value of ``prediction`` in the native format, for each request.

    Returns:
        ``(n,)`` BOOL.

    Raises:
        ValueError: the answers of such a model are not captured; says why.
    """
    if why := unmeasured(contract):
        raise ValueError(f"{why}, so that its answers cannot be compared")
    if contract.task == "classification":
        return np.array([_label(old) == _label(new) for old, new in answers], bool)
    if contract.finds_entities:
        return np.array([_places(old) == _places(new) for old, new in answers], bool)
    agree = np.ones(len(answers), bool)
    for values in _outputs(contract, answers):
        agree &= _alike(values)
    return agree


def _label(answer: Any) -> Any:
    return answer["label"]


def _places(answer: Any) -> list[Any]:
    return [[entity[key] for key in PLACE] for entity in answer]


def _outputs(contract: ModelContract, answers: Sequence[Pair[Any]]) -> Iterator[_Values]:
    if contract.task == "regression":
        for target in targets_of(contract):
            rmse = target.contract.evaluation.metrics.get("rmse")  # null where it could not be measured
            yield _Values(True, [pair.map(target.value) for pair in answers], rmse)
        return
    alone = len(contract.outputs) == 1  # the answer is the output's value itself
    for spec in contract.outputs:
        own = [pair if alone else Pair(*(answer[spec.name] for answer in pair)) for pair in answers]
        yield _Values(spec.is_float, own, None)


def _alike(values: _Values) -> Array:
    """Return for each request whether both versions' values of an output are alike, ``(n,)`` BOOL."""
    if not values.are_numbers:
        return np.array([old == new for old, new in values.pairs], bool)
    tolerance = SHARE * _spread(values.pairs) if values.tolerance is None else values.tolerance
    return np.array([_is_near(pair, tolerance) for pair in values.pairs], bool)


def _spread(pairs: Sequence[Pair[Any]]) -> float:
    """Return the standard deviation of the champion's numbers; 0 where there are none."""
    numbers = np.concatenate([np.array(old, np.float64).ravel() for old, _ in pairs] or [np.zeros(0)])
    finite = numbers[np.isfinite(numbers)]
    return float(finite.std()) if len(finite) else 0.0


def _is_near(pair: Pair[Any], tolerance: float) -> bool:
    old, new = pair.map(lambda value: np.array(value, np.float64))  # null is NaN
    if old.shape != new.shape:
        return False
    same = (old == new) | (np.isnan(old) & np.isnan(new))
    with np.errstate(invalid="ignore"):  # infinity less infinity
        near = np.abs(old - new) <= np.maximum(tolerance, ROUNDING * np.maximum(1, np.abs(old)))
    return bool((same | near).all())
