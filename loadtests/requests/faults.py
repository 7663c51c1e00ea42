"""Requests that must be refused, each with one fault, and with the status and code that name it."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np

from handlers.contract import ModelContract, TensorSpec
from handlers.formats.requests import native_member, native_request, rows_of, to_json, v2_request
from handlers.message import JSON
from loadtests.requests import draws
from loadtests.requests.payloads import Payload, Refusal, payload_of

STATUS = {"too_many_rows": 413, "unsupported_media_type": 415}  # all others are 400
_HOLE = "a value that JSON cannot hold"


def invalid(contract: ModelContract, rng: np.random.Generator) -> Payload:
    """Draw a request with one of the faults that are possible for this model."""
    payloads = faults(contract, rng)
    return payloads[int(rng.integers(len(payloads)))]


def faults(contract: ModelContract, rng: np.random.Generator) -> list[Payload]:
    """Return a request for every fault that is possible for this model."""
    tensors = draws.plausible(contract, rng, 1)
    row = native_request(contract, rows_of(contract, tensors)[0])
    return [*_malformed(row), *_fields(contract, row), *_values(contract, row), *_tensors(contract, tensors)]


def _refused(code: str, body: Any, content_type: str = JSON, protocol: str = "native") -> Payload:
    text = body if isinstance(body, bytes) else to_json(body)
    expected = Refusal(STATUS.get(code, 400), code)
    return Payload("invalid", protocol, text, expected, {"Content-Type": content_type})


def _encoded(payload: Payload) -> Payload:
    """Add a header that claims a compression which the body does not have."""
    return replace(payload, headers={**payload.headers, "Content-Encoding": "gzip"})


def _malformed(row: dict[str, Any]) -> list[Payload]:
    """Return faults of the bytes."""
    text = to_json(row)
    name, value = next(iter(row.items()))
    again = to_json({name: value})
    return [
        _refused("invalid_json", text[:-1]),
        _refused("empty", b""),
        _refused("invalid_utf8", text + b"\xff"),
        _refused("duplicate_key", text[:-1] + b"," + again[1:]),
        _refused("unsupported_media_type", text, "text/plain"),
        _encoded(_refused("invalid_encoding", text)),
        _refused("invalid_npy", b"\x93NUMPY\x01\x00no header", "application/x-npy", "npy"),
    ]


def _fields(contract: ModelContract, row: dict[str, Any]) -> list[Payload]:
    """Return faults of the object around the values."""
    needed = [native_member(contract, spec) for spec in contract.inputs if not spec.nullable]
    without = {name: value for name, value in row.items() if name not in needed[-1:]}
    return [
        *([_refused("missing_field", without)] if needed else []),
        _refused("unknown_field", row | {"no_such_field": 1}),
        _refused("invalid_parameter", row | {"parameters": {"top_k": 0}}),
        _refused("empty", {"instances": []}, protocol="v1"),
    ]


def _values(contract: ModelContract, row: dict[str, Any]) -> list[Payload]:
    """Return faults of single values."""
    refused = []
    nullable = any(spec.nullable for spec in contract.inputs)
    for spec in contract.inputs:
        name = native_member(contract, spec)
        refused.append(_refused("wrong_type", row | {name: {} if spec.nullable else None}))
        if spec.categories:
            refused.append(_refused("unknown_category", row | {name: "no such " + spec.name}))
        elif spec.datatype not in ("BYTES", "BOOL"):
            text = to_json(row | {name: _with_hole(spec, row[name])})
            hole = to_json(_HOLE)
            if not nullable:  # else NaN is null
                refused.append(_refused("not_finite", text.replace(hole, b"NaN")))
            refused.append(_refused("out_of_range", text.replace(hole, _beyond(spec))))
        if not spec.is_scalar and not spec.varies:
            refused.append(_refused("wrong_shape", row | {name: np.asarray(row[name])[1:]}))
    return refused


def _with_hole(spec: TensorSpec, value: Any) -> Any:
    """Replace the first element of a value by a marker."""
    if spec.is_scalar:
        return _HOLE
    nested = copy.deepcopy(np.asarray(value).tolist())
    inner = nested
    for _ in spec.shape[2:]:
        inner = inner[0]
    inner[0] = _HOLE
    return nested


def _beyond(spec: TensorSpec) -> bytes:
    """Return a number outside the range; without a range, a number that no type holds."""
    if spec.range is None:
        return b"1e400"
    return to_json(int(spec.range[1]) + 1 + abs(int(spec.range[1])))


def _tensors(contract: ModelContract, tensors: draws.Tensors) -> list[Payload]:
    """Return faults of the Open Inference Protocol, in the first tensor."""
    (first, *others) = v2_request(contract, tensors)["inputs"]
    rows = {"shape": [2, *first["shape"][1:]]}
    # More rows than any model takes; no data, because the shape is refused before the data are read.
    million = {"shape": [1_000_000, *first["shape"][1:]], "data": []}
    other = {"datatype": "BOOL" if first["datatype"] != "BOOL" else "FP32"}
    outputs = {"outputs": [{"name": "no_such_output"}]}
    binary = payload_of(contract, "invalid", "v2-binary", tensors)
    cut = Payload("invalid", "v2-binary", binary.body[:-1], Refusal(400, "invalid_tensor"), binary.headers)
    return [
        _refused("wrong_shape", {"inputs": [first | rows, *others]}, protocol="v2"),
        _refused("too_many_rows", {"inputs": [first | million, *others]}, protocol="v2"),
        _refused("wrong_datatype", {"inputs": [first | other, *others]}, protocol="v2"),
        _refused("unknown_output", {"inputs": [first, *others]} | outputs, protocol="v2"),
        cut,
    ]
