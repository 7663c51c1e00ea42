"""Outputs of a contract, and how they are made of the graph's."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from handlers.contract import Array, Task, TensorSpec, classification_outputs
from handlers.engine.signature import Head, Step
from training.bring.feeds import identifier
from training.bring.graph import BringError, Port

NEAR = 1e-3  # of 1, that the sum of probabilities may be off


@dataclass(frozen=True)
class Answers:
    """The outputs of a contract.

    Attributes:
        labels: of a row, or with the task ``tensors`` of each token of a text.
        why: of the task, in a few words.
    """

    task: Task
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...]
    heads: tuple[Head, ...]
    why: str

    def shape(self, output: int) -> tuple[int, ...]:
        """Return the sizes of an output of the served graph."""
        rows = (-1, -1) if self.task == "tensors" else (-1,)
        return (*rows, len(self.labels)) if self.labels else self.outputs[output].shape


def answers_of(
    ports: Sequence[Port],
    results: Sequence[Array],
    task: Task | None = None,
    labels: Sequence[str] = (),
    targets: Sequence[str] = (),
    made: tuple[TensorSpec, ...] = (),
) -> Answers:
    """Derive the outputs and the task from the graph's outputs.

    Args:
        ports: as the file has them.
        results: of some rows, rows first.
        task: the user's; None to guess.
        labels: the user's or the file's.
        targets: the user's names for the numbers of a regression that has several.
        made: outputs of the contract that a worker makes of scores of labels; empty for none.

    Raises:
        BringError: the graph has no output for the task.
    """
    if made:
        return _made(made, results[0], task, labels)
    scores = [i for i, array in enumerate(results) if _scores(array, len(labels))]
    if task == "classification" or (task is None and labels and scores):
        if not labels:
            raise BringError("a classification needs the names of its classes: --labels")
        if not scores:
            shapes = ", ".join(f"{port.name} {list(array.shape)}" for port, array in zip(ports, results, strict=True))
            raise BringError(f"no output has a score for each of the {len(labels)} labels; there are {shapes}")
        return _classification(ports, results, labels, scores[-1])
    if task == "regression" or (task is None and (targets or (len(results) == 1 and _is_value(results[0])))):
        return _regression(ports, results, targets)
    taken: set[str] = set()
    specs = tuple(_spec(port, array, taken) for port, array in zip(ports, results, strict=True))
    heads = tuple(Head(spec.name, i) for i, spec in enumerate(specs))
    why = f"{len(specs)} outputs" if len(specs) > 1 else "an output of several values"
    return Answers("tensors", specs, (), heads, why)


def _classification(ports: Sequence[Port], results: Sequence[Array], labels: Sequence[str], at: int) -> Answers:
    values, name = results[at], ports[at].name
    if values.ndim == 1 or values.shape[1] == 1:
        step: Step = "sigmoid"
        why = f"{name} has a number, read as the logit of {labels[1]!r}"
    elif bool((values >= 0).all()) and bool((abs(values.sum(1) - 1) < NEAR).all()):
        step, why = "", f"{name} has probabilities"
    else:
        step, why = "softmax", f"{name} has logits, which a softmax makes probabilities"
    heads = (Head("probabilities", at, step),)
    return Answers("classification", classification_outputs(len(labels)), tuple(labels), heads, why)


def _made(made: tuple[TensorSpec, ...], scores: Array, task: Task | None, labels: Sequence[str]) -> Answers:
    if task not in (None, "tensors") or len(labels) != scores.shape[-1]:
        raise BringError(f"each token has a score for each of {scores.shape[-1]} labels: the task is tensors")
    return Answers("tensors", made, tuple(labels), (Head("probabilities", 0),), "each token has a label")


def _regression(ports: Sequence[Port], results: Sequence[Array], targets: Sequence[str]) -> Answers:
    """Return the numbers of each row: those of all outputs of one number, else the columns of the only matrix."""
    numbers = [Head(ports[i].name, i, "column") for i, array in enumerate(results) if _is_value(array)]
    matrices = [i for i, array in enumerate(results) if array.dtype.kind == "f" and array.ndim == 2]
    if not numbers and len(matrices) == 1:
        (at,) = matrices
        numbers = [Head(f"{ports[at].name}_{i}", at, "column", i) for i in range(results[at].shape[1])]
    if not numbers:
        raise BringError("a regression needs an output of one number a row, or of one for each target")
    if targets and len(targets) != len(numbers):
        own = ", ".join(head.name for head in numbers)
        raise BringError(f"{len(targets)} targets are named, and the file answers {len(numbers)} numbers a row: {own}")
    if {head.name for head in numbers} == set(targets):  # in the order that the user names them
        numbers.sort(key=lambda head: targets.index(head.name))
    taken: set[str] = set()
    names = [identifier(name, taken) for name in targets or [head.name for head in numbers]]
    heads = tuple(msgspec.structs.replace(head, name=name) for head, name in zip(numbers, names, strict=True))
    specs = tuple(TensorSpec(head.name, ports[head.at].datatype) for head in heads)
    several = f"{len(heads)} numbers a row"
    why = several if len(heads) > 1 else "an output of one number a row"
    return Answers("regression", specs, (), heads, why)


def with_axes(answers: Answers, ports: Sequence[Port]) -> tuple[TensorSpec, ...]:
    """Return the outputs with the file's names for the sizes that vary, by which the answers of padded rows are cut."""
    if answers.labels:
        return answers.outputs
    outputs = []
    for head, spec in zip(answers.heads, answers.outputs, strict=True):
        symbols = ports[head.at].sizes
        names = tuple(size if isinstance(size, str) else f"{spec.name}_{i}" for i, size in enumerate(symbols))
        fits = spec.varies and len(names) == len(spec.shape)
        outputs.append(msgspec.structs.replace(spec, axes=names) if fits else spec)
    return tuple(outputs)


def _spec(port: Port, array: Array, taken: set[str]) -> TensorSpec:
    declared = port.sizes[1:] if len(port.sizes) == array.ndim else (None,) * (array.ndim - 1)
    sizes = tuple(size if isinstance(size, int) else -1 for size in declared)
    return TensorSpec(identifier(port.name, taken), port.datatype, (-1, *sizes))


def _scores(array: Array, labels: int) -> bool:
    """Tell whether an output has a score for each label, or of two labels a number for the second."""
    if array.dtype.kind != "f" or array.ndim not in (1, 2) or labels < 2:
        return False
    width = 1 if array.ndim == 1 else array.shape[1]
    return width == labels or (labels == 2 and width == 1)


def _is_value(array: Array) -> bool:
    return array.dtype.kind == "f" and (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1))
