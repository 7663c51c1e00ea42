"""Requests drawn from a contract, each with the answer that it must get."""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson

from handlers.contract import Array, ModelContract, TensorSpec
from loadtests.requests import draws
from loadtests.requests.draws import Tensors

Kind = Literal["valid", "edge", "invalid", "example"]
JSON = "application/json"
MANY_ROWS = 128
LARGEST = 256_000  # bytes of one request's values
PATHS = {
    "native": "/predictions/{}",
    "v1": "/v1/models/{}:predict",
    "v2": "/v2/models/{}/infer",
    "v2-binary": "/v2/models/{}/infer",
    "npy": "/predictions/{}",
}
FORMATS = {"native": 0.6, "v1": 0.15, "v2": 0.15, "v2-binary": 0.05, "npy": 0.05}  # shares of valid requests


class Answer(NamedTuple):
    """What a request that is answered must get.

    Attributes:
        rows: how many predictions.
        top_k: how many classes each.
        exact: the whole body, where it is known.
    """

    rows: int
    top_k: int = 1
    exact: dict[str, Any] | None = None


class Refusal(NamedTuple):
    """What a request that is refused must get."""

    status: int
    code: str


@dataclass(frozen=True)
class Payload:
    """One request.

    Attributes:
        kind: why it is sent.
        protocol: a key of ``PATHS``.
        body: raw bytes.
        expected: its right answer.
        headers: content type and others.
    """

    kind: Kind
    protocol: str
    body: bytes
    expected: Answer | Refusal
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": JSON})

    def path(self, model: str) -> str:
        """Where it is sent."""
        return PATHS[self.protocol].format(model)


def example(contract: ModelContract) -> Payload:
    """The contract's example, which must get the contract's answer."""
    answer = Answer(1, exact=contract.example.response)
    return Payload("example", "native", dumps(contract.example.request), answer)


def valid(contract: ModelContract, rng: np.random.Generator, protocol: str | None = None) -> Payload:
    """One to eight plausible rows, in a format by its share."""
    protocol = protocol or str(rng.choice(list(FORMATS), p=list(FORMATS.values())))
    rows = 1 if protocol == "native" else int(rng.integers(1, 9))
    return write(contract, "valid", protocol, draws.plausible(contract, rng, rows))


def edge(contract: ModelContract, rng: np.random.Generator, protocol: str | None = None) -> Payload:
    """What is just inside: ends of ranges, one row or many, every class asked for, in any format."""
    protocol = protocol or str(rng.choice(list(FORMATS)))
    many = int(max(1, min(MANY_ROWS, LARGEST // _row_size(contract))))
    rows = 1 if protocol == "native" or rng.random() < 0.5 else many
    draw = draws.extreme if rng.random() < 0.5 else draws.plausible
    top_k = len(contract.labels) if contract.labels and rng.random() < 0.5 else 1
    return write(contract, "edge", protocol, draw(contract, rng, rows), top_k)


def write(contract: ModelContract, kind: Kind, protocol: str, tensors: Tensors, top_k: int = 1) -> Payload:
    """Rows as a request of one format."""
    body, headers = _WRITERS[protocol](contract, tensors, top_k)
    return Payload(kind, protocol, body, Answer(len(next(iter(tensors.values()))), top_k), headers)


def dumps(value: Any) -> bytes:
    """JSON as a NumPy client writes it, a float32 as its shortest text."""
    return orjson.dumps(value, default=lambda array: array.tolist(), option=orjson.OPT_SERIALIZE_NUMPY)


def native_row(contract: ModelContract, tensors: Tensors) -> dict[str, Any]:
    """The first row as the native format's object."""
    row = _rows(contract, tensors)[0]
    return row if contract.has_named_rows else {"inputs": row}


def v2_inputs(contract: ModelContract, tensors: Tensors) -> list[dict[str, Any]]:
    """The tensors as the Open Inference Protocol's inputs."""
    return [
        {"name": spec.name, "shape": tensors[spec.name].shape, "datatype": spec.datatype, "data": _flat(tensors, spec)}
        for spec in contract.inputs
    ]


def _row_size(contract: ModelContract) -> int:
    return sum(4 * int(np.prod(spec.shape[1:])) for spec in contract.inputs)  # a JSON number of a picture: "255,"


def _parameters(top_k: int) -> dict[str, Any]:
    return {"parameters": {"top_k": top_k}} if top_k > 1 else {}


Writer = Callable[[ModelContract, Tensors, int], tuple[bytes, dict[str, str]]]


def _native(contract: ModelContract, tensors: Tensors, top_k: int) -> tuple[bytes, dict[str, str]]:
    return dumps(native_row(contract, tensors) | _parameters(top_k)), {"Content-Type": JSON}


def _v1(contract: ModelContract, tensors: Tensors, top_k: int) -> tuple[bytes, dict[str, str]]:
    return dumps({"instances": _rows(contract, tensors)} | _parameters(top_k)), {"Content-Type": JSON}


def _v2(contract: ModelContract, tensors: Tensors, top_k: int) -> tuple[bytes, dict[str, str]]:
    return dumps({"inputs": v2_inputs(contract, tensors)} | _parameters(top_k)), {"Content-Type": JSON}


def _v2_binary(contract: ModelContract, tensors: Tensors, top_k: int) -> tuple[bytes, dict[str, str]]:
    blobs = [_to_bytes(_flat(tensors, spec)) for spec in contract.inputs]
    items = v2_inputs(contract, tensors)
    for item, blob in zip(items, blobs, strict=True):
        del item["data"]
        item["parameters"] = {"binary_data_size": len(blob)}
    head = dumps({"inputs": items} | _parameters(top_k))
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return b"".join([head, *blobs]), headers


def _npy(contract: ModelContract, tensors: Tensors, top_k: int) -> tuple[bytes, dict[str, str]]:
    """A plain array of the only input; of several, a structured one."""
    columns = {name: array.astype(str) if array.dtype == object else array for name, array in tensors.items()}
    (first, *others) = columns.values()
    if others:
        dtype = [(name, array.dtype, array.shape[1:]) for name, array in columns.items()]
        table = np.zeros(len(first), dtype)
        for name, array in columns.items():
            table[name] = array
        first = table
    buffer = io.BytesIO()
    np.save(buffer, first, allow_pickle=False)
    return buffer.getvalue(), {"Content-Type": "application/x-npy", "X-Top-K": str(top_k)}


_WRITERS: dict[str, Writer] = {"native": _native, "v1": _v1, "v2": _v2, "v2-binary": _v2_binary, "npy": _npy}


def _rows(contract: ModelContract, tensors: Tensors) -> list[Any]:
    if not contract.has_named_rows:
        return list(tensors[contract.inputs[0].name])
    columns = [tensors[spec.name] for spec in contract.inputs]
    names = [spec.name for spec in contract.inputs]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _flat(tensors: Tensors, spec: TensorSpec) -> Array:
    return np.ascontiguousarray(tensors[spec.name]).ravel()


def _to_bytes(array: Array) -> bytes:
    if array.dtype != object:
        return array.tobytes()
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in array)
