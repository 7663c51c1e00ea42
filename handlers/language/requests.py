"""Parse requests for text: OpenAI's chat completions and completions, and the native form.

A part of "Create chat completion" and "Create completion" (OpenAI's API reference) is offered. Any other parameter is
refused, unless its value is neutral (``handlers.language.neutral``). ``model`` and ``user`` may be anything: the URL
names the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from handlers import json_io
from handlers.language.generation import Sampling
from handlers.language.neutral import COMPLETION, MESSAGE, NEUTRAL, PART, without
from handlers.language.structured.constraints import Constrained, constraint_of
from handlers.language.structured.tools import Choice, Tool, ToolCall, answered, held_to, offered, said, told
from handlers.message import InputError

Kind = Literal["chat", "completion", "native"]
MOST_STOPS = 4
MOST_BIASES = 300  # as OpenAI
_Tokens = Annotated[int, Meta(ge=1)] | None
_Penalty = Annotated[float, Meta(ge=-2, le=2)] | None
_One = Annotated[int, Meta(ge=1, le=1)] | None


@dataclass(frozen=True)
class TextRequest:
    """A request for text.

    Attributes:
        kind: form of the request and of its answer.
        prompt: a text, or ``role`` and ``content`` of each message.
        max_tokens: None for all that the context has room for.
        stop: strings that end the answer.
        sampling: parameters of the choice of tokens.
        stream: whether each token is sent at once.
        include_usage: whether a stream ends with the numbers of tokens.
        tools: whether the answer may call some.
    """

    kind: Kind
    prompt: str | Sequence[Mapping[str, str]]
    max_tokens: int | None
    stop: Sequence[str]
    sampling: Sampling
    stream: bool = False
    include_usage: bool = False
    tools: bool = False

    @property
    def path(self) -> str:
        """JSON path of the prompt."""
        return "$.messages" if self.kind == "chat" else "$.prompt"


class _Parameters(Constrained, forbid_unknown_fields=True, kw_only=True):
    max_tokens: _Tokens = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    presence_penalty: _Penalty = None
    frequency_penalty: _Penalty = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    ignore_eos: bool | None = None
    seed: int | None = None
    stop: str | list[str] | None = None


class NativeRequest(_Parameters, kw_only=True):
    """A prompt with parameters, in the native form."""

    prompt: str


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """What a stream has beside the text."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class _OpenAI(_Parameters, kw_only=True):
    model: str | None = None
    n: _One = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class CompletionRequest(_OpenAI, kw_only=True):
    """A body of "Create completion"."""

    prompt: str | list[str]
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


class ChatRequest(_OpenAI, kw_only=True):
    """A body of "Create chat completion"."""

    messages: list[Message]
    max_completion_tokens: _Tokens = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[Tool] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None


_NATIVE = msgspec.json.Decoder(NativeRequest)
_OBJECT: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
# Right values, where the decoder's own message does not name them; by the last name of the path.
_EXPECTED = {
    "n": "1: ask again for another answer",
    "role": "system, developer, user, assistant or tool",
    "type": "text: this model reads nothing else",
}


def native(body: bytes) -> TextRequest:
    """Parse ``{"prompt": "…"}`` with parameters.

    Raises:
        InputError: the body has another form, or a parameter that is unknown or out of its range.
    """
    parameters = json_io.decode_strictly(_NATIVE, body, _describe(NativeRequest))
    return TextRequest(
        "native", parameters.prompt, parameters.max_tokens, _stops(parameters), _sampling(parameters, None)
    )


def completion(body: bytes) -> TextRequest:
    """Parse a body of "Create completion".

    Raises:
        InputError: the body has another form, or a parameter that is unknown or out of its range.
    """
    parameters = json_io.convert(
        without(_object(body), COMPLETION, "$"), CompletionRequest, _describe(CompletionRequest)
    )
    if isinstance(parameters.prompt, list) and len(parameters.prompt) != 1:
        raise InputError("wrong_shape", f"there are {len(parameters.prompt)} prompts", "$.prompt", "one prompt")
    prompt = parameters.prompt if isinstance(parameters.prompt, str) else parameters.prompt[0]
    max_tokens = parameters.max_tokens or 16  # the API's default
    sampling = _sampling(parameters, None if parameters.logprobs is False else parameters.logprobs)
    return TextRequest(
        "completion", prompt, max_tokens, _stops(parameters), sampling, bool(parameters.stream), _with_usage(parameters)
    )


def chat(body: bytes) -> TextRequest:
    """Parse a body of "Create chat completion".

    Raises:
        InputError: the body has another form, or a parameter that is unknown or out of its range.
    """
    members = without(_object(body), NEUTRAL, "$")
    if isinstance(members.get("messages"), list):
        members["messages"] = [_plain(message, f"$.messages[{i}]") for i, message in enumerate(members["messages"])]
    parameters = json_io.convert(members, ChatRequest, _describe(ChatRequest))
    if not parameters.messages:
        raise InputError("empty", "there are no messages", "$.messages", "at least one message")
    if parameters.top_logprobs and not parameters.logprobs:
        raise InputError(
            "invalid_parameter", "top_logprobs is given without logprobs", "$.top_logprobs", "logprobs: true"
        )
    sampling = _sampling(parameters, (parameters.top_logprobs or 0) if parameters.logprobs else None)
    messages = [_message(message) for message in parameters.messages]
    tools = offered(parameters.tools or [], parameters.tool_choice)
    if tools:
        if sampling.constraint:
            raise InputError("invalid_parameter", "the answer is held to two things", "$.tools", "tools or a format")
        held = held_to(tools, parameters.tool_choice, parameters.parallel_tool_calls is not False)
        sampling = replace(sampling, constraint=held)
        messages = _with_system(messages, told(tools))
    return TextRequest(
        "chat",
        messages,
        _max_tokens(parameters),
        _stops(parameters),
        sampling,
        bool(parameters.stream),
        _with_usage(parameters),
        bool(tools),
    )


