"""The Open Inference Protocol, version 2: named tensors in JSON, and its binary tensor extension both ways.

The protocol's "Inference Request JSON Object" and "Inference Response JSON Object", and the "Binary Tensor
Data Extension": a JSON header of ``Inference-Header-Content-Length`` bytes, then the raw little-endian tensors, in
order.
"""

import math
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType

from handlers import json_input, json_output
from handlers.contract import ModelContract, TensorSpec
from handlers.message import OCTETS, InputError, Response
from handlers.tensors import Array, check_shape, json_array, json_type, to_tensor

HEADER_LENGTH = "inference-header-content-length"


class _Input(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    datatype: str
    data: Raw | UnsetType = UNSET
    parameters: dict[str, Any] = {}


class _Output(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    parameters: dict[str, Any] = {}


class _Request(Struct, frozen=True, forbid_unknown_fields=True):
    inputs: list[_Input]
    id: str | UnsetType = UNSET
    outputs: list[_Output] | UnsetType = UNSET
    parameters: dict[str, Any] = {}


class TensorRequest(NamedTuple):
    """A decoded request: one graph tensor an input, and what the response must repeat and hold."""

    tensors: dict[str, Array]
    rows: int
    top_k: int
    id: str | None
    outputs: tuple[tuple[str, bool], ...]  # name, and whether its data is wanted in binary


_DECODER = msgspec.json.Decoder(_Request)


def decode(contract: ModelContract, body: bytes, headers: Mapping[str, str], max_rows: int) -> TensorRequest:
    """Decode a request, binary when the header says where its JSON ends.

    Raises:
        InputError: not of the protocol, or not of the contract.
    """
    text, binary = _split(body, headers)
    request = json_input.decode(_DECODER, text, lambda path: "an Open Inference Protocol v2 request")
    json_input.check_unique_keys(text, 1 + 4 * len(request.inputs) + (request.id is not UNSET))
    specs = {spec.name: spec for spec in contract.inputs}
    tensors: dict[str, Array] = {}
    offset = 0
    for i, item in enumerate(request.inputs):
        path = f"$.inputs[{i}]"
        spec = specs.get(item.name)
        if spec is None or item.name in tensors:
            code = "unknown_field" if spec is None else "duplicate_key"
            raise InputError(code, f"input {item.name!r}", f"{path}.name", f"each once: {', '.join(specs)}")
        if item.datatype != spec.datatype:
            raise InputError("wrong_datatype", f"{item.name} is {item.datatype}", f"{path}.datatype", spec.datatype)
        check_shape(spec, item.shape, f"{path}.shape")
        if item.shape[0] > max_rows:
            raise InputError("too_many_rows", f"{item.shape[0]} rows", f"{path}.shape", f"at most {max_rows} rows")
        size = _binary_size(item, path)
        if size is None:
            values = _json_data(spec, item, f"{path}.data")
        else:
            values = _binary_data(spec, item, binary[offset : offset + size], f"{path}.parameters.binary_data_size")
            offset += size
        tensors[item.name] = to_tensor(spec, values, f"{path}.data")
    if offset != len(binary):
        expected = f"{offset} bytes, the sum of binary_data_size"
        raise InputError("invalid_tensor", f"{len(binary)} bytes follow the JSON header", "$", expected)
    _check_complete(contract, tensors)
    top_k = request.parameters.get("top_k", 1)
    if not isinstance(top_k, int) or isinstance(top_k, bool):
        raise InputError("invalid_parameter", f"top_k is {top_k!r}", "$.parameters.top_k", "an integer")
    rows = len(next(iter(tensors.values())))
    ident = None if request.id is UNSET else request.id
    return TensorRequest(tensors, rows, top_k, ident, _outputs(contract, request))


def encode(contract: ModelContract, request: TensorRequest, arrays: Mapping[str, Array]) -> Response:
    """Encode the requested outputs, in binary where the request asked for that.

    Args:
        contract: of the model.
        request: says which outputs, and how.
        arrays: every output of the contract, each with the request's rows.
    """
    datatypes = {spec.name: spec.datatype for spec in contract.outputs}
    head: dict[str, Any] = {"model_name": contract.name, "model_version": contract.version}
    if request.id is not None:
        head["id"] = request.id
    outputs, blobs = [], []
    for name, in_binary in request.outputs:
        array = np.ascontiguousarray(arrays[name])
        output: dict[str, Any] = {"name": name, "shape": array.shape, "datatype": datatypes[name]}
        if in_binary:
            blobs.append(_to_bytes(array, datatypes[name]))
            output["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            output["data"] = array.ravel().tolist() if datatypes[name] == "BYTES" else array.ravel()
        outputs.append(output)
    text = json_output.encode(head | {"outputs": outputs})
    if not blobs:
        return Response(200, text)
    headers = {"Inference-Header-Content-Length": str(len(text))}
    return Response(200, b"".join([text, *blobs]), OCTETS, headers)


def _split(body: bytes, headers: Mapping[str, str]) -> tuple[bytes, bytes]:
    length = headers.get(HEADER_LENGTH)
    if length is None:
        return body, b""
    if not (length.isascii() and length.isdigit() and len(length) < 10 and int(length) <= len(body)):
        expected = f"an integer from 0 to {len(body)}, the length of the body"
        raise InputError("invalid_tensor", f"Inference-Header-Content-Length is {length!r}", HEADER_LENGTH, expected)
    json_input.check_utf8(body[: int(length)])
    return body[: int(length)], body[int(length) :]


def _check_complete(contract: ModelContract, tensors: Mapping[str, Array]) -> None:
    for spec in contract.inputs:
        if spec.name not in tensors:
            raise InputError("missing_field", f"input {spec.name!r} is missing", "$.inputs", spec.describe())
    counts = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(counts.values())) > 1:
        rows = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError("wrong_shape", f"rows differ: {rows}", "$.inputs", "as many rows in every input")


def _outputs(contract: ModelContract, request: _Request) -> tuple[tuple[str, bool], ...]:
    known = [spec.name for spec in contract.outputs]
    default = request.parameters.get("binary_data_output", False) is True
    if request.outputs is UNSET or not request.outputs:
        return tuple((name, default) for name in known)
    for i, output in enumerate(request.outputs):
        if output.name not in known:
            path = f"$.outputs[{i}].name"
            raise InputError("unknown_output", f"unknown output {output.name!r}", path, f"one of {', '.join(known)}")
    return tuple((o.name, o.parameters.get("binary_data", default) is True) for o in request.outputs)


def _binary_size(item: _Input, path: str) -> int | None:
    size = item.parameters.get("binary_data_size")
    if size is None:
        if item.data is UNSET:
            raise InputError("missing_field", f"{item.name} has no data", f"{path}.data", "an array")
        return None
    if item.data is not UNSET or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        where = f"{path}.parameters.binary_data_size"
        raise InputError("invalid_tensor", f"binary_data_size is {size!r}", where, "a size in bytes, and no data")
    return size


def _json_data(spec: TensorSpec, item: _Input, path: str) -> Array:
    """Values in row-major order, flat or nested."""
    text = bytes(item.data)  # type: ignore[arg-type]
    nested = text.lstrip()[1:].lstrip()[:1] == b"["
    kind: Any = json_type(spec)
    for _ in item.shape if nested else [1]:
        kind = list[kind]
    try:
        values = json_input.decode(msgspec.json.Decoder(kind), text, lambda _: f"{spec.datatype} values")
    except InputError as error:
        raise InputError(error.code, error.message, path + error.path.removeprefix("$"), error.expected) from None
    return _reshape(json_array(spec, values, path), item, path)


def _reshape(array: Array, item: _Input, path: str) -> Array:
    if array.size != math.prod(item.shape) or (array.ndim > 1 and list(array.shape) != item.shape):
        found = f"data has {array.size} values" if array.ndim == 1 else f"data has shape {list(array.shape)}"
        raise InputError("wrong_shape", found, path, f"{math.prod(item.shape)} values, shape {item.shape}")
    return array.reshape(item.shape)


def _binary_data(spec: TensorSpec, item: _Input, blob: bytes, path: str) -> Array:
    if spec.datatype == "BYTES":
        return _reshape(_strings(blob, path), item, path)
    dtype = np.dtype(spec.dtype)
    expected = math.prod(item.shape) * dtype.itemsize
    if len(blob) != expected or item.parameters["binary_data_size"] != expected:
        size = item.parameters["binary_data_size"]
        raise InputError("invalid_tensor", f"{item.name}: {size} bytes, {len(blob)} sent", path, f"{expected} bytes")
    if dtype.kind == "b" and max(blob, default=0) > 1:
        raise InputError("invalid_tensor", f"{item.name} holds a byte that is neither 0 nor 1", path, "0 or 1")
    return np.frombuffer(blob, dtype).reshape(item.shape)


def _strings(blob: bytes, path: str) -> Array:
    """BYTES in binary: each element a 4-byte little-endian length, then its bytes."""
    values, offset = [], 0
    while offset < len(blob):
        if offset + 4 > len(blob) or offset + 4 + (size := struct.unpack_from("<I", blob, offset)[0]) > len(blob):
            raise InputError("invalid_tensor", "a string runs past the end", path, "4-byte length, then the bytes")
        try:
            values.append(blob[offset + 4 : offset + 4 + size].decode())
        except UnicodeDecodeError:
            raise InputError("invalid_utf8", f"string {len(values)} is not UTF-8", path, "UTF-8") from None
        offset += 4 + size
    return np.array(values, np.object_)


def _to_bytes(array: Array, datatype: str) -> bytes:
    if datatype != "BYTES":
        return array.tobytes()
    encoded = [str(value).encode() for value in array.ravel()]
    return b"".join(struct.pack("<I", len(value)) + value for value in encoded)
