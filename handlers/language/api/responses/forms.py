"""The body of a request of OpenAI's Responses API ("Create a model response" in its API reference), as it names them.

Text and calls of functions are offered. Each request brings its whole conversation, since nothing is stored.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from handlers.language.api import forms
from handlers.language.structured.tools import NAME

LOGPROBS = "message.output_text.logprobs"
# Right values of a member ``type``, by the beginning of its path.
_TYPES = {
    "$.tool": "function",
    "$.text": "text, json_object or json_schema",
    "$.input": "input_text or output_text: this model reads nothing else",
}


class ContentPart(msgspec.Struct, forbid_unknown_fields=True):
    """A part of a message's content; what an answer has beside its text may come back, and is not read."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[dict[str, Any]] | None = None
    logprobs: list[dict[str, Any]] | None = None
    parsed: Any = None


class _Item(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", kw_only=True):
    """Members of every item, as answers carry them; they are not read."""

    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class MessageItem(_Item, tag="message", kw_only=True):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ContentPart]
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCall(_Item, tag="function_call", kw_only=True):
    """A call that the model made; its arguments are a JSON object in a string."""

    call_id: str
    name: str
    arguments: str
    parsed_arguments: Any = None


class FunctionCallOutput(_Item, tag="function_call_output", kw_only=True):
    """What a function returned."""

    call_id: str
    output: str | list[ContentPart]


Item = MessageItem | FunctionCall | FunctionCallOutput


class FunctionTool(msgspec.Struct, forbid_unknown_fields=True):
    """A function that may be called."""

    type: Literal["function"]
    name: Annotated[str, Meta(pattern=NAME)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionChoice(msgspec.Struct, forbid_unknown_fields=True):
    """The only function that may be called, and must be."""

    type: Literal["function"]
    name: str


class TextFormat(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The form of the text; a schema is held to whether ``strict`` or not."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class TextOptions(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Options of the text."""

    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None


class ResponseRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A body of "Create a model response"."""

    input: str | list[Item]
    model: str | None = None
    instructions: str | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = None
    text: TextOptions | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: forms.StreamOptions | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


def describe(path: str) -> str:
    """Return what would have been right at the path of a wrong value."""
    name = path.rpartition(".")[2]
    if name == "role":
        return "system, developer, user or assistant"
    if name == "type":
        return next((right for start, right in _TYPES.items() if path.startswith(start)), "")
    return forms.describe(ResponseRequest)(path)
