"""The output of a response while it grows: its items, a message and calls of functions, and the events that tell of it.

The forms are those of "The response object" and "Streaming events" in OpenAI's API reference.
"""

from collections.abc import Iterator
from typing import Any

from handlers.language.api.answers import logprobs_of
from handlers.language.generation import Token
from handlers.language.structured.tools import CallReader, Said
from handlers.language.text import Shown

Event = dict[str, Any]  # an event of the stream without its number


class Output:
    """Collects the items of a response.

    An event may hold an item as it is now: write it before the next one is taken.

    Args:
        ident: of the request.
        tools: whether the answer may call some.
        logprobs: whether texts have the log-probabilities of their tokens.

    Attributes:
        items: as the API names their members.
    """

    def __init__(self, ident: str, tools: bool, logprobs: bool) -> None:
        self.items: list[dict[str, Any]] = []
        self._ident, self._logprobs = ident, logprobs
        self._reader = CallReader() if tools else None
        self._tokens: list[Token] = []  # of text that was not told yet

    def add(self, shown: Shown) -> Iterator[Event]:
        """Add a part of the answer, and yield the events that tell of it."""
        self._tokens += shown.tokens
        if self._reader:
            parts = self._reader.add(shown.text)
        else:
            parts = [Said(-1, shown.text)] if shown.text or shown.tokens else []
        for part in parts:
            yield from self._take(part)

    def end(self, status: str) -> Iterator[Event]:
        """Add what was held back, and yield the last events; ``status`` is that of the last item."""
        for part in self._reader.end() if self._reader else ():
            yield from self._take(part)
        if not self.items:
            yield from self._take(Said(-1))
        yield from self._close(status)

    def _take(self, part: Said) -> Iterator[Event]:
        is_call = part.call >= 0
        if part.name or not self.items or (self.items[-1]["type"] == "function_call") != is_call:
            yield from self._close("completed")
            yield from self._open_call(part) if is_call else self._open_message()
        yield from self._add_arguments(part.text) if is_call else self._add_text(part.text)

    def _open_call(self, part: Said) -> Iterator[Event]:
        number = f"{self._ident}_{part.call}"
        item = {"id": f"fc_{number}", "type": "function_call", "status": "in_progress"}
        self.items.append(item | {"call_id": f"call_{number}", "name": part.name, "arguments": ""})
        yield self._event("output_item.added", item=self.items[-1])

    def _open_message(self) -> Iterator[Event]:
        content: list[dict[str, Any]] = []
        item = {"id": f"msg_{self._ident}_{len(self.items)}", "type": "message", "status": "in_progress"}
        self.items.append(item | {"role": "assistant", "content": content})
        yield self._event("output_item.added", item=self.items[-1])
        content.append({"type": "output_text", "text": "", "annotations": [], "logprobs": []})
        yield self._content_event("content_part.added", part=content[0])

    def _add_arguments(self, text: str) -> Iterator[Event]:
        self._tokens = []
        if text:
            self.items[-1]["arguments"] += text
            yield self._item_event("function_call_arguments.delta", delta=text)

    def _add_text(self, text: str) -> Iterator[Event]:
        logprobs = logprobs_of(self._tokens) if self._logprobs else []
        self._tokens = []
        if text or logprobs:
            content = self.items[-1]["content"][0]
            content["text"] += text
            content["logprobs"] += logprobs
            yield self._content_event("output_text.delta", delta=text, logprobs=logprobs)

    def _close(self, status: str) -> Iterator[Event]:
        if not self.items:
            return
        item = self.items[-1]
        if item["type"] == "message":
            content = item["content"][0]
            yield self._content_event("output_text.done", text=content["text"], logprobs=content["logprobs"])
            yield self._content_event("content_part.done", part=content)
        else:
            yield self._item_event("function_call_arguments.done", arguments=item["arguments"])
        item["status"] = status
        yield self._event("output_item.done", item=item)

    def _content_event(self, name: str, **members: Any) -> Event:
        return self._item_event(name, content_index=0, **members)

    def _item_event(self, name: str, **members: Any) -> Event:
        return self._event(name, item_id=self.items[-1]["id"], **members)

    def _event(self, name: str, **members: Any) -> Event:
        return {"type": f"response.{name}", "output_index": len(self.items) - 1, **members}
