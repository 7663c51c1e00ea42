"""Requests for text: OpenAI's chat completions and completions, and the native form, to one description of them.

What is offered of "Create chat completion" and "Create completion" (OpenAI's API reference); any other parameter is
refused, never passed over, unless its value asks for nothing (``openai_neutral``). ``model`` and ``user`` may be
anything: the URL names the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from handlers import json_io
from handlers.language.generation import Sampling
from handlers.language.neutral import MESSAGE, NEUTRAL, PART, without
from handlers.message import InputError

Kind = Literal["chat", "completion", "native"]
MOST_STOPS = 4
_Tokens = Annotated[int, Meta(ge=1)] | None
_Penalty = Annotated[float, Meta(ge=-2, le=2)] | None
_One = Annotated[int, Meta(ge=1, le=1)] | None


@dataclass(frozen=True)
class Asked:
    """A request for text.

    Attributes:
        kind: the form that it is answered in.
        prompt: a text, or ``role`` and ``content`` of each message.
        max_tokens: None for as many as the context has room for.
        stop: strings that end the answer.
        sampling: how tokens are chosen.
        stream: whether each token is sent as soon as it is there.
        include_usage: whether a stream ends with the numbers of tokens.
    """

    kind: Kind
    prompt: str | Sequence[Mapping[str, str]]
    max_tokens: int | None
    stop: Sequence[str]
    sampling: Sampling
    stream: bool = False
    include_usage: bool = False

    @property
    def path(self) -> str:
        """JSON path of the prompt."""
        return "$.messages" if self.kind == "chat" else "$.prompt"


class _Parameters(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    max_tokens: _Tokens = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    presence_penalty: _Penalty = None
    frequency_penalty: _Penalty = None
    seed: int | None = None
    stop: str | list[str] | None = None


class _Native(_Parameters, kw_only=True):
    prompt: str


class _StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class _OpenAI(_Parameters, kw_only=True):
    model: str | None = None
    n: _One = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class _Completion(_OpenAI, kw_only=True):
    prompt: str | list[str]
    logprobs: Annotated[int, Meta(ge=0, le=5)] | Literal[False] | None = None


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["text"]
    text: str


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]
    name: str | None = None


class _Format(msgspec.Struct):
    type: str


class _Chat(_OpenAI, kw_only=True):
    messages: list[_Message]
    max_completion_tokens: _Tokens = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: _Format | None = None


_NATIVE = msgspec.json.Decoder(_Native)
_OBJECT: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
# What is right, where the decoder's own message does not say it; by the last name of the path.
_EXPECTED = {
    "n": "1: ask again for another answer",
    "role": "system, developer, user or assistant: there are no tools",
    "type": "text: this model reads nothing else",
}


def native(body: bytes) -> Asked:
    """Read ``{"prompt": "…"}`` with parameters.

    Raises:
        InputError: it is no such request, or has a parameter that is unknown or out of its range.
    """
    asked = json_io.decode(_NATIVE, body, _describe(_Native))
    return Asked("native", asked.prompt, asked.max_tokens, _stops(asked), _sampling(asked, None))


def completion(body: bytes) -> Asked:
    """Read a body of "Create completion".

    Raises:
        InputError: it is no such request, or has a parameter that is unknown or out of its range.
    """
    given = _given(body)
    asked = json_io.convert(given, _Completion, _describe(_Completion))
    if isinstance(asked.prompt, list) and len(asked.prompt) != 1:
        raise InputError("wrong_shape", f"there are {len(asked.prompt)} prompts", "$.prompt", "one prompt")
    prompt = asked.prompt if isinstance(asked.prompt, str) else asked.prompt[0]
    max_tokens = asked.max_tokens or 16  # the API's default
    sampling = _sampling(asked, None if asked.logprobs is False else asked.logprobs)
    return Asked("completion", prompt, max_tokens, _stops(asked), sampling, bool(asked.stream), _with_usage(asked))


def chat(body: bytes) -> Asked:
    """Read a body of "Create chat completion".

    Raises:
        InputError: it is no such request, or has a parameter that is unknown or out of its range.
    """
    given = _given(body)
    if isinstance(given.get("messages"), list):
        given["messages"] = [_spoken(one, f"$.messages[{i}]") for i, one in enumerate(given["messages"])]
    asked = json_io.convert(given, _Chat, _describe(_Chat))
    if not asked.messages:
        raise InputError("empty", "there are no messages", "$.messages", "at least one message")
    form = asked.response_format.type if asked.response_format else "text"
    if form not in ("text", "json_object"):
        raise InputError(
            "unsupported_value",
            f"response_format {form!r} is not offered",
            "$.response_format",
            '{"type": "text"} or {"type": "json_object"}',
        )
    if asked.top_logprobs and not asked.logprobs:
        raise InputError(
            "invalid_parameter", "top_logprobs is given without logprobs", "$.top_logprobs", "logprobs: true"
        )
    sampling = _sampling(asked, (asked.top_logprobs or 0) if asked.logprobs else None, form == "json_object")
    messages = [_message(one) for one in asked.messages]
    return Asked("chat", messages, _most(asked), _stops(asked), sampling, bool(asked.stream), _with_usage(asked))


def _given(body: bytes) -> dict[str, Any]:
    """The members of a body, but for those that ask for nothing."""
    members = json_io.decode(_OBJECT, body)
    return without(members, NEUTRAL, "$")


def _spoken(message: Any, path: str) -> Any:
    """A message without what an answer of the API carries beside its text: clients send it back as it came."""
    if not isinstance(message, dict):
        return message
    kept = without(message, MESSAGE, path)
    if message.get("role") == "assistant" and message.get("content") is None:
        return kept | {"content": ""}
    if isinstance(message.get("content"), list):
        parts = enumerate(message["content"])
        whole = [without(one, PART, f"{path}.content[{i}]") if isinstance(one, dict) else one for i, one in parts]
        return kept | {"content": whole}
    return kept


def _message(message: _Message) -> dict[str, str]:
    role = "system" if message.role == "developer" else message.role  # the API's newer word for it
    content = message.content
    return {"role": role, "content": content if isinstance(content, str) else "\n".join(part.text for part in content)}


def _most(asked: _Chat) -> int | None:
    old, new = asked.max_tokens, asked.max_completion_tokens
    if old is not None and new is not None and old != new:
        found = f"max_tokens is {old}, max_completion_tokens {new}"
        raise InputError("invalid_parameter", found, "$.max_completion_tokens", "one of them")
    return new if old is None else old


def _with_usage(asked: _OpenAI) -> bool:
    if asked.stream_options and asked.stream_options.include_usage and not asked.stream:
        raise InputError(
            "invalid_parameter", "stream_options is given without stream", "$.stream_options", "stream: true"
        )
    return bool(asked.stream_options and asked.stream_options.include_usage)


def _stops(asked: _Parameters) -> list[str]:
    stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    if len(stops) > MOST_STOPS:
        raise InputError("out_of_range", f"there are {len(stops)} stops", "$.stop", f"at most {MOST_STOPS}")
    if "" in stops:
        raise InputError("empty", "a stop is empty", "$.stop", "strings of at least one character")
    return stops


def _sampling(asked: _Parameters, logprobs: int | None, json: bool = False) -> Sampling:
    return Sampling(
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        top_k=max(0, asked.top_k or 0),  # vLLM writes -1 for all
        presence_penalty=asked.presence_penalty or 0.0,
        frequency_penalty=asked.frequency_penalty or 0.0,
        seed=asked.seed,
        logprobs=logprobs,
        json=json,
    )


def _describe(kind: type[msgspec.Struct]) -> json_io.Describe:
    offered = f"one of {', '.join(kind.__struct_fields__)}"

    def describe(path: str) -> str:
        name = path.rpartition(".")[2]
        known: Any = kind.__struct_fields__
        return _EXPECTED.get(name, "" if name in known or path.count(".") > 1 else offered)

    return describe
