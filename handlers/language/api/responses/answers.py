"""Write responses of OpenAI's Responses API, whole or as its typed events.

The forms are those of "The response object" and "Streaming events" in OpenAI's API reference.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from handlers.language.api.answers import EVENTS, RESPONSE_ID, Reason, Usage, error_body, event_bytes
from handlers.language.api.responses.output import Event, Output
from handlers.language.api.responses.requests import ResponseTextRequest
from handlers.language.text import Shown
from handlers.message import JSON, InputError, encodable


class ResponseAnswer:
    """Writes a response.

    Args:
        model: name of the model.
        ident: of the request.
        created: seconds since the epoch.
        sent_as: as of ``answer_of``.
    """

    def __init__(self, request: ResponseTextRequest, model: str, ident: str, created: int, sent_as: str = "") -> None:
        self.content_type = EVENTS if request.stream else JSON
        self._stream = request.stream
        self._output = Output(ident, request.tools, request.sampling.logprobs is not None)
        self._head = _head(request) | {"id": f"{RESPONSE_ID}{sent_as or ident}", "created_at": created, "model": model}
        self._status = "in_progress"
        self._number = 0  # of the next event

    def add(self, index: int, shown: Shown) -> bytes:
        """Add a part of the text, and return the bytes to send at once."""
        return self._events(self._output.add(shown))

    def finish(self, index: int, shown: Shown, reason: Reason) -> bytes:
        """Add the end of the text, and return the bytes to send at once."""
        self._status = "completed" if reason == "stop" else "incomplete"
        return self.add(index, shown) + self._events(self._output.end(self._status))

    def end(self, usage: Usage) -> bytes:
        """Return the rest of the answer."""
        details = None if self._status == "completed" else {"reason": "max_output_tokens"}
        response = self._response(incomplete_details=details, usage=_usage(usage))
        if not self._stream:
            return msgspec.json.encode(response)
        return self._events([{"type": f"response.{self._status}", "response": response}])

    def fail(self, error: InputError) -> bytes:
        """Return the rest, where the generation failed after something was sent."""
        if not self._stream:
            return error_body(error)
        self._status = "failed"
        response = self._response(error={"code": "server_error", "message": encodable(error.message)})
        return self._events([{"type": "response.failed", "response": response}])

    def _response(self, **members: Any) -> dict[str, Any]:
        return self._head | {"status": self._status, "output": self._output.items} | members

    def _events(self, events: Iterable[Event]) -> bytes:
        """Return events as bytes, each written before the next one changes what it tells of; none of a whole answer."""
        begin: Iterable[Event] = self._begin() if self._stream and not self._number else ()
        written = [self._event(event) for part in (begin, events) for event in part]
        return b"".join(written) if self._stream else b""

    def _begin(self) -> Iterator[Event]:
        response = self._head | {"status": "in_progress", "output": []}
        for name in ("created", "in_progress"):
            yield {"type": f"response.{name}", "response": response}

    def _event(self, event: Event) -> bytes:
        self._number += 1
        return event_bytes({**event, "sequence_number": self._number - 1}, event["type"]) if self._stream else b""


def _head(request: ResponseTextRequest) -> dict[str, Any]:
    """Return the members of a response that its request decides."""
    body, sampling = request.body, request.sampling
    return {
        "object": "response",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": sampling.temperature,
        "text": {"format": (body.text and body.text.format) or {"type": "text"}},
        "tool_choice": body.tool_choice or "auto",
        "tools": body.tools or [],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": sampling.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
    }


def _usage(usage: Usage) -> Mapping[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.prompt_tokens_details.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }
