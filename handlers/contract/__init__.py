"""The contract: the single description of a model, written by training and read by everything else."""

import contextlib
import math
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

from handlers.contract import times
from handlers.contract.model_card import Evaluation, Lineage, Reference

Array = NDArray[Any]  # of any shape and datatype: a tensor's are those of its TensorSpec
Task = Literal["regression", "classification", "generation", "tensors", "opaque"]
# The newest format of a contract: the first one says none; the second has nullable, timestamp and pad of inputs, BF16,
# several targets of a regression, entities, and the task "opaque".
FORMAT = 2

# Datatypes of the Open Inference Protocol ("Tensor Data Types") and the little-endian NumPy types that hold them.
DTYPES: dict[str, str] = {
    "BOOL": "|b1",
    "UINT8": "|u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "|i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BYTES": "|O",
    "BF16": "<f4",  # NumPy has none: half as long on the wire, see formats.tensors
}
BF16_MAX = 3.3895313892515355e38
# A named row is a JSON object beside these keys, so no tensor may be called so.
RESERVED = frozenset({"instances", "inputs", "outputs", "parameters", "id"})


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One input or output tensor.

    Attributes:
        name: an identifier.
        datatype: of the Open Inference Protocol, such as ``FP32``, ``INT64``, ``UINT8``, ``BYTES``.
        shape: −1 first, for the batch; ``[-1]`` is one scalar a row. Another −1 is a size that varies.
        unit: such as ``minutes``.
        range: smallest and largest accepted value, both included.
        categories: the accepted strings; the graph receives their index as INT64.
        background: of a picture, the colour behind the transparent parts of a file.
        max_shape: of an input whose sizes vary: the largest, with −1 for the batch.
        axes: names of the sizes; those of the same name are equal in a request, also across inputs. Empty for none.
        pad: of an input whose sizes vary, what fills a row up to the longest of its batch; None: only requests of the
            same sizes share one.
        nullable: of an input, whether a row may lack its value: one number of a float datatype, or one category.
        default: what the graph gets for a missing value. A number without one is NaN; a category needs one.
        timestamp: of an input, whether it is a time, which clients write as text: seconds since 1970 to the graph.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] = (-1,)
    description: str = ""
    unit: str = ""
    range: tuple[float, float] | None = None
    categories: tuple[str, ...] = ()
    background: Literal["black", "white"] = "black"
    max_shape: tuple[int, ...] = ()
    axes: tuple[str, ...] = ()
    nullable: bool = False
    default: float | str | None = None
    timestamp: bool = False
    pad: float | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name in RESERVED:
            raise ValueError(f"tensor name {self.name!r} must be an identifier and none of {sorted(RESERVED)}")
        if self.datatype not in DTYPES:
            raise ValueError(f"tensor {self.name!r}: datatype {self.datatype!r} is none of {', '.join(DTYPES)}")
        if not self.shape or self.shape[0] != -1:
            raise ValueError(f"tensor {self.name!r}: shape {list(self.shape)} must start with -1, the batch")
        if self.categories and (self.datatype != "BYTES" or self.shape != (-1,)):
            raise ValueError(f"tensor {self.name!r}: categories need datatype BYTES and shape [-1]")
        if len(set(self.categories)) != len(self.categories):
            raise ValueError(f"tensor {self.name!r}: a category is named twice")
        if self.max_shape and not self._fits(self.max_shape):
            limits, shape = list(self.max_shape), list(self.shape)
            raise ValueError(f"tensor {self.name!r}: max_shape {limits} must be {shape} with a size for each inner -1")
        if self.axes and len(self.axes) != len(self.shape):
            raise ValueError(f"tensor {self.name!r}: axes {list(self.axes)} must name each of {list(self.shape)}")
        self._check_range()
        if self.nullable or self.default is not None:
            self._check_default()
        if self.pad is not None and not (self.varies and self._holds(self.pad)):
            raise ValueError(f"tensor {self.name!r}: a pad needs sizes that vary, and a number of {self.datatype}")
        if self.timestamp and not (self.is_scalar and self.datatype in ("INT64", "FP64")):
            raise ValueError(f"tensor {self.name!r}: a timestamp needs shape [-1], and INT64 or FP64")

    def _fits(self, sizes: tuple[int, ...]) -> bool:
        pairs = list(zip(sizes[1:], self.shape[1:], strict=False))
        same = len(sizes) == len(self.shape) and sizes[0] == -1 and self.varies
        return same and all(size > 0 if own == -1 else size == own for size, own in pairs)

    def _check_range(self) -> None:
        """Raise if the range exceeds the datatype, since values that do not fit would pass."""
        if self.range is None:
            return
        if self.datatype in ("BOOL", "BYTES"):
            raise ValueError(f"tensor {self.name!r}: a range needs a numeric datatype, not {self.datatype}")
        low, high = self.range
        least, most = times.LIMITS if self.timestamp else self.number_limits
        if not least <= low <= high <= most:
            raise ValueError(f"tensor {self.name!r}: range {[low, high]} must be ascending, from {least} to {most}")
        if not self.is_float and not (float(low).is_integer() and float(high).is_integer()):
            raise ValueError(f"tensor {self.name!r}: range {[low, high]} of {self.datatype} must be whole numbers")

    def _check_default(self) -> None:
        """Raise if the graph could not get a missing value."""
        if not self.nullable:
            raise ValueError(f"tensor {self.name!r}: a default needs nullable: true")
        if not (self.is_scalar and (self.categories or self.is_float)):
            raise ValueError(
                f"tensor {self.name!r}: nullable needs shape [-1], and categories, FP16, FP32, FP64 or BF16"
            )
        if self.categories and self.default not in self.categories:
            raise ValueError(
                f"tensor {self.name!r}: nullable categories need a default that is one of them, not {self.default!r}"
            )
        is_number = not self.categories and self.default is not None
        if is_number and not self._holds(self.default):
            raise ValueError(f"tensor {self.name!r}: default {self.default!r} is no number of {self.datatype}")

    def _holds(self, value: float | str | None) -> bool:
        """Tell whether a value is a number that the datatype holds."""
        if isinstance(value, str) or value is None or self.datatype in ("BYTES", "BOOL"):
            return self.datatype == "BOOL" and value in (0, 1)
        least, most = self.number_limits
        return least <= value <= most and (self.is_float or float(value).is_integer())

    @property
    def varies(self) -> bool:
        """Whether rows may differ in their sizes."""
        return -1 in self.shape[1:]

    @property
    def largest(self) -> tuple[int, ...]:
        """Sizes of the largest row."""
        return (self.max_shape or self.shape)[1:]

    @property
    def is_float(self) -> bool:
        """Whether its values are floating-point numbers."""
        return np.dtype(self.dtype).kind == "f"

    @property
    def number_limits(self) -> tuple[float, float]:
        """Smallest and largest number of its datatype."""
        if self.datatype == "BF16":
            return -BF16_MAX, BF16_MAX
        info: Any = np.finfo(self.dtype) if self.is_float else np.iinfo(self.dtype)
        return (float(info.min), float(info.max)) if self.is_float else (int(info.min), int(info.max))

    @property
    def is_scalar(self) -> bool:
        """Whether a row holds one value of this tensor."""
        return self.shape == (-1,)

    @property
    def is_picture(self) -> bool:
        """Whether a row has the shape of a picture: height and width, and 3 where it has colours."""
        return len(self.shape) == 3 or (len(self.shape) == 4 and self.shape[3] == 3)

    @property
    def dtype(self) -> DTypeLike:
        """The NumPy type on the wire; strings are objects."""
        return np.dtype(DTYPES[self.datatype])

    @property
    def graph_dtype(self) -> DTypeLike:
        """The NumPy type that the graph takes: INT64 for the index of a category."""
        return np.dtype(np.int64) if self.categories else self.dtype

    def describe(self) -> str:
        """Return words for a valid value, for error messages."""
        if self.nullable:
            return f"{msgspec.structs.replace(self, nullable=False, default=None).describe()}, or null"
        if self.categories:
            return f"one of {len(self.categories)} categories"
        if self.timestamp:
            span = " from {} to {}".format(*map(times.as_text, self.range)) if self.range else ""
            return f"time with its zone, such as {times.EXAMPLE}{span}"
        kind = {"BYTES": "string", "BOOL": "boolean"}.get(self.datatype, "number" if self.is_float else "integer")
        if self.range:
            kind += " from {:g} to {:g}".format(*self.range)
        if not self.is_scalar:
            most = f" up to {list(self.largest)}" if self.max_shape else ""
            kind = f"array of shape {list(self.shape[1:])}{most}, each value: {kind}"
        return f"{kind} ({self.unit})" if self.unit else kind


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
        specs = (*self.inputs, *self.outputs)
        newer = any(
            spec.nullable or spec.timestamp or spec.pad is not None or spec.datatype == "BF16" for spec in specs
        )
        newer = newer or self.has_targets or self.finds_entities or self.task == "opaque"
        if newer and self.format is msgspec.UNSET:
            msgspec.structs.force_setattr(self, "format", 2)
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
        if names := [spec.name for spec in self.outputs if spec.nullable or spec.timestamp or spec.pad is not None]:
            raise ValueError(
                f"contract of {self.name!r}: the output {names[0]} cannot be nullable, timestamp or padded"
            )
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
        """Whether it is a regression of several targets: numbers by name, of which the first decides."""
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
