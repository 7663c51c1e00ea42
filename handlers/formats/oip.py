"""The Open Inference Protocol, version 2: named tensors in JSON, and its binary tensor extension both ways.

The protocol's "Inference Request JSON Object" and "Inference Response JSON Object", and the "Binary Tensor
Data Extension": a JSON header of ``Inference-Header-Content-Length`` bytes, then the raw little-endian tensors, in
order.
"""

import math
import struct
from collections.abc import Container, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType

from handlers import json_io
from handlers.contract import Array, ModelContract, TensorSpec
from handlers.features import all_missing
from handlers.formats.answers import check_top_k, class_texts
from handlers.formats.tensors import (
    NUMERIC,
    brain_bytes,
    brain_numbers,
    check_axes,
    fit_shape,
    json_array,
    json_type,
    to_tensor,
)
from handlers.message import OCTETS, InputError, Response

HEADER_LENGTH = "inference-header-content-length"


# An absent member may be null instead: clients write every optional member that they know.
_Parameters = dict[str, Any] | None


class _Input(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    datatype: str
    data: Raw | UnsetType = UNSET
    parameters: _Parameters = None

    @property
    def has_data(self) -> bool:
        return self.data is not UNSET and bytes(memoryview(self.data)[:4]) != b"null"


class _Output(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    parameters: _Parameters = None


class _Request(Struct, frozen=True, forbid_unknown_fields=True):
    inputs: list[_Input]
    id: str | None = None
    outputs: list[_Output] | None = None
    parameters: _Parameters = None
    # KServe's own clients repeat here the URL's model, and how they read the answer.
    model_name: str | None = None
    model_version: str | None = None
    raw_output: Any = None


class RequestedOutput(NamedTuple):
    """An output of the response.

    Attributes:
        in_binary: whether its data is binary.
        classes: number of classes of each row in place of the tensor; 0 for the tensor.
    """

    name: str
    in_binary: bool
    classes: int = 0


class TensorRequest(NamedTuple):
    """A decoded request: a graph tensor an input, and the id and outputs of the response."""

    tensors: dict[str, Array]
    rows: int
    top_k: int
    id: str | None
    outputs: tuple[RequestedOutput, ...]


_DECODER = msgspec.json.Decoder(_Request)


def decode(
    contract: ModelContract, body: bytes, headers: Mapping[str, str], max_rows: int, names: Container[str] = ()
) -> TensorRequest:
    """Decode a request, binary when the header says where its JSON ends.

    Args:
        body: JSON, and tensors behind it.
        headers: names in lower case.
        names: of the served model, beside the contract's.

    Raises:
        InputError: not of the protocol, or not of the contract.
    """
    text, binary = split(body, headers)
    request = json_io.decode_strictly(_DECODER, text, lambda path: "an Open Inference Protocol v2 request", _members)
    _check_model(contract, request, names)
    tensors = _tensors(contract, request, binary, max_rows)
    _complete(contract, tensors)
    top_k = _whole((request.parameters or {}).get("top_k"), 1, "$.parameters.top_k")
    rows = len(next(iter(tensors.values())))
    return TensorRequest(tensors, rows, top_k, request.id, _outputs(contract, request))


def _members(request: _Request) -> int:
    """Count the decoded members, without those that hold objects or were null."""
    optional = (request.id, request.model_name, request.model_version)
    count = 1 + len(optional) - optional.count(None)
    for item in request.inputs:
        count += 3 + (item.data is not UNSET) + (1 + len(item.parameters) if item.parameters is not None else 0)
    return count


def _tensors(contract: ModelContract, request: _Request, binary: bytes, max_rows: int) -> dict[str, Array]:
    specs = {spec.name: spec for spec in contract.inputs}
    tensors: dict[str, Array] = {}
    offset = 0
    for i, item in enumerate(request.inputs):
        path = f"$.inputs[{i}]"
        spec = specs.get(item.name)
        if spec is None or item.name in tensors:
            code = "unknown_field" if spec is None else "duplicate_key"
            raise InputError(code, f"input {item.name!r}", f"{path}.name", f"each once: {', '.join(specs)}")
        sent = _sent(spec, item.datatype, f"{path}.datatype")
        shape = fit_shape(spec, item.shape, f"{path}.shape")
        if shape[0] > max_rows:
            raise InputError("too_many_rows", f"{shape[0]} rows", f"{path}.shape", f"at most {max_rows} rows")
        size = _binary_size(item, path)
        if size is None:
            nullable = sent.nullable or (spec.nullable and sent.datatype == "BYTES")
            values = _json_data(sent, item, f"{path}.data", nullable)
        else:
            values = _binary_data(sent, item, binary[offset : offset + size], f"{path}.parameters.binary_data_size")
            offset += size
        values = values.reshape(shape)
        if sent is not spec:
            values = to_tensor(sent, values, f"{path}.data")
        tensors[item.name] = to_tensor(spec, values, f"{path}.data")
    if offset != len(binary):
        expected = f"{offset} bytes, the sum of binary_data_size"
        raise InputError("invalid_tensor", f"{len(binary)} bytes follow the JSON header", "$", expected)
    return tensors


def _sent(spec: TensorSpec, datatype: str, path: str) -> TensorSpec:
    """Return the input as the client declares it: texts of times, or numbers of any type that the contract's holds.

    Raises:
        InputError: numbers do not become BOOL or BYTES, nor these numbers.
    """
    if datatype == spec.datatype:
        return spec
    if spec.timestamp and datatype == "BYTES":
        return TensorSpec(spec.name, datatype, spec.shape)
    if datatype not in NUMERIC or spec.datatype not in NUMERIC:
        raise InputError("wrong_datatype", f"{spec.name} is {datatype}", path, spec.datatype)
    sent = TensorSpec(spec.name, datatype, spec.shape, max_shape=spec.max_shape)
    return msgspec.structs.replace(sent, nullable=spec.nullable and sent.is_float)


def _check_model(contract: ModelContract, request: _Request, names: Container[str]) -> None:
    name, version = request.model_name, request.model_version
    if name and name != contract.name and name not in names:
        raise InputError("invalid_parameter", f"this is not the model {name!r}", "$.model_name", contract.name)
    if version and version != contract.version:
        raise InputError("invalid_parameter", f"this is not version {version!r}", "$.model_version", contract.version)


def _whole(value: Any, default: int, path: str) -> int:
    """Return a parameter that is a whole number; null stands for the default."""
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise InputError("invalid_parameter", f"{path.rpartition('.')[2]} is {value!r}", path, "an integer")
    return int(value)


def encode(contract: ModelContract, request: TensorRequest, arrays: Mapping[str, Array]) -> Response:
    """Encode the requested outputs; ``arrays`` has every output of the contract, with the request's rows."""
    datatypes = {spec.name: spec.datatype for spec in contract.outputs}
    head: dict[str, Any] = {"model_name": contract.name, "model_version": contract.version}
    if request.id is not None:
        head["id"] = request.id
    outputs, blobs = [], []
    for name, in_binary, classes in request.outputs:
        array, datatype = np.ascontiguousarray(arrays[name]), datatypes[name]
        if classes:
            array, datatype = class_texts(contract, array, classes), "BYTES"
        output: dict[str, Any] = {"name": name, "shape": array.shape, "datatype": datatype}
        if in_binary:
            blobs.append(tensor_bytes(array, datatype))
            output["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            output["data"] = array.ravel().tolist() if datatype == "BYTES" else array.ravel()
        outputs.append(output)
    text = json_io.encode(head | {"outputs": outputs})
    if not blobs:
        return Response(200, text)
    headers = {"Inference-Header-Content-Length": str(len(text))}
    return Response(200, b"".join([text, *blobs]), OCTETS, headers)


def split(body: bytes, headers: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Split a body into its JSON text and the binary tensors behind it, where a header announces them.

    Raises:
        InputError: the header is no length, or the text is not UTF-8.
    """
    length = headers.get(HEADER_LENGTH)
    if length is None:
        return body, b""
    if not (length.isascii() and length.isdigit() and len(length) < 10 and int(length) <= len(body)):
        expected = f"an integer from 0 to {len(body)}, the length of the body"
        raise InputError("invalid_tensor", f"Inference-Header-Content-Length is {length!r}", HEADER_LENGTH, expected)
    json_io.check_utf8(body[: int(length)])
    return body[: int(length)], body[int(length) :]


def _complete(contract: ModelContract, tensors: dict[str, Array]) -> None:
    """Add the nullable inputs that are absent; raise ``InputError`` for others, and for numbers of rows that differ."""
    first = len(next(iter(tensors.values()), ()))
    for spec in contract.inputs:
        if spec.nullable and spec.name not in tensors and first:
            tensors[spec.name] = all_missing(spec, first)
        if spec.name not in tensors:
            raise InputError("missing_field", f"input {spec.name!r} is missing", "$.inputs", spec.describe())
    counts = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(counts.values())) > 1:
        rows = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError("wrong_shape", f"rows differ: {rows}", "$.inputs", "as many rows in every input")
    check_axes(contract.inputs, tensors, "$.inputs")


def _outputs(contract: ModelContract, request: _Request) -> tuple[RequestedOutput, ...]:
    default = (request.parameters or {}).get("binary_data_output") is True
    if not request.outputs:
        return tuple(RequestedOutput(spec.name, default) for spec in contract.outputs)
    return tuple(_output(contract, output, f"$.outputs[{i}]", default) for i, output in enumerate(request.outputs))


def _output(contract: ModelContract, output: _Output, path: str, default: bool) -> RequestedOutput:
    names = [spec.name for spec in contract.outputs]
    if output.name not in names:
        expected = f"one of {', '.join(names)}"
        raise InputError("unknown_output", f"unknown output {output.name!r}", f"{path}.name", expected)
    parameters = output.parameters or {}
    if parameters.get("shared_memory_region") is not None:
        where = f"{path}.parameters.shared_memory_region"
        raise InputError("not_supported", "shared memory is not offered", where, "outputs in the response")
    in_binary = parameters.get("binary_data")
    classes = _whole(parameters.get("classification"), 0, where := f"{path}.parameters.classification")
    if classes and output.name != "probabilities":
        raise InputError("invalid_parameter", f"{output.name} has no classes", where, _classified(contract))
    if classes:
        check_top_k(contract, classes, where)
    return RequestedOutput(output.name, default if in_binary is None else in_binary is True, classes)


def _classified(contract: ModelContract) -> str:
    several = contract.most_classes > 1
    return "the output probabilities" if several else "no classification: this model has no classes"


def _binary_size(item: _Input, path: str) -> int | None:
    size = (item.parameters or {}).get("binary_data_size")
    if size is None:
        if not item.has_data:
            raise InputError("missing_field", f"{item.name} has no data", f"{path}.data", "an array")
        return None
    if item.has_data or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        where = f"{path}.parameters.binary_data_size"
        raise InputError("invalid_tensor", f"binary_data_size is {size!r}", where, "a size in bytes, and no data")
    return size


def _json_data(spec: TensorSpec, item: _Input, path: str, nullable: bool) -> Array:
    """Decode values in row-major order, flat or nested."""
    text = bytes(item.data)  # type: ignore[arg-type]
    nested = text.lstrip()[1:].lstrip()[:1] == b"["
    decoder = _values_decoder(spec.datatype, len(item.shape) if nested else 1, nullable)
    try:
        values = json_io.decode(decoder, text, lambda _: f"{spec.datatype} values")
    except InputError as error:
        raise InputError(error.code, error.message, path + error.path.removeprefix("$"), error.expected) from None
    return _reshape(json_array(spec, values, path), item, path)


@lru_cache(maxsize=64)
def _values_decoder(datatype: str, depth: int, nullable: bool) -> msgspec.json.Decoder[Any]:
    kind: Any = json_type(datatype, nullable)
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind)


def _reshape(array: Array, item: _Input, path: str) -> Array:
    if array.size != math.prod(item.shape) or (array.ndim > 1 and list(array.shape) != item.shape):
        fault = f"data has {array.size} values" if array.ndim == 1 else f"data has shape {list(array.shape)}"
        raise InputError("wrong_shape", fault, path, f"{math.prod(item.shape)} values, shape {item.shape}")
    return array.reshape(item.shape)


def _binary_data(spec: TensorSpec, item: _Input, blob: bytes, path: str) -> Array:
    if spec.datatype == "BYTES":
        return _reshape(_strings(blob, path), item, path)
    dtype = np.dtype("<u2" if spec.datatype == "BF16" else spec.dtype)
    expected = math.prod(item.shape) * dtype.itemsize
    size = (item.parameters or {})["binary_data_size"]
    if len(blob) != expected or size != expected:
        raise InputError("invalid_tensor", f"{item.name}: {size} bytes, {len(blob)} sent", path, f"{expected} bytes")
    if dtype.kind == "b" and max(blob, default=0) > 1:
        raise InputError("invalid_tensor", f"{item.name} holds a byte that is neither 0 nor 1", path, "0 or 1")
    values = brain_numbers(blob) if spec.datatype == "BF16" else np.frombuffer(blob, dtype)
    return values.reshape(item.shape)


def byte_strings(blob: bytes, path: str) -> list[bytes]:
    """Read BYTES in binary: each element a 4-byte little-endian length, then its bytes.

    Raises:
        InputError: the last one runs past the end.
    """
    values, offset = [], 0
    while offset < len(blob):
        if offset + 4 > len(blob) or offset + 4 + (size := struct.unpack_from("<I", blob, offset)[0]) > len(blob):
            raise InputError("invalid_tensor", "a string runs past the end", path, "4-byte length, then the bytes")
        values.append(blob[offset + 4 : offset + 4 + size])
        offset += 4 + size
    return values


def _strings(blob: bytes, path: str) -> Array:
    values = []
    for i, value in enumerate(byte_strings(blob, path)):
        try:
            values.append(value.decode())
        except UnicodeDecodeError:
            raise InputError("invalid_utf8", f"string {i} is not UTF-8", path, "UTF-8") from None
    return np.array(values, np.object_)


def tensor_bytes(array: Array, datatype: str) -> bytes:
    """Write a tensor in binary; BYTES as ``byte_strings`` reads them."""
    if datatype == "BF16":
        return brain_bytes(array)
    if datatype != "BYTES":
        return array.tobytes()
    encoded = [str(value).encode() for value in array.ravel()]
    return b"".join(struct.pack("<I", len(value)) + value for value in encoded)
