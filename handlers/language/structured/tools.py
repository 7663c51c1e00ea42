"""Tools: functions that a model may call, what holds its calls to their schemas, and how it says them.

A call has the form of Hermes and Qwen: ``<tool_call>``, an object of ``name`` and ``arguments``, ``</tool_call>``. The
names are OpenAI's ("Function calling" in its API reference).
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from handlers.language.generation import Constraint
from handlers.language.structured.constraints import MOST_BYTES, SPACE
from handlers.language.text import overlap
from handlers.message import InputError

MOST_TOOLS, MOST_CALLS = 128, 8
NAME = r"^[a-zA-Z0-9_-]{1,64}\Z"  # of a function
OPEN, MIDDLE, CLOSE = '<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>"
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
TOLD = """You may call functions. To call some, answer with nothing but, for each call:
<tool_call>
{"name": "the function's name", "arguments": {its arguments}}
</tool_call>
These are the functions, each with the JSON schema of its arguments:
"""


class Function(msgspec.Struct):
    """A function that may be called."""

    name: Annotated[str, Meta(pattern=NAME)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    """A tool: a function."""

    type: Literal["function"]
    function: Function


class Named(msgspec.Struct):
    """The name of a function."""

    name: str


class Chosen(msgspec.Struct, forbid_unknown_fields=True):
    """The only function that may be called, and must be."""

    type: Literal["function"]
    function: Named


class Called(msgspec.Struct):
    """The name and arguments, a JSON object in a string, of a call."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct):
    """A call in a message of the assistant's."""

    function: Called
    id: str = ""
    type: str = "function"


Choice = Literal["none", "auto", "required"] | Chosen


def offered(tools: Sequence[Tool], choice: Choice | None, place: str = "$.tool_choice.function.name") -> list[Tool]:
    """Return the tools that may be called.

    Args:
        place: JSON path of the chosen name.

    Raises:
        InputError: the choice names none of them, a name stands twice, or there are too many.
    """
    names = [tool.function.name for tool in tools]
    if len(names) > MOST_TOOLS:
        raise InputError("out_of_range", f"there are {len(names)} tools", "$.tools", f"at most {MOST_TOOLS}")
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise InputError("invalid_parameter", f"two tools have the name {twice!r}", "$.tools", "each name once")
    if isinstance(choice, Chosen):
        if choice.function.name not in names:
            right = ", ".join(names) or "a name of $.tools"
            message = f"there is no tool {choice.function.name!r}"
            raise InputError("invalid_parameter", message, place, right)
        return [tool for tool in tools if tool.function.name == choice.function.name]
    if choice == "required" and not tools:
        raise InputError("invalid_parameter", "there is no tool to call", "$.tool_choice", "tools")
    return [] if choice == "none" else list(tools)


def told(tools: Sequence[Tool]) -> str:
    """Return the text that tells a model of its tools."""
    return TOLD + "\n".join(msgspec.json.encode(tool.function).decode() for tool in tools)


def said(calls: Sequence[ToolCall]) -> str:
    """Return calls as the model says them."""
    return "\n".join(OPEN + call.function.name + MIDDLE + call.function.arguments + CLOSE for call in calls)


def answered(content: str) -> str:
    """Return what a tool answered as the model reads it."""
    return f"<tool_response>\n{content}\n</tool_response>"


def held_to(tools: Sequence[Tool], choice: Choice | None, parallel: bool) -> Constraint:
    """Return the constraint of an answer: calls of tools, and with the choice ``auto`` or a text instead.

    Args:
        parallel: whether there may be several calls.

    Raises:
        InputError: the schemas are too long.
    """
    calls = f"call{{1,{MOST_CALLS if parallel else 1}}}"
    must = choice == "required" or isinstance(choice, Chosen)
    lines = [f"start: {calls}" if must else f"start: {calls} | TEXT |", "TEXT: /[^<](.|\\n)*/"]
    lines.append(f"call: {' | '.join(f'f{i}' for i in range(len(tools)))}")
    for i, tool in enumerate(tools):
        begin = json.dumps(OPEN + tool.function.name + MIDDLE)
        schema = dict(NOTHING if tool.function.parameters is None else tool.function.parameters)
        schema["x-guidance"] = {"whitespace_pattern": SPACE, "lenient": not tool.function.strict}
        lines.append(f"f{i}: {begin} a{i} {json.dumps(CLOSE)} /\\n?/")
        lines.append(f"a{i}: %json {msgspec.json.encode(schema).decode()}")
    text = "\n".join(lines)
    if len(text.encode()) > MOST_BYTES:
        raise InputError("out_of_range", "the tools are too long", "$.tools", f"at most {MOST_BYTES // 1024} KiB")
    return Constraint("lark", text, "$.tools")


class Said(NamedTuple):
    """A part of an answer: a text, the name that begins a call, or a part of a call's arguments.

    Attributes:
        call: number of the call; -1 for a text.
    """

    call: int
    text: str = ""
    name: str = ""


class CallReader:
    """Splits an answer into its text and its calls, as it comes."""

    def __init__(self) -> None:
        self.calls = 0
        self._buffer = ""
        self._state: Literal["begin", "text", "name", "arguments"] = "begin"

    def add(self, text: str) -> list[Said]:
        """Add a part of the answer, and return what is known of it now."""
        self._buffer += text
        parts: list[Said] = []
        while (part := self._next()) is not None:
            parts += [part] if part.text or part.name else []
        return parts

    def end(self) -> list[Said]:
        """Return the rest: a text that began like a call, or arguments that were cut off."""
        rest, self._buffer = self._buffer, ""
        if not rest.strip() or self._state == "name":
            return []
        return [Said(self.calls - 1 if self._state == "arguments" else -1, rest)]

    def _next(self) -> Said | None:
        if not self._buffer:
            return None
        if self._state == "begin":
            rest = self._buffer.lstrip("\n") if self.calls else self._buffer
            if rest.startswith(OPEN):
                self._buffer, self._state = rest[len(OPEN) :], "name"
                return Said(-1)
            if OPEN.startswith(rest):
                return None
            self._state = "text"
        if self._state == "text":
            text, self._buffer = self._buffer, ""
            return Said(-1, text)
        if self._state == "name":
            name, found, rest = self._buffer.partition(MIDDLE)
            if not found:
                return None
            self._buffer, self._state, self.calls = rest, "arguments", self.calls + 1
            return Said(self.calls - 1, name=name)
        arguments, found, rest = self._buffer.partition(CLOSE)
        if found:
            self._buffer, self._state = rest, "begin"
            return Said(self.calls - 1, arguments)
        sent = len(self._buffer) - overlap(self._buffer, CLOSE)
        arguments, self._buffer = self._buffer[:sent], self._buffer[sent:]
        return Said(self.calls - 1, arguments) if arguments else None
