"""A client of the tests' own: writes requests in every wire format and reads the answers, without the code under test.

A writer takes a contract and one array an input, strings for categories, with the rows first.
"""

import io
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson
from PIL import Image

from handlers.contract import Array, ModelContract
from handlers.handler import ModelHandler
from handlers.message import JSON, NPY, OCTETS, Part, Request, Response, error_detail

Tensors = Mapping[str, Array]

# Of our process: an address, a path, a line of code, a class of a library. A client can do nothing with them.
INSIDE = re.compile(
    rb"0x[0-9a-f]{6,}| object at |/site-packages/|/lib/|Traceback|\.py\b|<class |BytesIO|numpy\.(?!save)|PIL\."
)


def request(body: Any, content_type: str = JSON, form: Mapping[str, bytes] | None = None, **headers: str) -> Request:
    """A request; a body that is not bytes is sent as JSON, ``x_top_k="2"`` is the header ``x-top-k``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = body if isinstance(body, bytes) else dumps(body)
    parts = tuple(Part(name, value) for name, value in (form or {}).items())
    return Request(body, {"content-type": content_type} | named, form or {}, "r-1", parts)


def dumps(value: Any) -> bytes:
    """JSON as a NumPy client writes it: each float as its shortest text."""
    return orjson.dumps(value, default=lambda array: array.tolist(), option=orjson.OPT_SERIALIZE_NUMPY)


def native(contract: ModelContract, tensors: Tensors) -> Request:
    """The first row alone."""
    row = _rows(contract, tensors)[0]
    return request(row if contract.has_named_rows else {"inputs": row})


def v1(contract: ModelContract, tensors: Tensors) -> Request:
    return request({"instances": _rows(contract, tensors)})


def v2(contract: ModelContract, tensors: Tensors) -> Request:
    return request({"inputs": [_tensor(contract, name, array) for name, array in tensors.items()]})


def v2_nested(contract: ModelContract, tensors: Tensors) -> Request:
    items = [_tensor(contract, name, array) | {"data": array} for name, array in tensors.items()]
    return request({"inputs": items})


def v2_binary(contract: ModelContract, tensors: Tensors, **more: Any) -> Request:
    brain = {spec.name for spec in contract.inputs if spec.datatype == "BF16"}
    blobs = {name: to_binary(upper_half(array) if name in brain else array) for name, array in tensors.items()}
    items = [_tensor(contract, name, array) for name, array in tensors.items()]
    for item in items:
        del item["data"]
        item["parameters"] = {"binary_data_size": len(blobs[item["name"]])}
    head = dumps({"inputs": items} | more)
    return request(head + b"".join(blobs.values()), OCTETS, inference_header_content_length=str(len(head)))


def npy(contract: ModelContract, tensors: Tensors) -> Request:
    """A plain array of the only input; of several, a structured one."""
    columns = {name: _texts(array).astype(str) if array.dtype == object else array for name, array in tensors.items()}
    if len(columns) == 1:
        return request(save(*columns.values()), NPY)
    dtype = [(name, array.dtype, array.shape[1:]) for name, array in columns.items()]
    rows = np.zeros(len(next(iter(columns.values()))), dtype)
    for name, array in columns.items():
        rows[name] = array
    return request(save(rows), NPY)


Writer = Callable[[ModelContract, Tensors], Request]
WRITERS: dict[str, Writer] = {
    "native": native,
    "v1": v1,
    "v2": v2,
    "v2 nested": v2_nested,
    "v2 binary": v2_binary,
    "npy": npy,
}


def save(array: Array) -> bytes:
    """The array as ``numpy.save`` writes it."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def load(body: bytes) -> Array:
    """The array that ``numpy.save`` wrote."""
    array: Array = np.load(io.BytesIO(body), allow_pickle=False)
    return array


