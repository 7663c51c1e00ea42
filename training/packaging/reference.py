"""The contract's reference: summaries of inputs, output and errors, small enough to travel in the archive."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import msgspec
import numpy as np

from handlers.contract import Array, ModelContract, TensorSpec
from handlers.contract.model_card import Reference, Summary
from handlers.features import is_missing
from handlers.observe.events import LONGEST_TEXT
from training.recipe import Data, Split
from training.statistics.distribution import of_categories, of_numbers
from training.statistics.usual import learn

RIGHT = ("right", "wrong")  # the errors of a classification
PRESENT = ("present", "missing")  # the values of a nullable input
SMALLEST = 1e-300  # mean squares below count as this, so that their logarithm is finite


def reference(contract: ModelContract, data: Data, output: Array, held_out: Array) -> Reference:
    """Summarize the data that a version knows.

    If rows have times, all are used, the held-out ones too, in order of time: the usual distance must be learned from
    as many weeks as there are. Else the training rows are used, and the errors of the held-out ones.

    Args:
        output: the served module's output for the training rows.
        held_out: the same for the held-out rows.
    """
    parts = (data.train, data.test)
    values = [values_of(part) for part in parts]
    errors = [errors_of(contract, array, part.target) for array, part in zip((output, held_out), parts, strict=True)]
    if data.train.time is None or data.test.time is None:
        order, other = (np.random.default_rng(0).permutation(len(part)) for part in parts)
        inputs = {name: array[order] for name, array in values[0].items()}
        return summaries(contract, inputs, output[order], errors[1][other])
    times = np.concatenate([data.train.time, data.test.time])
    order = np.argsort(times, kind="stable")
    inputs = {name: np.concatenate([values[0][name], values[1][name]])[order] for name in values[0]}
    output = np.concatenate([output, held_out])[order]
    return summaries(contract, inputs, output, np.concatenate(errors)[order], times[order])


def summaries(
    contract: ModelContract,
    inputs: Mapping[str, Array],
    output: Array | None,
    errors: Array | None,
    times: Array | None = None,
) -> Reference:
    """Summarize rows that are in order of time, or in no order.

    Args:
        inputs: values by name; for a text its number of characters.
        output: the served module's, ``(n, targets)`` of several; None for tensors, of which only the inputs are
            summarized.
        errors: as ``errors_of`` returns them, for these rows or others; None where the truth is not known.
        times: ``(n,)`` seconds since the epoch, ascending; None where the order says nothing.
    """
    distributions = {spec.name: _input(spec, inputs[spec.name], times) for spec in contract.inputs}
    if output is None:
        return Reference(len(inputs[contract.inputs[0].name]), distributions)
    parts = [(output, errors)]
    answers: Callable[[Array], Summary] = of_numbers
    wrong: Callable[[Array], Summary] = of_numbers
    loss = log_rms
    if contract.task == "classification":
        answers, wrong = partial(of_categories, names=contract.labels), partial(of_categories, names=RIGHT)
        parts, loss = [(output.argmax(1), errors)], wrong_share
    elif contract.has_targets:
        parts = [(output[:, i], None if errors is None else errors[:, i]) for i in range(len(contract.outputs))]
    first, *others = (
        Reference(
            output=_summary(values, answers, times),
            errors=None if own is None else _summary(own, wrong, times, loss),
        )
        for values, own in parts
    )
    names = [spec.name for spec in contract.outputs[1:]]
    targets = dict(zip(names, others, strict=False))
    return msgspec.structs.replace(first, rows=len(output), inputs=distributions, targets=targets)


def errors_of(contract: ModelContract, output: Array, target: Array) -> Array:
    """Return answer − truth for a regression; for a classification 0 for a right answer and 1 for a wrong one."""
    if contract.task == "classification":
        return np.asarray(output.argmax(1) != target, np.int64)
    return np.asarray(output - target.astype(np.float64))


def values_of(split: Split) -> dict[str, Array]:
    """Return the inputs of a split as ``summaries`` takes them."""
    texts = {name: lengths_of(strings) for name, strings in split.sent_texts.items()}
    return {**split.sent, **texts}


def lengths_of(texts: Iterable[str | None]) -> Array:
    """Return the numbers of characters, as far as they are captured: INT64 ``(n,)``; −1 of a missing text."""
    return np.array([-1 if text is None else len(text[:LONGEST_TEXT]) for text in texts], np.int64)


def log_rms(errors: Array) -> float:
    """Return the logarithm of the root mean square; its spread hardly depends on its size."""
    return float(np.log(max(float(np.mean(errors.astype(np.float64) ** 2)), SMALLEST)) / 2)


def wrong_share(errors: Array) -> float:
    """Return the arcsine of the root of the share of wrong answers; its spread hardly depends on its size."""
    return float(np.arcsin(np.sqrt(np.mean(errors != 0))))


def _input(spec: TensorSpec, values: Array, times: Array | None) -> Summary:
    if spec.nullable:
        gone = is_missing(values)
        own = msgspec.structs.replace(spec, nullable=False, default=None)
        present = _input(own, values[~gone], None if times is None else times[~gone]) if not gone.all() else Summary()
        missing = _summary(gone.astype(np.int64), partial(of_categories, names=PRESENT), times)
        return msgspec.structs.replace(present, missing=missing)
    if spec.timestamp:  # time goes on: it would always drift
        return Summary()
    if spec.categories:
        return _summary(values, partial(of_categories, names=spec.categories), times)
    return _summary(values if spec.is_scalar else values.reshape(len(values), -1).mean(1), of_numbers, times)


def _summary(
    values: Array,
    summarise: Callable[[Array], Summary],
    times: Array | None,
    loss: Callable[[Array], float] | None = None,
) -> Summary:
    summary = summarise(values)
    return msgspec.structs.replace(summary, usual=learn(values, summary, times, loss))
