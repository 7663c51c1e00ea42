"""The routes of a language model: which form a request is read in, and its errors are told in."""

import re

from handlers import json_io
from handlers.language import requests
from handlers.language.responses import error_body
from handlers.message import JSON, STATUS, InputError, Request, Response, error_response

MODELS = "v1/models"
CHAT = "v1/chat/completions"
_VERSION = re.compile(r"^v1/*")  # of the API; clients that append to a query put no slash between, or two
# A key, since a quotation mark inside a string of JSON has a backslash before it.
_HAS_MESSAGES = re.compile(rb'"messages"\s*:')
_READ = {"": requests.native, CHAT: requests.chat, "v1/completions": requests.completion}


def path_of(request: Request) -> str:
    """What a request is for: the rest of its URL, or the query parameter ``path``, or what its body tells.

    TorchServe knows a rest of a URL only behind a version, and takes ``v1`` for one. So a client that is to follow the
    champion names the path in the query (``/models/chat/invoke?path=/v1/chat/completions``: ``/predictions`` hands no
    query on), or a gateway does; a body with ``messages`` needs neither.
    """
    path = request.headers.get("url_path") or request.form.get("path", b"").decode("utf-8", "replace")
    path = _VERSION.sub("v1/", path.strip("/"))
    return CHAT if not path and _HAS_MESSAGES.search(request.body) else path


def protocol(request: Request) -> str:
    """The wire format of a request, for metrics: ``openai`` or ``native``."""
    return "openai" if path_of(request) else "native"


def read(request: Request, path: str) -> requests.Asked:
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
    if request.headers.get("explain") == "True":
        raise InputError("not_supported", "explanations are not offered", expected="a prediction route")
    if request.media_type not in (JSON, ""):
        found = f"content type {request.media_type!r}"
        raise InputError("unsupported_media_type", found, "content-type", JSON)
    if not request.body:
        raise InputError("empty", "the body is empty", expected="a JSON object, by POST")
    json_io.check_utf8(request.body)
    return _READ[path](request.body)


def too_long(
    asked: requests.Asked, context: int, prompt: int, answer: int | None = None, least: bool = False
) -> InputError:
    """The error of a request that the context has no room for.

    Its words are OpenAI's own: frameworks look for them to shorten a conversation and ask again. Some look for the code
    in the message, so it stands there too.

    Args:
        asked: the request.
        context: tokens that there is room for.
        prompt: tokens that it has.
        answer: tokens that are asked for; None where the prompt alone is too long.
        least: the prompt has so many at least.
    """
    what = "messages" if asked.kind == "chat" else "prompt"
    message = f"This model's maximum context length is {context} tokens. However, "
    if answer is None:
        found = f"at least {prompt}" if least else f"{prompt}"
        message += f"your {what} resulted in {found} tokens. Please reduce the length of the {what}."
    else:
        message += (
            f"you requested {prompt + answer} tokens ({prompt} in the {what}, {answer} in the completion). "
            f"Please reduce the length of the {what} or completion."
        )
    return InputError("context_length_exceeded", f"{message} (context_length_exceeded)", asked.path)


def error_of(error: InputError, request: Request, cause: Exception | None = None) -> Response:
    """An error as its client reads it: in OpenAI's form on OpenAI's routes, else in ours.

    Args:
        error: what was wrong.
        request: that cannot be answered.
        cause: what was raised when the fault is ours.
    """
    if protocol(request) == "native":
        return error_response(error, request, cause)
    return Response(STATUS[error.code], error_body(error), error=error, cause=cause)
