"""The bodies of requests for text, as OpenAI's API names their members.

A part of "Create chat completion" and "Create completion" (OpenAI's API reference) is offered.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from handlers import json_io
from handlers.language.structured.constraints import Constrained
from handlers.language.structured.tools import Choice, Tool, ToolCall

MOST_ANSWERS = 128  # to all prompts of a request; as OpenAI's to one
_Tokens = Annotated[int, Meta(ge=1)] | None
_Penalty = Annotated[float, Meta(ge=-2, le=2)] | None
_Token = Annotated[int, Meta(ge=0)]

# Right values, where the decoder's own message does not name them; by the last name of the path.
_EXPECTED = {
    "role": "system, developer, user, assistant or tool",
    "type": "text: this model reads nothing else",
}


class Parameters(Constrained, forbid_unknown_fields=True, kw_only=True):
    """Parameters of the choice of tokens."""

    max_tokens: _Tokens = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    presence_penalty: _Penalty = None
    frequency_penalty: _Penalty = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    ignore_eos: bool | None = None
    seed: int | None = None
    stop: str | list[str] | None = None


class NativeRequest(Parameters, kw_only=True):
    """A prompt with parameters, in the native form."""

    prompt: str


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """What a stream has beside the text."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class OpenAI(Parameters, kw_only=True):
    """Members of both of OpenAI's forms."""

    model: str | None = None
    n: Annotated[int, Meta(ge=1, le=MOST_ANSWERS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class CompletionRequest(OpenAI, kw_only=True):
    """A body of "Create completion"."""

    prompt: str | list[str | _Token | list[_Token]]
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | Literal[False] | None = None


class TextPart(msgspec.Struct, forbid_unknown_fields=True):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart]
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class Prediction(msgspec.Struct, forbid_unknown_fields=True):
    """A text of which the answer probably has much, such as the file that it edits."""

    type: Literal["content"]
    content: str | list[TextPart]


class ChatRequest(OpenAI, kw_only=True):
    """A body of "Create chat completion"."""

    messages: list[Message]
    max_completion_tokens: _Tokens = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[Tool] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    prediction: Prediction | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None


class TokenizeRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A body of vLLM's ``/tokenize``: a prompt or a conversation."""

    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A body of vLLM's ``/detokenize``."""

    model: str | None = None
    tokens: list[_Token]


def describe(kind: type[msgspec.Struct]) -> json_io.Describe:
    """Return a function from the path of a wrong value to what would have been right."""
    offered = f"one of {', '.join(kind.__struct_fields__)}"

    def describe(path: str) -> str:
        name = path.rpartition(".")[2]
        if path == "$.prediction.type":
            return "content"
        if name == "type" and path.startswith("$.tool"):
            return "function"
        is_unknown = name not in kind.__struct_fields__ and path.count(".") < 2 and "[" not in path
        return _EXPECTED.get(name, offered if is_unknown else "")

    return describe
