"""Random requests from a contract, each with its right answer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from handlers.contract import ModelContract
from handlers.contract.example import request_of
from handlers.formats.requests import (
    native_request,
    npy_request,
    rows_of,
    to_json,
    v1_request,
    v2_binary_request,
    v2_request,
)
from handlers.message import JSON, NPY
from loadtests.requests import draws
from loadtests.requests.draws import Tensors

Kind = Literal["valid", "edge", "invalid", "example"]
MANY_ROWS = 128
LARGEST = 256_000  # most bytes of one request's values
PATHS = {
    "native": "/predictions/{}",
    "v1": "/v1/models/{}:predict",
    "v2": "/v2/models/{}/infer",
    "v2-binary": "/v2/models/{}/infer",
    "npy": "/predictions/{}",
}
FORMATS = {"native": 0.6, "v1": 0.15, "v2": 0.15, "v2-binary": 0.05, "npy": 0.05}  # shares of valid requests


class Answer(NamedTuple):
    """The right answer to a valid request.

    Attributes:
        rows: number of predictions.
        top_k: number of classes of each.
    """

    rows: int
    top_k: int = 1


class Refusal(NamedTuple):
    """The right answer to an invalid request."""

    status: int
    code: str


@dataclass(frozen=True)
class Payload:
    """A request with its right answer.

    Attributes:
        protocol: a key of ``PATHS``.
    """

    kind: Kind
    protocol: str
    body: bytes
    expected: Answer | Refusal
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": JSON})

    def path(self, model: str) -> str:
        """Return the path that it is sent to."""
        return PATHS[self.protocol].format(model)


def example(contract: ModelContract) -> Payload:
    """Return the contract's example; the right answer is the contract's."""
    body, kind = request_of(contract)
    return Payload("example", "native", body, Answer(1), {"Content-Type": kind})


def valid(contract: ModelContract, rng: np.random.Generator, protocol: str | None = None) -> Payload:
    """Draw one to eight plausible rows, in a format by its share."""
    protocol = protocol or str(rng.choice(list(FORMATS), p=list(FORMATS.values())))
    rows = 1 if protocol == "native" else int(rng.integers(1, 1 + contract.most_rows(8)))
    return payload_of(contract, "valid", protocol, draws.plausible(contract, rng, rows))


def edge(contract: ModelContract, rng: np.random.Generator, protocol: str | None = None) -> Payload:
    """Draw a request at the limits: ends of ranges, one row or many, all classes, in any format."""
    protocol = protocol or str(rng.choice(list(FORMATS)))
    many = contract.most_rows(int(max(1, min(MANY_ROWS, LARGEST // _row_size(contract)))))
    rows = 1 if protocol == "native" or rng.random() < 0.5 else many
    values = draws.extreme if rng.random() < 0.5 else draws.plausible
    top_k = contract.most_classes if contract.labels and rng.random() < 0.5 else 1
    return payload_of(contract, "edge", protocol, values(contract, rng, rows), top_k)


def payload_of(contract: ModelContract, kind: Kind, protocol: str, tensors: Tensors, top_k: int = 1) -> Payload:
    """Encode rows as a request of one format."""
    body, headers = _WRITERS[protocol](contract, tensors, top_k)
    return Payload(kind, protocol, body, Answer(len(next(iter(tensors.values()))), top_k), headers)


def _row_size(contract: ModelContract) -> int:
    return sum(4 * int(np.prod(spec.largest)) for spec in contract.inputs)  # a JSON number of a picture: "255,"


def _parameters(top_k: int) -> dict[str, Any]:
    return {"parameters": {"top_k": top_k}} if top_k > 1 else {}


Writer = Callable[[ModelContract, Tensors, int], tuple[bytes, dict[str, str]]]


def _native(contract: ModelContract, tensors: Tensors, top_k: int) -> tuple[bytes, dict[str, str]]:
    request = native_request(contract, rows_of(contract, tensors)[0])
    return to_json(request | _parameters(top_k)), {"Content-Type": JSON}


def _v1(contract: ModelContract, tensors: Tensors, top_k: int) -> tuple[bytes, dict[str, str]]:
    return to_json(v1_request(contract, rows_of(contract, tensors)) | _parameters(top_k)), {"Content-Type": JSON}


def _v2(contract: ModelContract, tensors: Tensors, top_k: int) -> tuple[bytes, dict[str, str]]:
    return to_json(v2_request(contract, tensors) | _parameters(top_k)), {"Content-Type": JSON}


def _v2_binary(contract: ModelContract, tensors: Tensors, top_k: int) -> tuple[bytes, dict[str, str]]:
    return v2_binary_request(contract, tensors, _parameters(top_k))


def _npy(contract: ModelContract, tensors: Tensors, top_k: int) -> tuple[bytes, dict[str, str]]:
    return npy_request(tensors), {"Content-Type": NPY, "X-Top-K": str(top_k)}


_WRITERS: dict[str, Writer] = {"native": _native, "v1": _v1, "v2": _v2, "v2-binary": _v2_binary, "npy": _npy}
