"""Unpack a request's body: undo its compression, and read a form that the host has not read."""

from handlers.http import content_encoding, multipart
from handlers.message import InputError, Request


def is_packed(request: Request) -> bool:
    """Tell whether ``unpack`` may change a request; cheap, since most requests are plain."""
    return content_encoding.HEADER in request.headers or (
        request.headers.get("content-type", "")[:10].lower() == "multipart/"
    )


def unpack(request: Request) -> Request:
    """Return the request with its body inflated and its form read into parts.

    Raises:
        InputError: the body cannot be inflated, is too large when inflated, or is no form.
    """
    is_form = request.media_type == multipart.FORM_DATA
    applied = content_encoding.codings(request.headers)
    if applied and request.body:
        request = request._replace(body=content_encoding.inflate(request.body, applied))
    elif applied and is_form:  # the host has looked for parts in the compressed body
        expected = "a form without Content-Encoding, or its picture alone"
        raise InputError("unsupported_media_type", "the form is compressed", content_encoding.HEADER, expected)
    if is_form and request.body:
        parts = multipart.parse(request.body, request.headers["content-type"])
        request = request._replace(body=b"", parts=parts, form={part.name: part.body for part in parts})
    if is_form and not request.parts:
        message = "the form has no parts: is the boundary right, and the last one there?"
        raise InputError("invalid_form", message, "form", "a form as RFC 7578 has it")
    return request
