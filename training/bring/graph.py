"""A model as it came: its graph in ONNX, its inputs and outputs, and its own answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import onnx
from onnx import TensorProto

from handlers.contract import Array, ModelContract, TensorSpec
from handlers.engine import load_engine, open_session

OPSETS = ("", "ai.onnx")  # names of the standard domain of operators
# Datatypes of the Open Inference Protocol by ONNX's.
DATATYPES: dict[int, str] = {
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
    TensorProto.FLOAT16: "FP16",
    TensorProto.INT8: "INT8",
    TensorProto.INT16: "INT16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.UINT8: "UINT8",
    TensorProto.UINT16: "UINT16",
    TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64",
    TensorProto.BOOL: "BOOL",
    TensorProto.STRING: "BYTES",
}


class BringError(Exception):
    """A file is no model that can be imported; the message says what is wrong, and the way out where there is one."""


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    Attributes:
        kind: ONNX's number of the datatype.
        sizes: of each axis; a symbol where it is free, and None where the file says nothing.
        brain: whether the file has it as bfloat16, that a cast makes FP32 of.
    """

    name: str
    kind: int
    sizes: tuple[int | str | None, ...]
    brain: bool = False

    @property
    def datatype(self) -> str:
        """Datatype of the Open Inference Protocol."""
        return "BF16" if self.brain else DATATYPES[self.kind]


class Original(Protocol):
    """A model as its own framework runs it."""

    def run(self, tensors: Mapping[str, Array]) -> list[Array]:
        """Compute the outputs, in the graph's order, from its inputs by name; raise ``BringError`` if it cannot."""


@dataclass(frozen=True)
class Intake:
    """The way of a request's values to the graph's only input, where a worker makes other values of them.

    Attributes:
        entry_point: a key of ``contents.ENTRY_POINTS``.
        spec: the contract's input.
        encode: from the values of a request to the graph's.
        samples: values of some requests, that answers are compared on; the last takes longest.
        assets: files that the worker needs, by name.
        outputs: the contract's, where a worker makes them of the scores of labels that the graph has; else empty.
    """

    entry_point: str
    spec: TensorSpec
    encode: Callable[[Array], Array]
    samples: Array
    assets: Mapping[str, bytes] = field(default_factory=dict)
    outputs: tuple[TensorSpec, ...] = ()


