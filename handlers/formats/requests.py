"""Requests made from a contract, as clients write them, for the decoders beside this module."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import orjson

from handlers.contract import Array, ModelContract, TensorSpec
from handlers.formats import npy
from handlers.formats.oip import tensor_bytes
from handlers.message import OCTETS

Row = Mapping[str, Any]  # values by input
Tensors = Mapping[str, Array]  # arrays (rows, …) by input; of a category its name


def native_member(contract: ModelContract, spec: TensorSpec) -> str:
    """Return the member of a native request that holds an input's value."""
    return spec.name if contract.has_named_rows else "inputs"


def native_request(contract: ModelContract, row: Row) -> dict[str, Any]:
    """Return a row in the native format; the decoder reports missing values."""
    return dict(row) if contract.has_named_rows else {"inputs": row.get(contract.inputs[0].name)}


def native_row(contract: ModelContract, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row in a native request, as far as the request holds its values."""
    members = {spec.name: native_member(contract, spec) for spec in contract.inputs}
    return {name: request[member] for name, member in members.items() if member in request}


def v1_request(contract: ModelContract, rows: Iterable[Row]) -> dict[str, Any]:
    """Return rows in the format of KServe v1."""
    name = contract.inputs[0].name
    return {"instances": [dict(row) if contract.has_named_rows else row[name] for row in rows]}


def v2_request(contract: ModelContract, tensors: Tensors) -> dict[str, Any]:
    """Return tensors in the Open Inference Protocol; ``to_json`` writes their data."""
    inputs = [
        {"name": spec.name, "shape": tensors[spec.name].shape, "datatype": spec.datatype, "data": _flat(tensors, spec)}
        for spec in contract.inputs
    ]
    return {"inputs": inputs}


def v2_binary_request(
    contract: ModelContract, tensors: Tensors, members: Mapping[str, Any] | None = None
) -> tuple[bytes, dict[str, str]]:
    """Return the body and headers of tensors in the protocol's binary extension.

    Args:
        tensors: each of its datatype.
        members: of the request's JSON part, beside the inputs.
    """
    request = v2_request(contract, tensors)
    blobs = [tensor_bytes(_without_null(item.pop("data")), item["datatype"]) for item in request["inputs"]]
    for item, blob in zip(request["inputs"], blobs, strict=True):
        item["parameters"] = {"binary_data_size": len(blob)}
    head = to_json(request | dict(members or {}))
    headers = {"Content-Type": OCTETS, "Inference-Header-Content-Length": str(len(head))}
    return b"".join([head, *blobs]), headers


def npy_request(tensors: Tensors) -> bytes:
    """Return a plain array of the only input; of several, a structured one."""
    columns = {name: _without_null(array) for name, array in tensors.items()}
    columns = {name: array.astype(str) if array.dtype == object else array for name, array in columns.items()}
    (first, *others) = columns.values()
    if not others:
        return npy.encode(first)
    table = np.zeros(len(first), [(name, array.dtype, array.shape[1:]) for name, array in columns.items()])
    for name, array in columns.items():
        table[name] = array
    return npy.encode(table)


def rows_of(contract: ModelContract, tensors: Tensors) -> list[dict[str, Any]]:
    """Return the rows of tensors."""
    names = [spec.name for spec in contract.inputs]
    columns = [tensors[name] for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def to_json(value: Any) -> bytes:
    """Write JSON as a NumPy client does, a float32 as its shortest text."""
    return orjson.dumps(value, default=lambda array: array.tolist(), option=orjson.OPT_SERIALIZE_NUMPY)


def _without_null(array: Array) -> Array:
    """Return an array with empty strings for None, which neither binary tensors nor NumPy's format has."""
    if array.dtype != object:
        return array
    return np.array(["" if value is None else value for value in array.ravel()], object).reshape(array.shape)


def _flat(tensors: Tensors, spec: TensorSpec) -> Array:
    return np.ascontiguousarray(tensors[spec.name]).ravel()