def _object(body: bytes) -> dict[str, Any]:
    return json_io.decode_strictly(_OBJECT, body)


def _plain(message: Any, path: str) -> Any:
    """Return a message without the members that an answer has beside its text: clients send answers back unchanged."""
    if not isinstance(message, dict):
        return message
    members = without(message, MESSAGE, path)
    if message.get("role") == "assistant" and message.get("content") is None:
        return members | {"content": ""}
    if isinstance(message.get("content"), list):
        parts = enumerate(message["content"])
        content = [without(part, PART, f"{path}.content[{i}]") if isinstance(part, dict) else part for i, part in parts]
        return members | {"content": content}
    return members


def _message(message: Message) -> dict[str, str]:
    role = "system" if message.role == "developer" else message.role  # the API's newer word for it
    content = message.content
    text = content if isinstance(content, str) else "\n".join(part.text for part in content)
    if message.tool_calls:
        text = "\n".join(filter(None, [text, said(message.tool_calls)]))
    # Templates that know no tools refuse the role; those that do write the same as a user's.
    return {"role": "user", "content": answered(text)} if role == "tool" else {"role": role, "content": text}


def _with_system(messages: list[dict[str, str]], text: str) -> list[dict[str, str]]:
    """Return a conversation whose system message ends with a text."""
    first, *others = messages
    if first["role"] == "system":
        return [{"role": "system", "content": f"{first['content']}\n\n{text}"}, *others]
    return [{"role": "system", "content": text}, *messages]


def _max_tokens(parameters: ChatRequest) -> int | None:
    old, new = parameters.max_tokens, parameters.max_completion_tokens
    if old is not None and new is not None and old != new:
        message = f"max_tokens is {old}, max_completion_tokens {new}"
        raise InputError("invalid_parameter", message, "$.max_completion_tokens", "one of them")
    return new if old is None else old


def _with_usage(parameters: _OpenAI) -> bool:
    if parameters.stream_options and parameters.stream_options.include_usage and not parameters.stream:
        raise InputError(
            "invalid_parameter", "stream_options is given without stream", "$.stream_options", "stream: true"
        )
    return bool(parameters.stream_options and parameters.stream_options.include_usage)


def _stops(parameters: _Parameters) -> list[str]:
    stops = [parameters.stop] if isinstance(parameters.stop, str) else parameters.stop or []
    if len(stops) > MOST_STOPS:
        raise InputError("out_of_range", f"there are {len(stops)} stops", "$.stop", f"at most {MOST_STOPS}")
    if "" in stops:
        raise InputError("empty", "a stop is empty", "$.stop", "strings of at least one character")
    return stops


def _sampling(parameters: _Parameters, logprobs: int | None) -> Sampling:
    return Sampling(
        temperature=1.0 if parameters.temperature is None else parameters.temperature,
        top_p=1.0 if parameters.top_p is None else parameters.top_p,
        top_k=max(0, parameters.top_k or 0),  # vLLM writes -1 for all
        presence_penalty=parameters.presence_penalty or 0.0,
        frequency_penalty=parameters.frequency_penalty or 0.0,
        min_p=parameters.min_p or 0.0,
        repetition_penalty=parameters.repetition_penalty or 1.0,
        logit_bias=_biases(parameters.logit_bias or {}),
        ignore_eos=bool(parameters.ignore_eos),
        seed=parameters.seed,
        logprobs=logprobs,
        constraint=constraint_of(parameters),
    )


def _biases(given: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    if len(given) > MOST_BIASES:
        raise InputError(
            "out_of_range", f"logit_bias has {len(given)} tokens", "$.logit_bias", f"at most {MOST_BIASES}"
        )
    others = (token for token in given if not (token.isascii() and token.isdigit() and len(token) < 10))
    if wrong := next(others, None):
        message = f"logit_bias names {wrong!r}"
        raise InputError("invalid_parameter", message, "$.logit_bias", 'numbers of tokens: {"50256": -100}')
    return tuple((int(token), bias) for token, bias in given.items())


def _describe(kind: type[msgspec.Struct]) -> json_io.Describe:
    offered = f"one of {', '.join(kind.__struct_fields__)}"

    def describe(path: str) -> str:
        name = path.rpartition(".")[2]
        if name == "type" and path.startswith("$.tool"):
            return "function"
        fields: Any = kind.__struct_fields__
        return _EXPECTED.get(name, "" if name in fields or path.count(".") > 1 else offered)

    return describe
