"""What stands around a request's body: a compression, and a form that the host has not read."""

from handlers.http import content_encoding, multipart
from handlers.message import InputError, Request


def is_packed(request: Request) -> bool:
    """Whether ``unpack`` may change a request. Few are, and each is asked."""
    return content_encoding.HEADER in request.headers or (
        request.headers.get("content-type", "")[:10].lower() == "multipart/"
    )


def unpack(request: Request) -> Request:
    """Inflate a request's body, and read the parts of a form.

    Raises:
        InputError: it cannot be inflated, is too large then, or is no form.
    """
    is_form = request.media_type == multipart.FORM_DATA
    applied = content_encoding.codings(request.headers)
    if applied and request.body:
        request = request._replace(body=content_encoding.inflate(request.body, applied))
    elif applied and is_form:  # the host has looked for its parts as it came
        expected = "a form without Content-Encoding, or its picture alone"
        raise InputError("unsupported_media_type", "the form is compressed", content_encoding.HEADER, expected)
    if is_form and request.body:
        parts = multipart.parse(request.body, request.headers["content-type"])
        request = request._replace(body=b"", parts=parts, form={part.name: part.body for part in parts})
    if is_form and not request.parts:
        found = "the form has no parts: is the boundary right, and the last one there?"
        raise InputError("invalid_form", found, "form", "a form as RFC 7578 has it")
    return request
