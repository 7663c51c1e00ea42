"""The signature of a file that is served as it is: its inputs, made of the contract's, and the contract's outputs.

An archive has it as ``signature.json``. A graph in ONNX has none: there the same steps are operators of the graph.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import DTypeLike

from handlers.contract import DTYPES, Array, ModelContract, TensorSpec

FILE = "signature.json"
Step = Literal["", "column", "softmax", "sigmoid"]
Tensors = Mapping[str, Array]


class Input(msgspec.Struct, frozen=True, omit_defaults=True):
    """An input of the file's model.

    Attributes:
        name: as the file has it.
        sources: the contract's inputs that it is made of: one, or a number for each column of a matrix.
        batched: whether its first axis is the batch; else a row is the whole of it.
    """

    name: str
    datatype: str = "FP32"
    sources: tuple[str, ...] = ()
    is_matrix: bool = False
    batched: bool = True

    def make(self, tensors: Tensors, specs: Mapping[str, TensorSpec]) -> Array:
        """Make the array that the file's model takes, from rows of the contract's inputs."""
        dtype = np.dtype(DTYPES[self.datatype])
        columns = [_values(specs[name], tensors[name], dtype) for name in self.sources]
        if self.is_matrix:
            return np.stack(columns, 1)
        return columns[0] if self.batched else np.asarray(columns[0][0])


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """An output of the contract.

    Attributes:
        at: position among the outputs of the file's model.
        step: what is added: ``column`` makes ``(n, 1)`` values ``(n,)``; ``softmax`` makes logits probabilities, and
            ``sigmoid`` the probabilities of two classes of one logit.
        place: of the column, where the values have several; None for the only one.
    """

    name: str
    at: int
    step: Step = ""
    place: int | None = None

    def apply(self, outputs: Sequence[Array]) -> Array:
        """Compute the output from those of the file's model, rows first."""
        values = outputs[self.at]
        if self.step == "column":
            return values.reshape(-1) if self.place is None else np.ascontiguousarray(values[:, self.place])
        if self.step == "softmax":
            shifted = np.exp(values.astype(np.float64) - values.max(1, keepdims=True))
            return np.asarray(shifted / shifted.sum(1, keepdims=True), values.dtype)
        if self.step == "sigmoid":
            likely = 1 / (1 + np.exp(-values.reshape(-1).astype(np.float64)))
            return np.stack([1 - likely, likely], 1).astype(values.dtype)
        return values


class Signature(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of ``signature.json``.

    Attributes:
        inputs: in the order of the model's arguments.
        outputs: names in the order of its results.
        heads: the contract's outputs; none where hooks make them.
        bare: positions of the outputs that lack the batch's axis.
        packages: that its worker needs, by their names in registries.
        trusted: types in a file of skops that may be made, though skops does not know them.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    heads: tuple[Head, ...] = ()
    bare: tuple[int, ...] = ()
    packages: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()

    @property
    def graph_outputs(self) -> tuple[str, ...]:
        """Names of the outputs, as a contract has them for a graph."""
        return self.outputs


class Graph(Protocol):
    """Runs a model by its own names."""

    def run(self, tensors: Tensors) -> dict[str, Array]:
        """Compute the outputs of a batch."""


class Adapted:
    """An engine of a file with a signature.

    Args:
        model: takes and returns the file's own names.
    """

    def __init__(self, signature: Signature, model: Graph, contract: ModelContract) -> None:
        self._signature, self._model = signature, model
        self._specs = {spec.name: spec for spec in contract.inputs}

    def run(self, tensors: Tensors) -> dict[str, Array]:
        """Compute the contract's outputs of a batch."""
        made = {entry.name: entry.make(tensors, self._specs) for entry in self._signature.inputs}
        outputs = list(self._model.run(made).values())
        rows = [array[None] if i in self._signature.bare else array for i, array in enumerate(outputs)]
        return {head.name: head.apply(rows) for head in self._signature.heads}


def read_signature(directory: Path) -> Signature | None:
    """Read the signature of an unpacked archive; None where it has none.

    Raises:
        ValueError: it is damaged.
    """
    path = directory / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Signature) if path.exists() else None
    except msgspec.MsgspecError as error:
        raise ValueError(f"{FILE}: {error}") from error


def _values(spec: TensorSpec, values: Array, dtype: DTypeLike) -> Array:
    return np.array(spec.categories, object)[values] if spec.categories else values.astype(dtype)
