"""The routes of a language model: the form of a request, of its answer, and of its errors."""

import re
from collections.abc import Callable

from handlers.language.api import requests
from handlers.language.api.answers import Answer, error_body
from handlers.language.api.completions import completion_of
from handlers.language.api.responses.answers import ResponseAnswer
from handlers.language.api.responses.requests import ResponseTextRequest, parse_response_request
from handlers.message import JSON, STATUS, InputError, Request, Response, error_response

MODELS = "v1/models"
CHAT, RESPONSES = "v1/chat/completions", "v1/responses"
TOKENIZE, DETOKENIZE = "tokenize", "detokenize"
_VERSION = re.compile(r"^v1/*")  # of the API; clients that append to a query put no slash or two after it
# A key, since a quotation mark inside a string of JSON has a backslash before it.
_HAS_MESSAGES = re.compile(rb'"messages"\s*:')
_PARSERS: dict[str, Callable[[bytes], requests.TextRequest]] = {
    "": requests.native,
    CHAT: requests.chat,
    "v1/completions": requests.completion,
    RESPONSES: parse_response_request,
}
# At the base URL of a host, where a body names its model.
AT_BASE = (*(f"/{path}" for path in _PARSERS if path), f"/{TOKENIZE}", f"/{DETOKENIZE}")


def path_of(request: Request) -> str:
    """Return a request's path: the rest of its URL, or the query parameter ``path``, or what its body implies.

    TorchServe hands on the rest of a URL only behind a version, and takes ``v1`` for a version. So a client that
    follows the champion names the path in the query, or a gateway does:
    ``/models/chat/invoke?path=/v1/chat/completions``, since ``/predictions`` drops the query. A body with ``messages``
    needs neither.
    """
    path = request.headers.get("url_path") or request.form.get("path", b"").decode("utf-8", "replace")
    path = _VERSION.sub("v1/", path.strip("/"))
    return CHAT if not path and _HAS_MESSAGES.search(request.body) else path


def protocol(request: Request) -> str:
    """Return the wire format of a request, for metrics: ``openai`` or ``native``."""
    return "openai" if path_of(request) else "native"


def parse_request(request: Request, path: str) -> requests.TextRequest:
    """Parse the body of a request.

    Args:
        path: behind the version in the URL; empty for the native form.

    Raises:
        InputError: the path is unknown, or its form does not fit the body.
    """
    if path not in _PARSERS:
        offered = ", ".join([*filter(None, _PARSERS), MODELS, TOKENIZE, DETOKENIZE])
        raise InputError("not_found", f"there is nothing at {path!r}", "url", offered)
    check_json(request)
    return _PARSERS[path](request.body)


def answer_of(request: requests.TextRequest, model: str, ident: str, created: int, sent_as: str = "") -> Answer:
    """Return a writer of the answer to a request.

    Args:
        ident: of the request, by which parts of the answer are named.
        created: seconds since the epoch.
        sent_as: the id that its client knows, by which the answer is named and feedback given; else ``ident``.
    """
    if isinstance(request, ResponseTextRequest):
        return ResponseAnswer(request, model, ident, created, sent_as)
    return completion_of(request, model, ident, created, sent_as)


def check_json(request: Request) -> None:
    """Check that a request has a body of JSON, for an answer.

    Raises:
        InputError: it has not.
    """
    if request.headers.get("explain") == "True":
        raise InputError("not_supported", "explanations are not offered", expected="a prediction route")
    if request.media_type not in (JSON, ""):
        message = f"content type {request.media_type!r}"
        raise InputError("unsupported_media_type", message, "content-type", JSON)
    if not request.body:
        raise InputError("empty", "the body is empty", expected="a JSON object, by POST")


def too_long(path: str, context: int, prompt: int, answer: int | None = None, least: bool = False) -> InputError:
    """Return the error of a request that does not fit the context.

    The words are OpenAI's: frameworks look for them, shorten the conversation and try again. Some look for the code in
    the message, so it stands there too.

    Args:
        path: JSON path of the prompt.
        context: tokens of the context.
        prompt: tokens of the prompt.
        answer: tokens of the answer; None where the prompt alone is too long.
        least: whether ``prompt`` is a lower bound.
    """
    part = {"$.messages": "messages", "$.input": "input"}.get(path, "prompt")
    message = f"This model's maximum context length is {context} tokens. However, "
    if answer is None:
        tokens = f"at least {prompt}" if least else f"{prompt}"
        message += f"your {part} resulted in {tokens} tokens. Please reduce the length of the {part}."
    else:
        message += (
            f"you requested {prompt + answer} tokens ({prompt} in the {part}, {answer} in the completion). "
            f"Please reduce the length of the {part} or completion."
        )
    return InputError("context_length_exceeded", f"{message} (context_length_exceeded)", path)


def error_of(error: InputError, request: Request, cause: Exception | None = None) -> Response:
    """Return an error as a response: in OpenAI's form on OpenAI's routes, else in the native form.

    Args:
        cause: the exception, where the fault is the worker's.
    """
    if protocol(request) == "native":
        return error_response(error, request, cause)
    return Response(STATUS[error.code], error_body(error), error=error, cause=cause)