@dataclass(frozen=True)
class AsItIs:
    """The way to serve the file of a model itself.

    Attributes:
        engine: runs it in a worker.
        path: the file.
        name: its name in an archive.
        inputs: names in the order of the model's arguments.
        outputs: names in the order of its results.
        packages: that its worker needs.
        cost: what it costs, beside a graph in ONNX.
        trusted: types that skops does not know.
    """

    engine: Literal["torch", "torchscript", "python"]
    path: Path
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    packages: tuple[str, ...]
    cost: str
    trusted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Brought:
    """A model that came as a file.

    Attributes:
        graph: None where it does not convert; then ``as_it_is`` says how it is served.
        kind: name of the file's format.
        sha256: of the file.
        labels: class names that the file holds; empty where it holds none.
        notes: sentences about what was found.
        aliases: inputs by further names, which an example may use.
        columns: names that the file has for the columns of its only input, a matrix; empty where it has none.
        example: row of JSON that came along; empty where there is none.
        original: None where that is the graph itself; it takes the values of requests, where there is an ``intake``.
        hooks: file of the user's code around the graph.
        intake: None where the graph takes the contract's tensors as they are.
        as_it_is: None where nothing but the graph can be served.
        branches: whether it has branches or loops, which may look at all rows of a batch at once.
    """

    file: str
    kind: str
    sha256: str
    graph: onnx.ModelProto | None
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    original: Original | None = None
    hooks: Path | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    example: bytes = b""
    intake: Intake | None = None
    as_it_is: AsItIs | None = None
    branches: bool = False

    @property
    def session(self) -> Original:
        """The model that answers for the file."""
        return self.original or Session(self.converted)

    @property
    def converted(self) -> onnx.ModelProto:
        """The graph, of a model that has one."""
        assert self.graph is not None
        return self.graph

    @property
    def served(self) -> AsItIs | None:
        """The way to serve the file itself, where there is no graph."""
        return None if self.graph else self.as_it_is

    def encoded(self, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return what a worker gives to the served graph for rows of the contract's inputs."""
        if self.intake is None:
            return tensors
        return {self.intake.spec.name: self.intake.encode(tensors[self.intake.spec.name])}

    @property
    def opset(self) -> int:
        """Version of the standard operators; 0 without a graph."""
        imports = self.graph.opset_import if self.graph else ()
        return next((entry.version for entry in imports if entry.domain in OPSETS), 0)


class Session:
    """Runs an ONNX graph on the CPU with one thread.

    Raises:
        BringError: ONNX Runtime cannot run it; names the operator or the version.
    """

    def __init__(self, graph: onnx.ModelProto) -> None:
        try:
            self._session = open_session(graph.SerializeToString(), threads=1, log_severity=4)
        except Exception as error:  # ONNX Runtime has classes of its own without a common base
            raise BringError(f"ONNX Runtime {version('onnxruntime')} cannot run it: {first_line(error)}") from error
        self.outputs = [output.name for output in self._session.get_outputs()]

    def run(self, tensors: Mapping[str, Array]) -> list[Array]:
        """Compute the outputs, in the graph's order.

        Raises:
            BringError: the graph refuses these values.
        """
        try:
            return [np.asarray(array) for array in self._session.run(self.outputs, dict(tensors))]
        except Exception as error:
            raise BringError(f"the graph cannot compute these values: {first_line(error)}") from error


class Served:
    """Runs a model as a worker does, from its unpacked archive.

    Raises:
        BringError: the engine cannot run it.
    """

    def __init__(self, folder: Path, contract: ModelContract, engine: str) -> None:
        try:
            self._engine = load_engine(engine, folder, contract, 1)
        except Exception as error:
            name = f"ONNX Runtime {version('onnxruntime')}" if engine == "onnxruntime" else f"the engine {engine}"
            raise BringError(f"{name} cannot run it: {first_line(error)}") from error

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the contract's outputs of a batch.

        Raises:
            BringError: the graph refuses these values.
        """
        try:
            return self._engine.run(tensors)
        except Exception as error:
            raise BringError(f"the graph cannot compute these values: {first_line(error)}") from error


def port_of(value: onnx.ValueInfoProto) -> Port:
    """Read an input or output.

    Raises:
        BringError: it is no tensor, or of a datatype that no protocol has.
    """
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise BringError(f"{value.name} is a {str(kind).removesuffix('_type')}, and no tensor")
    tensor = value.type.tensor_type
    if tensor.elem_type not in DATATYPES:
        name = TensorProto.DataType.Name(tensor.elem_type)
        raise BringError(f"{value.name} has the datatype {name}, which no request can hold")
    return Port(value.name, tensor.elem_type, tuple(map(_size, tensor.shape.dim)))


def inputs_of(graph: onnx.ModelProto) -> tuple[Port, ...]:
    """Read the inputs; weights, which old files list among them, are none."""
    weights = {weight.name for weight in graph.graph.initializer}
    return tuple(port_of(value) for value in graph.graph.input if value.name not in weights)


def labels_of(nodes: Sequence[onnx.NodeProto]) -> tuple[str, ...]:
    """Return the class names that an operator of ``ai.onnx.ml`` holds."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name == "classlabels_strings" and attribute.strings:
                return tuple(text.decode() for text in attribute.strings)
            if attribute.name in ("classlabels_int64s", "classlabels_ints") and attribute.ints:
                return tuple(map(str, attribute.ints))
    return ()


def _size(size: Any) -> int | str | None:
    if size.HasField("dim_value"):
        return int(size.dim_value) if size.dim_value > 0 else None
    return str(size.dim_param) or None


def first_line(error: BaseException) -> str:
    """Return the first line of an error, as far as a user reads it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:400]
