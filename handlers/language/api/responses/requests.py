"""Parse requests of OpenAI's Responses API: conversations, asked of the model as chat completions ask it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from handlers import json_io
from handlers.language.api.conversations import conversation, with_system
from handlers.language.api.forms import Message
from handlers.language.api.neutral import ITEM, RESPONSE, members_of, without
from handlers.language.api.requests import TextRequest, unset, with_tools
from handlers.language.api.responses.forms import (
    LOGPROBS,
    ContentPart,
    FunctionCall,
    FunctionCallOutput,
    FunctionChoice,
    FunctionTool,
    Item,
    MessageItem,
    ResponseRequest,
    TextOptions,
    describe,
)
from handlers.language.generation import Constraint, Sampling
from handlers.language.structured.constraints import OBJECT, schema_constraint
from handlers.language.structured.tools import Called, Choice, Chosen, Function, Named, Tool, ToolCall, offered
from handlers.message import InputError

_ITEMS = ("message", "function_call", "function_call_output")
# Members that name what was stored.
_STORED = ("previous_response_id", "conversation")


@dataclass(frozen=True, kw_only=True)
class ResponseTextRequest(TextRequest):
    """A request for text of the Responses API.

    Attributes:
        body: as the client sent it; the answer repeats parts of it.
    """

    body: ResponseRequest


def parse_response_request(body: bytes) -> ResponseTextRequest:
    """Parse a body of "Create a model response".

    Raises:
        InputError: the body has another form, names something that was stored, or has a parameter that is unknown or
            out of its range.
    """
    request = json_io.convert(_plain(members_of(body, RESPONSE)), ResponseRequest, describe)
    if not request.input:
        raise InputError("empty", "the input is empty", "$.input", "a text, or at least one item")
    messages = conversation(_messages(request.input))
    if request.instructions:
        messages = _instructed(messages, request.instructions)
    sampling = _sampling(request)
    choice = _choice(request.tool_choice)
    tools = offered([_tool(tool) for tool in request.tools or []], choice, "$.tool_choice.name")
    if tools:
        parallel = request.parallel_tool_calls is not False
        messages, sampling = with_tools(messages, sampling, tools, choice, parallel)
    return ResponseTextRequest(
        kind="response",
        prompts=[messages],
        max_tokens=request.max_output_tokens,
        stop=[],
        sampling=sampling,
        stream=bool(request.stream),
        tools=bool(tools),
        store=request.store is True,
        model=request.model or "",
        unset=unset(request),
        body=request,
    )


def _plain(members: dict[str, Any]) -> dict[str, Any]:
    """Return a body whose items all have a type, and none that says nothing.

    Raises:
        InputError: the body names something that was stored, or an item is of a kind that is not offered.
    """
    if stored := next((name for name in _STORED if members.get(name) is not None), None):
        message = f"{stored} names what was stored, and nothing is stored here"
        raise InputError("unsupported_value", message, f"$.{stored}", "the whole conversation as input")
    members = {name: value for name, value in members.items() if name not in _STORED}
    if isinstance(members.get("input"), list):
        members["input"] = [_item(item, f"$.input[{i}]") for i, item in enumerate(members["input"])]
    return members


def _item(item: Any, path: str) -> Any:
    if not isinstance(item, dict):
        return item
    members = {"type": "message"} | without(item, ITEM, path)
    kind = members["type"]
    if kind == "item_reference":
        message = "an item_reference names what was stored, and nothing is stored here"
        raise InputError("unsupported_value", message, path, "the item itself; clients send it with store: false")
    if kind not in _ITEMS:
        raise InputError("unsupported_value", f"items of the type {kind!r} are not offered", path, ", ".join(_ITEMS))
    return members


def _messages(given: str | Sequence[Item]) -> list[Message]:
    """Return the messages of a chat completion; calls are part of the assistant's message before them."""
    if isinstance(given, str):
        return [Message("user", given)]
    messages: list[Message] = []
    for item in given:
        match item:
            case MessageItem():
                messages.append(Message(item.role, _text(item.content)))
            case FunctionCallOutput():
                messages.append(Message("tool", _text(item.output), tool_call_id=item.call_id))
            case FunctionCall():
                if not messages or messages[-1].role != "assistant":
                    messages.append(Message("assistant", ""))
                call = ToolCall(Called(item.name, item.arguments), item.call_id)
                messages[-1].tool_calls = [*(messages[-1].tool_calls or []), call]
    return messages


def _text(content: str | list[ContentPart]) -> str:
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


def _instructed(messages: list[dict[str, str]], instructions: str) -> list[dict[str, str]]:
    """Return a conversation whose system message begins with instructions."""
    system = [{"role": "system", "content": instructions}]
    first, *others = messages
    return [*with_system(system, first["content"]), *others] if first["role"] == "system" else [*system, *messages]


def _sampling(request: ResponseRequest) -> Sampling:
    sampling = Sampling(constraint=_constraint(request.text))
    if request.temperature is not None:
        sampling = replace(sampling, temperature=request.temperature)
    if request.top_p is not None:
        sampling = replace(sampling, top_p=request.top_p)
    if request.top_logprobs or LOGPROBS in (request.include or ()):
        sampling = replace(sampling, logprobs=request.top_logprobs or 0)
    return sampling


def _constraint(text: TextOptions | None) -> Constraint | None:
    form = text.format if text else None
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return Constraint("json_schema", OBJECT, "$.text.format")
    if form.schema is None:
        right = '{"type": "json_schema", "name": "…", "schema": {…}}'
        raise InputError("missing_field", "the format has no schema", "$.text.format.schema", right)
    return schema_constraint(form.schema, "$.text.format.schema")


def _tool(tool: FunctionTool) -> Tool:
    return Tool("function", Function(tool.name, tool.description, tool.parameters, tool.strict))


def _choice(choice: Choice | FunctionChoice | None) -> Choice | None:
    return Chosen("function", Named(choice.name)) if isinstance(choice, FunctionChoice) else choice
