"""A ``ModelInferRequest`` as the binary form of the protocol over HTTP, and the answer as a ``ModelInferResponse``.

So decoding, checks and errors are those of HTTP. A request with typed contents gets typed contents, one with raw
contents raw ones.
"""

import math
import struct
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from handlers.contract import DTYPES
from handlers.formats import oip
from handlers.http.kserve import EXPLAIN, V2
from handlers.message import MAX_BODY, OCTETS, InputError, Request, Response
from serving.hosts.direct.grpc.messages import CLASSES

_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_RAW = "$.raw_input_contents"


def to_request(message: Any, headers: Mapping[str, str], ident: str) -> Request:
    """Return the request that says over HTTP what a message says.

    Args:
        message: a ``ModelInferRequest``.
        headers: that its client sent, names in lower case.
        ident: of the request.

    Raises:
        InputError: its contents are neither all typed nor all raw, do not fit their datatype, or are too large.
    """
    blobs = list(message.raw_input_contents) or [_typed(tensor, i) for i, tensor in enumerate(message.inputs)]
    if len(blobs) != len(message.inputs) or (message.raw_input_contents and _has_typed(message)):
        message_text = f"{len(message.raw_input_contents)} raw contents for {len(message.inputs)} inputs"
        raise InputError("invalid_tensor", message_text, _RAW, "one for each input and no typed contents, or none")
    inputs = [
        {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        | {"parameters": _parameters(tensor) | {"binary_data_size": len(blob)}}
        for tensor, blob in zip(message.inputs, blobs, strict=True)
    ]
    outputs = [
        {"name": output.name, "parameters": _parameters(output) | {"binary_data": True}} for output in message.outputs
    ]
    head = msgspec.json.encode(
        {"id": message.id or None, "inputs": inputs, "outputs": outputs}
        | {"parameters": _parameters(message) | {"binary_data_output": True}}
    )
    size = len(head) + sum(map(len, blobs))
    if size > MAX_BODY:
        raise InputError("too_large", f"the request has {size} bytes", expected=f"at most {MAX_BODY} bytes")
    ours = {"content-type": OCTETS, oip.HEADER_LENGTH: str(len(head)), EXPLAIN: V2}
    return Request(b"".join([head, *blobs]), {**headers, **ours}, {}, ident)


def to_message(response: Response, typed: bool) -> Any:
    """Return a ``ModelInferResponse`` of an answer of HTTP's binary form.

    Args:
        typed: whether its contents are wanted typed.
    """
    length = int(response.headers["Inference-Header-Content-Length"])
    head = msgspec.json.decode(response.body[:length])
    typed = typed and all(output["datatype"] in _CONTENTS for output in head["outputs"])  # others have to be raw
    message = CLASSES["ModelInferResponse"](
        model_name=head["model_name"], model_version=head["model_version"], id=head.get("id", "")
    )
    offset = length
    for output in head["outputs"]:
        blob = response.body[offset : offset + output["parameters"]["binary_data_size"]]
        offset += len(blob)
        tensor = message.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
        if typed:
            getattr(tensor.contents, _CONTENTS[tensor.datatype]).extend(_values(blob, tensor.datatype))
        else:
            message.raw_output_contents.append(blob)
    return message


def _has_typed(message: Any) -> bool:
    return any(tensor.HasField("contents") for tensor in message.inputs)


def _typed(tensor: Any, i: int) -> bytes:
    """Return the raw contents of a tensor with typed ones."""
    name = _CONTENTS.get(tensor.datatype)
    if name is None:  # refused by its datatype, unless it has to be raw
        return b""
    path, values = f"$.inputs[{i}].contents.{name}", getattr(tensor.contents, name)
    if not values and math.prod(tensor.shape):
        raise InputError("missing_field", f"{tensor.name} has no data", path, "values, or raw_input_contents")
    if tensor.datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value)) + value for value in values)
    try:
        return np.array(list(values), DTYPES[tensor.datatype]).tobytes()  # a list, so that 300 in INT8 is an error
    except OverflowError:
        message = f"{tensor.name} does not fit {tensor.datatype}"
        raise InputError("out_of_range", message, path, tensor.datatype) from None


def _values(blob: bytes, datatype: str) -> list[Any]:
    if datatype == "BYTES":
        return oip.byte_strings(blob, "$.outputs")
    values: list[Any] = np.frombuffer(blob, DTYPES[datatype]).tolist()
    return values


def _parameters(message: Any) -> dict[str, Any]:
    """Return the parameters of a message, each as its kind of value."""
    kinds = ((parameter.key, parameter.value, parameter.value.WhichOneof("value")) for parameter in message.parameters)
    return {key: getattr(value, kind) for key, value, kind in kinds if kind}
