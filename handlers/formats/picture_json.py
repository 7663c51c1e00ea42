"""Pictures inside JSON: files as base64 in place of a row's numbers, in every protocol.

Native ``{"inputs": PICTURE}`` or PICTURE itself, KServe v1 ``{"instances": [PICTURE, …]}``, where PICTURE is
``{"b64": "…"}`` (as TensorFlow Serving has it), a data URL (RFC 2397), base64 alone, or one of these under the input's
name. Open Inference Protocol: an input of datatype BYTES, in JSON base64 or data URLs, in its binary extension files.
"""

import binascii
import re
from typing import Any, NamedTuple

import msgspec

from handlers import json_io
from handlers.contract import Array, TensorSpec
from handlers.formats import oip
from handlers.formats.rows import Parameters
from handlers.http import kserve
from handlers.message import JSON, OCTETS, InputError, Request

_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+(?:;[^,;]*)*;base64,", re.I)
# A body without any holds numbers, and is not read twice. Behind BYTES: how base64 of PNG, JPEG, GIF and WebP begins;
# in JSON a slash may be escaped.
_HINT = re.compile(rb'"(?:b64"|data:|BYTES"|iVBORw0K|(?:\\?/|_)9j|R0lGOD|UklGR)')
_ANY = msgspec.json.Decoder(dict[str, Any])
_EXPECTED = 'a picture, {"b64": "…"} or a data URL with base64'


class Files(NamedTuple):
    """The pictures of a request.

    Attributes:
        protocol: ``native``, ``v1`` or ``v2``.
        pictures: each file, and its JSON path.
        top_k: of the body, except in v2.
        body: the JSON object of v2.
    """

    protocol: str
    pictures: list[tuple[bytes, str]]
    top_k: int = 1
    body: dict[str, Any] | None = None


def read_files(request: Request, name: str, max_rows: int) -> Files | None:
    """Read the pictures of a JSON request; None where it holds none, as nearly always.

    Args:
        name: of the model's input.

    Raises:
        InputError: one is no base64, or stands beside numbers; or there are too many.
    """
    if request.media_type not in (JSON, "") and oip.HEADER_LENGTH not in request.headers:
        return None
    if not _HINT.search(request.body):
        return None
    text, binary = oip.split(request.body, request.headers)
    body = json_io.attempt(_ANY, text)
    if body is None:
        return None  # the decoder of numbers reports the fault
    inputs, route = body.get("inputs"), kserve.route(request.headers)
    if isinstance(inputs, list) and len(inputs) == 1 and _is_bytes(inputs[0]):
        if route == kserve.V1:
            return None
        files = Files("v2", _of_tensor(inputs[0], binary), body=body)
    elif isinstance(body.get("instances"), list) and any(_is_picture(row, name) for row in body["instances"]):
        if route == kserve.V2:
            return None
        rows = body["instances"]
        files = Files("v1", [_file(row, name, f"$.instances[{i}]") for i, row in enumerate(rows)], _top_k(body))
    else:
        row = inputs if "inputs" in body else {key: value for key, value in body.items() if key != "parameters"}
        if route or not _is_picture(row, name):
            return None
        files = Files("native", [_file(row, name, "$.inputs" if "inputs" in body else "$")], _top_k(body))
    _check(body, text, files, max_rows)
    return files


def as_tensor(request: Request, files: Files, spec: TensorSpec, array: Array) -> Request:
    """Return a v2 request with pixels in place of files, in the binary extension."""
    body = dict(files.body or {})
    tensor = {key: value for key, value in body["inputs"][0].items() if key != "data"}
    parameters = dict(tensor.get("parameters") or {}) | {"binary_data_size": array.nbytes}
    tensor |= {"datatype": spec.datatype, "shape": list(array.shape), "parameters": parameters}
    head = msgspec.json.encode(body | {"inputs": [tensor]})
    headers = {**request.headers, oip.HEADER_LENGTH: str(len(head)), "content-type": OCTETS}
    return request._replace(body=head + array.tobytes(), headers=headers)


