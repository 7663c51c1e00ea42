"""Write answers to requests for text, whole or as a stream of server-sent events, and errors in OpenAI's form.

The forms are those of "The chat completion object", "The chat completion chunk object", "The completion object" and
"Streaming" in OpenAI's API reference, and of "Server-sent events" in the HTML standard.
"""

import codecs
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from handlers.language.generation import Token
from handlers.language.requests import TextRequest
from handlers.language.structured.tools import CallReader, Said
from handlers.language.text import Shown
from handlers.message import JSON, STATUS, InputError, encodable

EVENTS = "text/event-stream; charset=utf-8"
LEAST = -9999.0  # JSON has no minus infinity; the API writes this for it
Reason = Literal["stop", "length"]


class Cached(msgspec.Struct, frozen=True):
    """Details of a prompt's tokens; some were in the engine's cache."""

    cached_tokens: int


class Usage(msgspec.Struct, frozen=True):
    """The numbers of tokens of a request, as the API names them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: Cached


class Answer(Protocol):
    """Writes one answer."""

    content_type: str

    def add(self, shown: Shown) -> bytes:
        """Add a part of the text, and return the bytes to send at once."""

    def end(self, shown: Shown, reason: Reason, usage: Usage) -> bytes:
        """Return the rest of the answer."""

    def fail(self, error: InputError) -> bytes:
        """Return the rest, where the generation failed after something was sent."""


class _Form(Protocol):
    """The object of one kind of answer."""

    def whole(self, shown: Shown, reason: Reason, usage: Usage) -> dict[str, Any]:
        """Return the object of a whole answer."""


class _StreamForm(_Form, Protocol):
    """The objects of one kind of answer, whole or streamed."""

    def part(self, shown: Shown, reason: Reason | None, first: bool) -> dict[str, Any] | None:
        """Return the object of a part of the answer; None where there is nothing to send yet."""

    def last(self, usage: Usage) -> dict[str, Any]:
        """Return the object with the numbers of tokens."""


def answer_of(request: TextRequest, model: str, ident: str, created: int) -> Answer:
    """Return a writer of the answer to a request; ``created`` is in seconds since the epoch."""
    if request.kind == "native":
        return _Whole(_Native())
    head = {"model": model, "created": created}
    logprobs = request.sampling.logprobs is not None
    chat = request.kind == "chat"
    form: _StreamForm = _Chat(head, ident, logprobs, request.tools) if chat else _Completion(head, ident, logprobs)
    return _Stream(form, request.include_usage) if request.stream else _Whole(form)


def usage(prompt: int, generated: int, cached: int) -> Usage:
    """Return the numbers of tokens of a request; ``cached`` counts a part of the prompt's."""
    return Usage(prompt, generated, prompt + generated, Cached(cached))


def error_body(error: InputError) -> bytes:
    """Return an error in the API's form."""
    status = STATUS[error.code]
    kind = "invalid_request_error" if status < 500 else "server_error"
    message = f"{error.message}; expected {error.expected}" if error.expected else error.message
    param = error.path.removeprefix("$").removeprefix(".") or None
    detail = {"message": encodable(message), "type": kind, "param": param and encodable(param), "code": error.code}
    return msgspec.json.encode({"error": detail})


def models_body(name: str, created: int, single: bool) -> bytes:
    """Return the list of models, or the only model alone."""
    model = {"id": name, "object": "model", "created": created, "owned_by": "marloop"}
    return msgspec.json.encode(model if single else {"object": "list", "data": [model]})


class _Whole:
    content_type = JSON

    def __init__(self, form: _Form) -> None:
        self._form = form
        self._texts: list[str] = []
        self._tokens: list[Token] = []

    def add(self, shown: Shown) -> bytes:
        self._texts.append(shown.text)
        self._tokens += shown.tokens
        return b""

    def end(self, shown: Shown, reason: Reason, usage: Usage) -> bytes:
        self.add(shown)
        return msgspec.json.encode(self._form.whole(Shown("".join(self._texts), self._tokens), reason, usage))

    def fail(self, error: InputError) -> bytes:
        return error_body(error)


class _Stream:
    content_type = EVENTS

    def __init__(self, form: _StreamForm, include_usage: bool) -> None:
        self._form = form
        self._more = {"usage": None} if include_usage else {}  # in each event but the last
        self._include_usage = include_usage
        self._first = True

    def add(self, shown: Shown) -> bytes:
        if not (shown.text or shown.tokens or self._first):
            return b""
        return self._part(shown, None)

    def end(self, shown: Shown, reason: Reason, usage: Usage) -> bytes:
        events = [self.add(shown)] if shown.text or shown.tokens else []
        events.append(self._part(Shown(""), reason))
        if self._include_usage:
            events.append(_event(msgspec.json.encode(self._form.last(usage))))
        return b"".join([*events, _event(b"[DONE]")])

    def fail(self, error: InputError) -> bytes:
        return _event(error_body(error))

    def _part(self, shown: Shown, reason: Reason | None) -> bytes:
        part = self._form.part(shown, reason, self._first)
        if part is None:
            return b""
        self._first = False
        return _event(msgspec.json.encode(part | self._more))


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


