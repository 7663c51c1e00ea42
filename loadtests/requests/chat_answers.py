"""Checks of a language model's answers: of a stream event by event, with its times, and of whole answers.

The form is that of "The chat completion chunk object" and "Streaming" in OpenAI's API reference.
"""

from typing import Any

import msgspec

from handlers.contract import ModelContract
from handlers.contract.example import same_answer
from loadtests.requests.conversations import ChatRequest

END = b"\n\n"  # after each event
_DONE = b"[DONE]"
_ERROR = {"message", "type", "param", "code"}


def complaint(contract: ModelContract, request: ChatRequest, status: int, body: bytes) -> str:
    """Return the fault of a whole answer, from a small set of texts; empty for a right one."""
    if status != request.status:
        return f"status {status} instead of {request.status}"
    try:
        answer = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return "the body is no JSON"
    if request.kind == "example":
        return "" if same_answer(answer, contract.example.response) else "the contract's example has another answer"
    match answer:
        case {"error": {"code": str(code), **others}} if others.keys() == _ERROR - {"code"}:
            return "" if code == request.code else f"error code {code} instead of {request.code}"
    return "the error is not in OpenAI's form"


class ChatStream:
    """A reader of a stream that finds its faults.

    Attributes:
        events: number of events that were read.
        first: time of the first token; None before it.
        last: time of the newest part of the text.
    """

    def __init__(self, request: ChatRequest) -> None:
        self.events = 0
        self.first: float | None = None
        self.last = 0.0
        self._request = request
        self._fault = ""
        self._parts = 0
        self._listed = 0  # number of tokens that the events themselves name
        self._reason: str | None = None
        self._usage: dict[str, Any] | None = None
        self._complete = False

    @property
    def complete(self) -> bool:
        """Tell whether the stream has announced its end."""
        return self._complete

    @property
    def tokens(self) -> int:
        """Number of generated tokens: as the stream states at its end, else the number of parts."""
        return self._usage["completion_tokens"] if self._usage else self._parts

    def rate(self) -> float | None:
        """Return tokens a second after the first, once the stream is complete; None with too few tokens."""
        if not self._complete or self.first is None or self.tokens < 2 or self.last <= self.first:
            return None
        return (self.tokens - 1) / (self.last - self.first)

    def add(self, event: bytes, now: float) -> None:
        """Read the next event.

        Args:
            event: bytes with the empty line at the end.
            now: s of any clock.
        """
        self.events += 1
        if not self._fault:
            self._fault = self._read(event, now)

    def complaint(self) -> str:
        """Return the fault up to now, from a small set of texts; empty without one."""
        return self._fault

    def end(self) -> str:
        """Return the fault of the whole stream, now that nothing more comes."""
        if self._fault:
            return self._fault
        if not self._complete:
            return "the stream ended without [DONE]"
        if self._reason is None:
            return "there is no finish_reason"
        if self._usage is None:
            return "there is no usage"
        return self._counts(self._usage)

    def _read(self, event: bytes, now: float) -> str:
        if self._complete:
            return "something came after [DONE]"
        if not (event.startswith(b"data: ") and event.endswith(END) and event.count(b"\n") == 2):
            return "an event is no line of data with an empty line behind it"
        data = event.removeprefix(b"data: ").removesuffix(END)
        if data == _DONE:
            self._complete = True
            return ""
        try:
            part = msgspec.json.decode(data)
        except msgspec.DecodeError:
            return "an event is no JSON"
        match part:
            case {"error": _}:
                return "the stream ended with an error"
            case {"object": "chat.completion.chunk", "choices": [], "usage": dict(usage)}:
                return self._take_usage(usage)
            case {
                "object": "chat.completion.chunk",
                "choices": [{"delta": dict(delta), "finish_reason": None | "stop" | "length" as reason} as choice],
            }:
                return self._take(delta, reason, choice, now)
        return "an event is no part of an answer"

    def _take(self, delta: dict[str, Any], reason: str | None, choice: dict[str, Any], now: float) -> str:
        if self._reason is not None:
            return "something came after finish_reason"
        if (self._parts == 0 and reason is None) and delta.get("role") != "assistant":
            return "the first part does not say whose turn it is"
        self._reason, self.last = reason, now
        self._listed += len((choice.get("logprobs") or {}).get("content") or [])
        if reason is None:
            self._parts += 1
            self.first = now if self.first is None else self.first
        return ""

    def _take_usage(self, usage: dict[str, Any]) -> str:
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        if not all(isinstance(usage.get(name), int) for name in names):
            return "usage has no numbers of tokens"
        self._usage = usage
        return ""

    def _counts(self, usage: dict[str, Any]) -> str:
        prompt, generated = usage["prompt_tokens"], usage["completion_tokens"]
        if prompt < 1 or usage["total_tokens"] != prompt + generated:
            return "usage does not add up"
        # Fewer parts: a token that ends inside a character comes with the next. One more part: its rest may come last.
        if self._parts > generated + 1:
            return "usage has fewer tokens than there were parts"
        if generated > self._request.max_tokens or (self._reason == "length" and generated < self._request.max_tokens):
            return "usage does not fit max_tokens and finish_reason"
        if self._request.kind == "counted" and self._listed != generated:
            return "usage has other tokens than there were"
        return ""
