"""The contract: the single description of a model, written by training and read by everything else."""

import contextlib
import math
from typing import Any, Literal

import msgspec

from handlers.contract.model_card import Evaluation, Lineage, Reference
from handlers.contract.tensor import BF16_MAX, DTYPES, RESERVED, Array, TensorSpec

__all__ = [
    "BF16_MAX",
    "DTYPES",
    "FORMAT",
    "RESERVED",
    "Array",
    "Example",
    "ModelContract",
    "Task",
    "TensorSpec",
    "classification_outputs",
    "entity_outputs",
]

Task = Literal["regression", "classification", "generation", "tensors", "opaque"]
# The newest format of a contract: the first one says none; the second has nullable, timestamp and pad of inputs, BF16,
# several targets of a regression, entities, and the task "opaque"; the third says how a picture becomes an input.
FORMAT = 3


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One valid request and its expected answer, both in the native format; ``contract.example`` reads opaque ones."""

    request: dict[str, Any]
    response: dict[str, Any]


class ModelContract(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The description of one version of a model; its keys are those of ``contract.json``.

    Attributes:
        task: ``tensors`` for a graph whose outputs are answered as they are, of any number and shape; ``opaque`` for a
            handler of which nobody knows what it takes and answers.
        labels: class names in the order of the graph's output: of a row, or with the task ``tensors`` of each token
            of a text, of which a worker makes entities. Empty for others.
        label_range: smallest and largest accepted label of a regression, both included; None for other tasks, and in
            archives of former versions.
        max_rows: most rows of a request, whatever the serving settings allow; 1 for a graph that takes rows one at a
            time. Unset where only the settings say it.
        format: the oldest format that can say what the contract says; unset for the first.
    """

    name: str
    version: str
    task: Task
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...]
    example: Example
    reference: Reference
    evaluation: Evaluation
    lineage: Lineage
    label_range: tuple[float, float] | None = None
    max_rows: int | msgspec.UnsetType = msgspec.UNSET  # unset, it is not written, as in former archives
    format: int | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        newer = self.has_targets or self.finds_entities or self.task == "opaque"
        needed = max([2 if newer else 1, *(spec.format for spec in (*self.inputs, *self.outputs))])
        if needed > 1 and self.format is msgspec.UNSET:
            msgspec.structs.force_setattr(self, "format", needed)
        if isinstance(self.format, int) and not 1 <= self.format <= FORMAT:
            raise ValueError(f"contract of {self.name!r}: format {self.format} must be from 1 to {FORMAT}")
        if isinstance(self.max_rows, int) and self.max_rows < 1:
            raise ValueError(f"contract of {self.name!r}: max_rows is {self.max_rows}; it must be at least 1")
        names = [t.name for t in self.inputs]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"contract of {self.name!r}: inputs {names} must be distinct and at least one")
        for spec in self.inputs:
            if any(size < 1 for size in spec.largest):
                raise ValueError(f"contract of {self.name!r}: {spec.name} varies in size without a max_shape")
        for spec in self.outputs:
            if spec.nullable or spec.timestamp or spec.picture or spec.pad is not None:
                what = "nullable, timestamp, padded or a picture"
                raise ValueError(f"contract of {self.name!r}: the output {spec.name} cannot be {what}")
        if self.task == "regression" and len(self.outputs) != 1 and not self.has_targets:
            raise ValueError(f"contract of {self.name!r}: a regression has outputs of one number a row, one at least")
        if self.task == "classification" and not self.labels:
            raise ValueError(f"contract of {self.name!r}: a classification needs labels")
        outputs = [t.name for t in self.outputs]
        if self.task in ("tensors", "regression") and (not outputs or len(set(outputs)) != len(outputs)):
            raise ValueError(f"contract of {self.name!r}: outputs {outputs} must be distinct and at least one")
        if self.finds_entities and outputs != (names := [spec.name for spec in entity_outputs()]):
            raise ValueError(f"contract of {self.name!r}: tensors with labels have the outputs {names}, not {outputs}")
        if self.label_range and not -math.inf < self.label_range[0] <= self.label_range[1] < math.inf:
            raise ValueError(f"contract of {self.name!r}: label_range {[*self.label_range]} must ascend and be finite")

    @property
    def has_named_rows(self) -> bool:
        """Whether a row is a JSON object of named features; otherwise it is the bare value of the only tensor."""
        return len(self.inputs) > 1 or self.inputs[0].is_scalar

    @property
    def has_targets(self) -> bool:
        """Whether it is a regression of several targets: numbers by name."""
        numbers = all(spec.is_scalar and spec.is_float for spec in self.outputs)
        return self.task == "regression" and len(self.outputs) > 1 and numbers

    @property
    def finds_entities(self) -> bool:
        """Whether the graph labels each token of a text."""
        return self.task == "tensors" and bool(self.labels)

    @property
    def most_classes(self) -> int:
        """The most classes that a request may ask for: one where a row has none."""
        return len(self.labels) if self.task == "classification" else 1

    @property
    def graph_outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs; labels and the like are derived from them."""
        if self.labels:
            return ("probabilities",)
        return tuple(t.name for t in self.outputs)

    def most_rows(self, allowed: int) -> int:
        """Return the most rows of a request, where the serving settings allow so many."""
        return min(allowed, self.max_rows) if isinstance(self.max_rows, int) else allowed

    @classmethod
    def from_json(cls, data: bytes) -> "ModelContract":
        """Read a contract.

        Raises:
            ValueError: it is none, or of a newer format; the message names the path of the fault, or the way out.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError(_newer(data) or f"not a contract: {error}") from error

    def to_json(self) -> bytes:
        """Write the contract, indented for reading."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


class _Head(msgspec.Struct):
    name: str = ""
    format: int = 1


def _newer(data: bytes) -> str:
    """Return why a contract of a newer format is refused; empty for another text."""
    with contextlib.suppress(msgspec.MsgspecError):
        head = msgspec.json.decode(data, type=_Head)
        if head.format > FORMAT:
            return (
                f"the contract of {head.name!r} has format {head.format}, and this Marloop reads up to {FORMAT}: "
                "update Marloop, or package the model again with this one"
            )
    return ""


def classification_outputs(labels: int) -> tuple[TensorSpec, ...]:
    """Return the outputs of every classifier; the second −1 is the request's ``top_k``."""
    return (
        TensorSpec("label", "BYTES", (-1, -1), "class names, the likeliest first"),
        TensorSpec("index", "INT64", (-1, -1), "indices of these classes"),
        TensorSpec("probability", "FP32", (-1, -1), "probabilities of these classes"),
        TensorSpec("probabilities", "FP32", (-1, labels), "probability of every class, in the order of the labels"),
    )


def entity_outputs() -> tuple[TensorSpec, ...]:
    """Return the outputs of every finder of entities; the second −1 is their number in the text that has most."""
    return (
        TensorSpec("entity_group", "BYTES", (-1, -1), "labels of the entities; empty behind a text's last one"),
        TensorSpec("score", "FP32", (-1, -1), "mean probabilities of these labels over an entity's tokens"),
        TensorSpec("word", "BYTES", (-1, -1), "the text from start to end"),
        TensorSpec("start", "INT64", (-1, -1), "numbers of the characters where they begin, from 0; -1 for none"),
        TensorSpec("end", "INT64", (-1, -1), "numbers of the characters behind them; -1 for none"),
    )