def _check(body: dict[str, Any], text: bytes, files: Files, max_rows: int) -> None:
    json_io.check_unique_keys(text, -1)
    keys = {"native": {"inputs", "parameters"}, "v1": {"instances", "parameters"}}.get(files.protocol)
    unknown = [key for key in body if keys and key not in keys]
    if unknown and ("inputs" in body or files.protocol == "v1"):
        raise InputError("unknown_field", f"unknown field {unknown[0]!r}", f"$.{unknown[0]}", ", ".join(keys or ()))
    path = {"v1": "$.instances", "v2": "$.inputs[0].shape"}.get(files.protocol, "$")
    if len(files.pictures) > max_rows:
        raise InputError("too_many_rows", f"{len(files.pictures)} rows", path, f"at most {max_rows} rows")
    if not files.pictures:
        raise InputError("empty", "there are no pictures", path, "at least one row")


def _top_k(body: dict[str, Any]) -> int:
    try:
        top_k = msgspec.convert(body.get("parameters") or {}, Parameters).top_k
    except msgspec.ValidationError as error:
        raise InputError("invalid_parameter", str(error), "$.parameters", "top_k, an integer") from None
    return 1 if top_k is None else int(top_k)


def _is_bytes(tensor: Any) -> bool:
    return isinstance(tensor, dict) and tensor.get("datatype") == "BYTES"


def _is_picture(value: Any, name: str) -> bool:
    if isinstance(value, dict) and len(value) == 1:
        key, inner = next(iter(value.items()))
        return key == "b64" or key in (name, "image_bytes") and _is_picture(inner, name)
    return isinstance(value, str)


def _file(value: Any, name: str, path: str) -> tuple[bytes, str]:
    """Return a picture's file and its path."""
    while isinstance(value, dict) and len(value) == 1:
        key, value = next(iter(value.items()))
        path = f"{path}.{key}"
        if key not in ("b64", name, "image_bytes"):
            break
    if not isinstance(value, str):
        raise InputError("wrong_type", "this is no picture", path, _EXPECTED)
    return _base64(value, path), path


def _base64(text: str, path: str) -> bytes:
    url = _DATA_URL.match(text)
    if not url and text[:5].lower() == "data:":
        raise InputError("invalid_image", "the data URL is no picture in base64", path, _EXPECTED)
    encoded = text[url.end() :] if url else text
    plain = "".join(encoded.split()).translate({ord("-"): "+", ord("_"): "/"})
    try:
        return binascii.a2b_base64(plain.encode(), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise InputError("invalid_image", f"this is no base64: {error}", path, _EXPECTED) from None


def _of_tensor(tensor: dict[str, Any], binary: bytes) -> list[tuple[bytes, str]]:
    path = "$.inputs[0].data"
    shape = tensor.get("shape")
    data = tensor.get("data")
    if data is None and isinstance(tensor.get("parameters"), dict) and "binary_data_size" in tensor["parameters"]:
        files = oip.byte_strings(binary, "$.inputs[0].parameters.binary_data_size")
    else:
        while isinstance(data, list) and len(data) > 0 and all(isinstance(row, list) and len(row) == 1 for row in data):
            data = [row[0] for row in data]
        if not isinstance(data, list) or not all(isinstance(text, str) for text in data):
            raise InputError("wrong_type", "the data is no list of strings", path, "base64 or data URLs")
        files = [_base64(text, f"{path}[{i}]") for i, text in enumerate(data)]
    if not isinstance(shape, list) or shape[:1] != [len(files)] or any(size != 1 for size in shape[1:]):
        fault = f"shape {shape} for {len(files)} pictures"
        raise InputError("wrong_shape", fault, "$.inputs[0].shape", f"shape [{len(files)}]")
    return [(file, f"{path}[{i}]") for i, file in enumerate(files)]