class _Native:
    def whole(self, shown: Shown, reason: Reason, usage: Usage) -> dict[str, Any]:
        counts = {name: getattr(usage, name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
        return {"text": shown.text, "finish_reason": reason, "usage": counts}


class _Chat:
    def __init__(self, head: dict[str, Any], ident: str, logprobs: bool, tools: bool) -> None:
        self._head = {"id": f"chatcmpl-{ident}", **head}
        self._ident, self._logprobs = ident, logprobs
        self._reader = CallReader() if tools else None

    def whole(self, shown: Shown, reason: Reason, usage: Usage) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": shown.text}
        if self._reader:
            said = self._reader.add(shown.text) + self._reader.end()
            message |= self._message(said)
        choice = {
            "index": 0,
            "message": message,
            "logprobs": self._of(shown.tokens),
            "finish_reason": self._reason(reason),
        }
        return self._head | {"object": "chat.completion", "choices": [choice], "usage": usage}

    def part(self, shown: Shown, reason: Reason | None, first: bool) -> dict[str, Any] | None:
        delta: dict[str, Any] = {"role": "assistant"} if first else {}
        if self._reader:
            said = self._reader.add(shown.text) + (self._reader.end() if reason else [])
            if not (said or reason):
                return None
            delta |= self._delta(said)
        elif first or shown.text:
            delta["content"] = shown.text
        logprobs = self._of(shown.tokens) if shown.tokens else None
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": self._reason(reason)}
        return self._head | {"object": "chat.completion.chunk", "choices": [choice]}

    def last(self, usage: Usage) -> dict[str, Any]:
        return self._head | {"object": "chat.completion.chunk", "choices": [], "usage": usage}

    def _reason(self, reason: Reason | None) -> str | None:
        return "tool_calls" if reason == "stop" and self._reader and self._reader.calls else reason

    def _message(self, parts: Sequence[Said]) -> dict[str, Any]:
        """Return the text and the calls of a whole answer."""
        text = "".join(part.text for part in parts if part.call < 0)
        calls: list[dict[str, Any]] = []
        for part in parts:
            if part.name:
                calls.append(self._call(part))
            elif part.call >= 0:
                calls[part.call]["function"]["arguments"] += part.text
        return {"content": text or None, "tool_calls": calls} if calls else {"content": text}

    def _delta(self, parts: Sequence[Said]) -> dict[str, Any]:
        """Return what parts add to a streamed answer."""
        delta: dict[str, Any] = {}
        if text := "".join(part.text for part in parts if part.call < 0):
            delta["content"] = text
        calls: dict[int, dict[str, Any]] = {}  # each once, as clients join those of several parts by their index alone
        for part in parts:
            if part.name:
                calls[part.call] = {"index": part.call} | self._call(part)
            elif part.call >= 0:
                call = calls.setdefault(part.call, {"index": part.call, "function": {"arguments": ""}})
                call["function"]["arguments"] += part.text
        return delta | ({"tool_calls": list(calls.values())} if calls else {})

    def _call(self, part: Said) -> dict[str, Any]:
        ident = f"call_{self._ident}_{part.call}"
        return {"id": ident, "type": "function", "function": {"name": part.name, "arguments": ""}}

    def _of(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        content = [
            _likely(token.piece, token.logprob)
            | {"top_logprobs": [_likely(piece, logprob) for _, piece, logprob in token.top]}
            for token in tokens
        ]
        return {"content": content, "refusal": None}


class _Completion:
    def __init__(self, head: dict[str, Any], ident: str, logprobs: bool) -> None:
        self._head = {"id": f"cmpl-{ident}", "object": "text_completion", **head}
        self._logprobs = logprobs
        self._offset = 0  # whole characters before the next token
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def whole(self, shown: Shown, reason: Reason, usage: Usage) -> dict[str, Any]:
        return self.part(shown, reason, first=True) | {"usage": usage}

    def part(self, shown: Shown, reason: Reason | None, first: bool) -> dict[str, Any]:
        logprobs = self._of(shown.tokens) if self._logprobs else None
        choice = {"index": 0, "text": shown.text, "logprobs": logprobs, "finish_reason": reason}
        return self._head | {"choices": [choice]}

    def last(self, usage: Usage) -> dict[str, Any]:
        return self._head | {"choices": [], "usage": usage}

    def _of(self, tokens: Sequence[Token]) -> dict[str, Any]:
        offsets = []
        for token in tokens:  # a token that begins inside a character has the offset of that character
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(token.piece))
        return {
            "tokens": [_name(token.token, token.piece) for token in tokens],
            "token_logprobs": [_finite(token.logprob) for token in tokens],
            "top_logprobs": [_alternatives(token) for token in tokens],
            "text_offset": offsets,
        }


def _alternatives(chosen: Token) -> dict[str, float]:
    """Return the likeliest tokens and the chosen token by name; of two with the same name the likelier."""
    logprobs: dict[str, float] = {}
    for token, piece, logprob in [*chosen.top, (chosen.token, chosen.piece, chosen.logprob)]:
        logprobs.setdefault(_name(token, piece), _finite(logprob))
    return logprobs


def _name(token: int, piece: bytes) -> str:
    """Return a token's text; its bytes, as the API writes them, where they are no whole characters."""
    if not piece:
        return f"token_id:{token}"  # a control token, which has no text
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def _likely(piece: bytes, logprob: float | None) -> dict[str, Any]:
    return {"token": _text(piece), "logprob": _finite(logprob), "bytes": list(piece)}


def _finite(logprob: float | None) -> float:
    return LEAST if logprob is None else max(LEAST, logprob)


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")
