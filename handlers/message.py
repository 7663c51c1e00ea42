"""Messages of the core: a request, a response, and the error that turns bad input into a clear 4xx."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

JSON = "application/json"
NPY = "application/x-npy"
OCTETS = "application/octet-stream"
NEXT = "ts_stream_next"  # TorchServe's response header: "true" where more follows, "false" on the last of several

# The closed set of error codes, with their HTTP status.
STATUS = {
    "invalid_json": 400,
    "invalid_utf8": 400,
    "duplicate_key": 400,
    "missing_field": 400,
    "unknown_field": 400,
    "wrong_type": 400,
    "not_finite": 400,
    "out_of_range": 400,
    "unknown_category": 400,
    "wrong_shape": 400,
    "wrong_datatype": 400,
    "empty": 400,
    "invalid_parameter": 400,
    "unknown_output": 400,
    "invalid_tensor": 400,
    "invalid_npy": 400,
    "invalid_image": 400,
    "invalid_form": 400,
    "invalid_encoding": 400,
    "invalid_http": 400,
    "invalid_api_key": 401,
    "forbidden": 403,
    "timeout": 408,
    "too_large": 413,
    "too_many_rows": 413,
    "image_too_large": 413,
    "unsupported_value": 400,
    "context_length_exceeded": 400,
    "not_found": 404,
    "model_not_found": 404,
    "unsupported_media_type": 415,
    "rate_limited": 429,
    "head_too_large": 431,
    "not_finite_output": 422,
    "internal": 500,
    "not_supported": 501,
    "overloaded": 503,
    "stopping": 503,
}
# Headers with a client's names for its request: its own id, and its trace ("traceparent" of W3C Trace Context).
CLIENT_IDS = {"client_request_id": "x-request-id", "traceparent": "traceparent"}
MAX_BODY = 6_553_500  # bytes, as max_request_size in config.properties
MOST_PARTS = 100  # of a form, query parameters included
_LONGEST = 300  # characters of a message, which may quote megabytes of input


class Part(NamedTuple):
    """One part of a form, or a query parameter.

    Attributes:
        content_type: of a file; empty for a text field.
    """

    name: str
    body: bytes
    content_type: str = ""


class Request(NamedTuple):
    """An HTTP request, free of TorchServe.

    Attributes:
        body: the raw bytes; empty for a form.
        headers: names in lower case.
        form: bytes of a form's parts, and of query parameters where the route passes them, by name.
        id: sent with the response as ``x-request-id``.
        parts: those of ``form`` in order, where a name may stand more than once.
    """

    body: bytes
    headers: Mapping[str, str]
    form: Mapping[str, bytes] = {}
    id: str = ""
    parts: tuple[Part, ...] = ()

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case; empty when there is none."""
        header = self.headers.get("content-type", "")
        return header if header == JSON else header.partition(";")[0].strip().lower()

    @property
    def size(self) -> int:
        """Bytes of its body, about."""
        return len(self.body) + sum(len(part.body) for part in self.parts)

    @property
    def ids(self) -> dict[str, str]:
        """The ids of this request by name: ours, and the client's, by which logs can be joined."""
        sent = {name: self.headers.get(header, "") for name, header in CLIENT_IDS.items()}
        return {"request_id": self.id} | {name: shorten(value) for name, value in sent.items() if value}


class InputError(Exception):
    """A request that cannot be answered.

    Args:
        code: a key of ``STATUS``.
        message: names the fault.
        path: its place, a JSON path (``$.instances[0].distance``) or the name of a header or part.
        expected: a right value in words.
    """

    def __init__(self, code: str, message: str, path: str = "$", expected: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.path, self.expected = code, shorten(message), shorten(path), expected

    def __eq__(self, other: object) -> bool:
        """Compare the attributes, so that two responses of the same error are equal."""
        return isinstance(other, InputError) and vars(self) == vars(other)

    __hash__ = Exception.__hash__

    def __str__(self) -> str:
        """Return all of it in a line."""
        where = "" if self.path == "$" else f" at {self.path}"
        return f"{self.message}{where}" + (f"; expected: {self.expected}" if self.expected else "")


class Response(NamedTuple):
    """An HTTP response.

    Attributes:
        headers: beside the content type.
        error: reason why there is no answer; None where there is one.
        cause: exception of a fault that is ours.
    """

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = {}
    error: InputError | None = None
    cause: Exception | None = None


def shorten(text: str) -> str:
    """Cut a text that may quote input to the length of an error message."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def error_response(
    error: InputError, request: Request, cause: Exception | None = None, as_text: bool = False
) -> Response:
    """Return the response to an error, with the request's ids.

    Args:
        cause: exception of a fault that is ours.
        as_text: whether the member ``error`` is a text with the details beside it, as clients of KServe v1 and of the
            Open Inference Protocol read it; else it is an object of the details.
    """
    detail = {"code": error.code, "message": error.message, "path": error.path, "expected": error.expected}
    members = {name: encodable(value) for name, value in (detail | request.ids).items()}
    body: object = {"error": encodable(str(error))} | members if as_text else {"error": members}
    return Response(STATUS[error.code], msgspec.json.encode(body), error=error, cause=cause)


def error_detail(body: Any) -> Mapping[str, Any]:
    """Return the details (``code``, ``message``, ``path`` …) of a decoded ``error_response``; empty if it is none."""
    match body:
        case {"error": dict(detail)}:
            return detail
        case {"error": str(), "code": str()}:
            return {name: value for name, value in body.items() if name != "error"}
    return {}


def encodable(text: str) -> str:
    """Replace halves of surrogate pairs, which UTF-8 does not have."""
    return text.encode("utf-8", "replace").decode("utf-8")
