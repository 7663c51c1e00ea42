"""The routes of a language model: which form a request is read in, and its errors are told in."""

from handlers import json_input, openai
from handlers.message import JSON, STATUS, InputError, Request, Response, error_response
from handlers.openai_answers import error_body

MODELS = "v1/models"
_READ = {"": openai.native, "v1/chat/completions": openai.chat, "v1/completions": openai.completion}


def protocol(request: Request) -> str:
    """The wire format of a request, for metrics: ``openai`` or ``native``."""
    return "openai" if request.headers.get("url_path") else "native"


def read(request: Request, path: str) -> openai.Asked:
    """What a request asks for.

    Args:
        request: with a body.
        path: behind the version in its URL; empty for the native form.

    Raises:
        InputError: there is nothing at this path, or the body is not what is read there.
    """
    if path not in _READ:
        offered = ", ".join([*filter(None, _READ), MODELS])
        raise InputError("not_found", f"there is nothing at {path!r}", "url", offered)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise InputError("unsupported_media_type", "the body is compressed", "content-encoding", "no compression")
    if request.headers.get("explain") == "True":
        raise InputError("not_supported", "explanations are not offered", expected="a prediction route")
    if request.media_type not in (JSON, ""):
        found = f"content type {request.media_type!r}"
        raise InputError("unsupported_media_type", found, "content-type", JSON)
    if not request.body:
        raise InputError("empty", "the body is empty", expected="a JSON object, by POST")
    json_input.check_utf8(request.body)
    return _READ[path](request.body)


def too_long(found: str, asked: openai.Asked, context: int) -> InputError:
    """The error of a request that the context has no room for."""
    expected = f"prompt and answer of at most {context} tokens together"
    return InputError("context_length_exceeded", found, asked.path, expected)


def error_of(error: InputError, request: Request) -> Response:
    """An error as its client reads it: in OpenAI's form on OpenAI's routes, else in ours."""
    if protocol(request) == "native":
        return error_response(error, request)
    return Response(STATUS[error.code], error_body(error))
