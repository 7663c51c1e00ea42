"""Write chat completions, completions and answers in the native form, whole or as a stream.

The forms are those of "The chat completion object", "The chat completion chunk object", "The completion object" and
"Streaming" in OpenAI's API reference.
"""

import codecs
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from handlers.language.api.answers import (
    CHAT_ID,
    EVENTS,
    Answer,
    Reason,
    Usage,
    error_body,
    event_bytes,
    finite,
    logprobs_of,
)
from handlers.language.api.requests import TextRequest
from handlers.language.generation import Token
from handlers.language.structured.tools import CallReader, Said
from handlers.language.text import Shown
from handlers.message import JSON, InputError

DONE = b"data: [DONE]\n\n"


class _Choice(Protocol):
    """The object of one text, in one form."""

    def whole(self, shown: Shown, reason: Reason) -> dict[str, Any]:
        """Return the object of a whole text."""


class _StreamChoice(_Choice, Protocol):
    """The objects of one text, whole or streamed."""

    def part(self, shown: Shown, reason: Reason | None, first: bool) -> dict[str, Any] | None:
        """Return the object of a part of the text; None where there is nothing to send yet."""


def completion_of(request: TextRequest, model: str, ident: str, created: int, sent_as: str = "") -> Answer:
    """Return a writer of the answer to a request; arguments as of ``answer_of``."""
    if request.kind == "native":
        return _Native()
    logprobs = request.sampling.logprobs is not None
    numbers = range(len(request.prompts) * request.n)
    choices: list[_StreamChoice]
    if request.kind == "chat":
        head = {"id": f"{CHAT_ID}{sent_as or ident}", "model": model, "created": created}
        parts, head = head | {"object": "chat.completion.chunk"}, head | {"object": "chat.completion"}
        choices = [_Chat(i, f"{ident}_{i}" if i else ident, logprobs, request.tools) for i in numbers]
    else:
        head = {"id": f"cmpl-{sent_as or ident}", "object": "text_completion", "model": model, "created": created}
        parts = head
        choices = [_Completion(i, logprobs) for i in numbers]
    return _Stream(parts, choices, request.include_usage) if request.stream else _Whole(head, choices)


class _Whole:
    content_type = JSON

    def __init__(self, head: Mapping[str, Any], choices: Sequence[_Choice]) -> None:
        self._head, self._choices = head, choices
        self._texts: list[list[Shown]] = [[] for _ in choices]
        self._objects: list[dict[str, Any]] = [{} for _ in choices]

    def add(self, index: int, shown: Shown) -> bytes:
        self._texts[index].append(shown)
        return b""

    def finish(self, index: int, shown: Shown, reason: Reason) -> bytes:
        parts = [*self._texts[index], shown]
        text, tokens = "".join(part.text for part in parts), [token for part in parts for token in part.tokens]
        self._objects[index] = self._choices[index].whole(Shown(text, tokens, shown.end), reason)
        return b""

    def end(self, usage: Usage) -> bytes:
        return msgspec.json.encode({**self._head, "choices": self._objects, "usage": usage})

    def fail(self, error: InputError) -> bytes:
        return error_body(error)


class _Stream:
    content_type = EVENTS

    def __init__(self, head: Mapping[str, Any], choices: Sequence[_StreamChoice], include_usage: bool) -> None:
        self._head, self._choices = head, choices
        self._more = {"usage": None} if include_usage else {}  # in each event but the last
        self._include_usage = include_usage
        self._begun = [False] * len(choices)

    def add(self, index: int, shown: Shown) -> bytes:
        if not (shown.text or shown.tokens) and self._begun[index]:
            return b""
        return self._part(index, shown, None)

    def finish(self, index: int, shown: Shown, reason: Reason) -> bytes:
        before = self.add(index, shown) if shown.text or shown.tokens else b""
        return before + self._part(index, Shown("", end=shown.end), reason)

    def end(self, usage: Usage) -> bytes:
        counts = event_bytes({**self._head, "choices": [], "usage": usage}) if self._include_usage else b""
        return counts + DONE

    def fail(self, error: InputError) -> bytes:
        return b"data: " + error_body(error) + b"\n\n"

    def _part(self, index: int, shown: Shown, reason: Reason | None) -> bytes:
        part = self._choices[index].part(shown, reason, not self._begun[index])
        if part is None:
            return b""
        self._begun[index] = True
        return event_bytes({**self._head, "choices": [part], **self._more})


class _Native(_Whole):
    def __init__(self) -> None:
        super().__init__({}, [_Text()])

    def end(self, usage: Usage) -> bytes:
        counts = {name: getattr(usage, name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
        return msgspec.json.encode(self._objects[0] | {"usage": counts})


class _Text:
    def whole(self, shown: Shown, reason: Reason) -> dict[str, Any]:
        return {"text": shown.text, "finish_reason": reason}


class _Chat:
    def __init__(self, index: int, ident: str, logprobs: bool, tools: bool) -> None:
        self._index, self._ident, self._logprobs = index, ident, logprobs
        self._reader = CallReader() if tools else None

    def whole(self, shown: Shown, reason: Reason) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": shown.text}
        if self._reader:
            said = self._reader.add(shown.text) + self._reader.end()
            message |= self._message(said)
        logprobs = self._of(shown.tokens)
        return {"index": self._index, "message": message, "logprobs": logprobs, "finish_reason": self._reason(reason)}

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
        return {"index": self._index, "delta": delta, "logprobs": logprobs, "finish_reason": self._reason(reason)}

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
        return {"content": logprobs_of(tokens), "refusal": None}


class _Completion:
    def __init__(self, index: int, logprobs: bool) -> None:
        self._index, self._logprobs = index, logprobs
        self._offset = 0  # whole characters before the next token
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def whole(self, shown: Shown, reason: Reason) -> dict[str, Any]:
        return self.part(shown, reason, first=True)

    def part(self, shown: Shown, reason: Reason | None, first: bool) -> dict[str, Any]:
        # The last token of a text that the model ended is its end: clients of a scored prompt leave out the last one.
        tokens = [*shown.tokens, shown.end] if shown.end else shown.tokens
        logprobs = self._of(tokens) if self._logprobs else None
        return {"index": self._index, "text": shown.text, "logprobs": logprobs, "finish_reason": reason}

    def _of(self, tokens: Sequence[Token]) -> dict[str, Any]:
        offsets = []
        for token in tokens:  # a token that begins inside a character has the offset of that character
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(token.piece))
        return {
            "tokens": [_name(token.token, token.piece) for token in tokens],
            # The first token of a prompt has none.
            "token_logprobs": [None if token.logprob is None else finite(token.logprob) for token in tokens],
            "top_logprobs": [None if token.logprob is None else _alternatives(token) for token in tokens],
            "text_offset": offsets,
        }


def _alternatives(chosen: Token) -> dict[str, float]:
    """Return the likeliest tokens and the chosen token by name; of two with the same name the likelier."""
    logprobs: dict[str, float] = {}
    for token, piece, logprob in [*chosen.top, (chosen.token, chosen.piece, chosen.logprob)]:
        logprobs.setdefault(_name(token, piece), finite(logprob))
    return logprobs


def _name(token: int, piece: bytes) -> str:
    """Return a token's text; its bytes, as the API writes them, where they are no whole characters."""
    if not piece:
        return f"token_id:{token}"  # a control token, which has no text
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