def picture(array: Array, encoding: str = "png") -> bytes:
    """A grey or colour picture as a file."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, encoding)
    return buffer.getvalue()


def upper_half(array: Array) -> Array:
    """The two bytes of each FP32 that are its bfloat16."""
    return np.ascontiguousarray(array).view("<u2")[..., 1::2] if array.size else array.astype("<u2")


def to_binary(array: Array) -> bytes:
    """The v2 binary form: little-endian values, a string after its length."""
    if array.dtype != object:
        return array.tobytes()
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in _texts(array).ravel())


def read_v2(response: Response) -> dict[str, Array]:
    """The outputs of a v2 answer, in JSON or in binary."""
    length = int(response.headers.get("Inference-Header-Content-Length", len(response.body)))
    head, blob = orjson.loads(response.body[:length]), response.body[length:]
    arrays = {}
    for output in head["outputs"]:
        dtype = {
            "BF16": "<f4" if "data" in output else "<u2",
            "FP16": "<f2",
            "FP32": "<f4",
            "FP64": "<f8",
            "BOOL": "?",
            "BYTES": "O",
        }.get(output["datatype"])
        dtype = dtype or f"<{output['datatype'][0].lower()}{int(output['datatype'].lstrip('UINT')) // 8}"
        if "data" in output:
            array = np.array(output["data"], dtype)
        else:
            size = output["parameters"]["binary_data_size"]
            array, blob = _from_binary(blob[:size], dtype), blob[size:]
        if output["datatype"] == "BF16" and "data" not in output:
            array = np.stack([np.zeros_like(array), array], -1).view("<f4")
        arrays[output["name"]] = array.reshape(output["shape"])
    assert not blob
    return arrays


def ask(handler: ModelHandler, asked: Request) -> Any:
    """The answer to a request that is answered, decoded."""
    response = handler.handle([asked])[0]
    assert response.status == 200, response.body
    return orjson.loads(response.body)


def refusal(handler: ModelHandler, asked: Request) -> dict[str, str]:
    """The error of a request that is refused; its status is added to it."""
    response = handler.handle([asked])[0]
    body = orjson.loads(response.body)
    assert response.content_type == JSON
    assert isinstance(body["error"], str) or set(body) == {"error"}
    error: dict[str, str] = dict(error_detail(body))
    assert set(error) >= {"code", "message", "path", "expected", "request_id"}
    assert error["message"]
    assert error["expected"]
    assert error["request_id"] == asked.id
    return error | {"status": str(response.status)}


def fault(handler: ModelHandler, asked: Request) -> tuple[int, str, str]:
    """Status, code and path of the error of a request that is refused."""
    error = refusal(handler, asked)
    return int(error["status"]), error["code"], error["path"]


def same(found: Array, expected: Array) -> bool:
    """Whether two arrays are alike in type, shape and every bit."""
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    if found.dtype == object:
        return bool(found.tolist() == expected.tolist())
    return found.tobytes() == expected.tobytes()


def _texts(array: Array) -> Array:
    """Strings, empty where a category is missing: neither format has null."""
    return np.array(["" if value is None else value for value in array.ravel()], object).reshape(array.shape)


def _rows(contract: ModelContract, tensors: Tensors) -> list[Any]:
    count = len(next(iter(tensors.values())))
    if contract.has_named_rows:
        return [{name: array[i] for name, array in tensors.items()} for i in range(count)]
    return list(tensors[contract.inputs[0].name])


def _tensor(contract: ModelContract, name: str, array: Array) -> dict[str, Any]:
    datatype = next(spec.datatype for spec in contract.inputs if spec.name == name)
    return {"name": name, "shape": array.shape, "datatype": datatype, "data": array.ravel()}


def _from_binary(blob: bytes, dtype: str) -> Array:
    if dtype != "O":
        return np.frombuffer(blob, dtype)
    texts = []
    while blob:
        size = struct.unpack_from("<I", blob)[0]
        texts.append(blob[4 : 4 + size].decode())
        blob = blob[4 + size :]
    return np.array(texts, object)
