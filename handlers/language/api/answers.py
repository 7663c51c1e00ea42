"""What the answers to all requests for text share: how they are written, counted and streamed, and errors.

Errors have OpenAI's form; streams are "Server-sent events" (HTML standard).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from handlers.language.generation import NO_DRAFTS, Drafts, Token
from handlers.language.text import Shown
from handlers.message import STATUS, InputError, encodable

EVENTS = "text/event-stream; charset=utf-8"
CHAT_ID, RESPONSE_ID = "chatcmpl-", "resp_"  # before the id of a request, in the ids of its answers
LEAST = -9999.0  # JSON has no minus infinity; the API writes this for it
_ANSWER_ID = re.compile(rf"(?:(?:{CHAT_ID}|{RESPONSE_ID})(?=.))+")
Reason = Literal["stop", "length"]


class Cached(msgspec.Struct, frozen=True):
    """Details of a prompt's tokens; some were in the engine's cache."""

    cached_tokens: int


class Completed(msgspec.Struct, frozen=True):
    """Details of an answer's tokens: how many were drafted and chosen, and how many drafts were not chosen."""

    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class Usage(msgspec.Struct, frozen=True):
    """The numbers of tokens of a request, as completions name them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: Cached
    completion_tokens_details: Completed


class Answer(Protocol):
    """Writes the answer to a request, whose texts have numbers from 0 on."""

    content_type: str

    def add(self, index: int, shown: Shown) -> bytes:
        """Add a part of a text, and return the bytes to send at once."""

    def finish(self, index: int, shown: Shown, reason: Reason) -> bytes:
        """Add the end of a text, and return the bytes to send at once."""

    def end(self, usage: Usage) -> bytes:
        """Return the rest of the answer, when all texts are finished."""

    def fail(self, error: InputError) -> bytes:
        """Return the rest, where the generation failed after something was sent."""


def usage(prompt: int, generated: int, cached: int, drafts: Drafts = NO_DRAFTS) -> Usage:
    """Return the numbers of tokens of a request; ``cached`` counts a part of the prompt's."""
    completed = Completed(drafts.accepted, drafts.drafted - drafts.accepted)
    return Usage(prompt, generated, prompt + generated, Cached(cached), completed)


def request_of_answer(ident: str) -> str:
    """Return the id of a request, of that of its answer; any other id as it is."""
    return _ANSWER_ID.sub("", ident, count=1) if ident.startswith((CHAT_ID, RESPONSE_ID)) else ident


def error_body(error: InputError) -> bytes:
    """Return an error in the API's form."""
    status = STATUS[error.code]
    kind = "invalid_request_error" if status < 500 else "server_error"
    message = f"{error.message}; expected {error.expected}" if error.expected else error.message
    param = error.path.removeprefix("$").removeprefix(".") or None
    detail = {"message": encodable(message), "type": kind, "param": param and encodable(param), "code": error.code}
    return msgspec.json.encode({"error": detail})


def event_bytes(value: Mapping[str, Any], name: str = "") -> bytes:
    """Return a server-sent event with a JSON object as its data.

    Args:
        name: of the event's type; empty for none.
    """
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + msgspec.json.encode(value) + b"\n\n"


def logprobs_of(tokens: Sequence[Token]) -> list[dict[str, Any]]:
    """Return each token with its log-probability and its likeliest alternatives."""
    return [
        _likely(token.piece, token.logprob)
        | {"top_logprobs": [_likely(piece, logprob) for _, piece, logprob in token.top]}
        for token in tokens
    ]


def finite(logprob: float | None) -> float:
    """Return a log-probability that JSON can say."""
    return LEAST if logprob is None else max(LEAST, logprob)


def _likely(piece: bytes, logprob: float | None) -> dict[str, Any]:
    return {"token": piece.decode("utf-8", "replace"), "logprob": finite(logprob), "bytes": list(piece)}
