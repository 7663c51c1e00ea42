"""Parse requests for text: OpenAI's chat completions and completions, and the native form.

What ``forms`` lacks is refused, unless its value is neutral (``neutral``). ``model`` and ``user`` may be anything: the
URL names the model, and ``model`` at most one of its adapters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from handlers import json_io
from handlers.language.api.conversations import conversation, plain, text_of, with_system
from handlers.language.api.forms import (
    MOST_ANSWERS,
    ChatRequest,
    CompletionRequest,
    NativeRequest,
    OpenAI,
    Parameters,
    TokenizeRequest,
    describe,
)
from handlers.language.api.neutral import CHAT, COMPLETION, members_of
from handlers.language.generation import Sampling
from handlers.language.structured.constraints import constraint_of
from handlers.language.structured.tools import Choice, Tool, held_to, offered, told
from handlers.message import InputError

Kind = Literal["chat", "completion", "response", "native"]
Prompt = str | Sequence[int] | Sequence[Mapping[str, str]]
MOST_STOPS = 32  # OpenAI takes 4, vLLM any number; tasks of lm-eval have up to a dozen
MOST_BIASES = 300  # as OpenAI
DEFAULTED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")  # for which a model may have defaults
_PATHS = {"chat": "$.messages", "response": "$.input"}  # of a conversation, by the kind of its request


@dataclass(frozen=True)
class TextRequest:
    """A request for text.

    Attributes:
        kind: form of the request and of its answer.
        prompts: each a text, its tokens, or ``role`` and ``content`` of each message.
        max_tokens: None for all that the context has room for.
        stop: strings that end the answer.
        sampling: parameters of the choice of tokens.
        stream: whether each token is sent at once.
        include_usage: whether a stream ends with the numbers of tokens.
        tools: whether the answer may call some.
        n: answers to each prompt.
        echo: whether an answer begins with its prompt.
        prediction: a text of which the answer probably has much; empty for none.
        store: whether the client allows that the conversation is kept.
        model: named by the body; empty where it names none.
        goes_on: whether the answer goes on with the conversation's last message.
        unset: parameters of the choice of tokens that the client left out, of those that a model may have defaults for.
    """

    kind: Kind
    prompts: Sequence[Prompt]
    max_tokens: int | None
    stop: Sequence[str]
    sampling: Sampling
    stream: bool = False
    include_usage: bool = False
    tools: bool = False
    n: int = 1
    echo: bool = False
    prediction: str = ""
    store: bool = False
    model: str = ""
    goes_on: bool = False
    unset: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def scored(self) -> bool:
        """Whether the prompts' tokens have log-probabilities, too."""
        return self.echo and (self.sampling.logprobs is not None or self.max_tokens == 0)

    def path(self, prompt: int = 0) -> str:
        """Return the JSON path of a prompt."""
        if self.kind in _PATHS:
            return _PATHS[self.kind]
        return f"$.prompt[{prompt}]" if len(self.prompts) > 1 else "$.prompt"


_NATIVE = msgspec.json.Decoder(NativeRequest)


def native(body: bytes) -> TextRequest:
    """Parse ``{"prompt": "…"}`` with parameters.

    Raises:
        InputError: the body has another form, or a parameter that is unknown or out of its range.
    """
    parameters = json_io.decode_strictly(_NATIVE, body, describe(NativeRequest))
    return TextRequest(
        "native",
        [parameters.prompt],
        parameters.max_tokens,
        _stops(parameters),
        _sampling(parameters, None),
        unset=unset(parameters),
    )


def completion(body: bytes) -> TextRequest:
    """Parse a body of "Create completion".

    Raises:
        InputError: the body has another form, or a parameter that is unknown or out of its range.
    """
    parameters = json_io.convert(members_of(body, COMPLETION), CompletionRequest, describe(CompletionRequest))
    prompts = _prompts(parameters.prompt)
    max_tokens = 16 if parameters.max_tokens is None else parameters.max_tokens  # the API's default
    if not (max_tokens or parameters.echo):
        raise InputError("out_of_range", "max_tokens is 0 without echo", "$.max_tokens", ">= 1, or echo: true")
    sampling = _sampling(parameters, None if parameters.logprobs is False else parameters.logprobs)
    return TextRequest(
        "completion",
        prompts,
        max_tokens,
        _stops(parameters),
        sampling,
        bool(parameters.stream),
        _with_usage(parameters),
        n=_answers(parameters, len(prompts)),
        echo=bool(parameters.echo),
        model=parameters.model or "",
        unset=unset(parameters),
    )


def chat(body: bytes) -> TextRequest:
    """Parse a body of "Create chat completion".

    Raises:
        InputError: the body has another form, or a parameter that is unknown or out of its range.
    """
    members = plain(members_of(body, CHAT))
    parameters = json_io.convert(members, ChatRequest, describe(ChatRequest))
    if not parameters.messages:
        raise InputError("empty", "there are no messages", "$.messages", "at least one message")
    if parameters.top_logprobs and not parameters.logprobs:
        raise InputError(
            "invalid_parameter", "top_logprobs is given without logprobs", "$.top_logprobs", "logprobs: true"
        )
    sampling = _sampling(parameters, (parameters.top_logprobs or 0) if parameters.logprobs else None)
    messages = conversation(parameters.messages)
    tools = offered(parameters.tools or [], parameters.tool_choice)
    if tools:
        parallel = parameters.parallel_tool_calls is not False
        messages, sampling = with_tools(messages, sampling, tools, parameters.tool_choice, parallel)
    continues = goes_on(parameters, messages)
    if continues and sampling.constraint:
        message = "an answer that is held to a form, or may call tools, begins with itself"
        raise InputError("invalid_parameter", message, "$.continue_final_message", "neither a format nor tools")
    return TextRequest(
        "chat",
        [messages],
        _max_tokens(parameters),
        _stops(parameters),
        sampling,
        bool(parameters.stream),
        _with_usage(parameters),
        bool(tools),
        _answers(parameters, 1),
        prediction=text_of(parameters.prediction.content) if parameters.prediction else "",
        store=parameters.store is True,
        model=parameters.model or "",
        goes_on=continues,
        unset=unset(parameters),
    )


def goes_on(parameters: ChatRequest | TokenizeRequest, messages: Sequence[Mapping[str, str]]) -> bool:
    """Return whether an answer goes on with the last message of a conversation, as vLLM's parameters say.

    Raises:
        InputError: they contradict each other, or the last message is none of the assistant.
    """
    if not parameters.continue_final_message:
        if parameters.add_generation_prompt is False:
            message = "without the beginning of an answer the conversation must end with one"
            expected = "continue_final_message: true beside it"
            raise InputError("unsupported_value", message, "$.add_generation_prompt", expected)
        return False
    if parameters.add_generation_prompt:
        message = "the answer either begins anew or goes on with the last message"
        raise InputError("invalid_parameter", message, "$.continue_final_message", "one of the two")
    if messages[-1]["role"] != "assistant":
        message = f"the last message is of the role {messages[-1]['role']}"
        raise InputError("invalid_parameter", message, "$.continue_final_message", "a last message of the assistant")
    return True


def unset(parameters: msgspec.Struct) -> frozenset[str]:
    """Return the parameters in ``DEFAULTED`` that a body leaves out."""
    return frozenset(name for name in DEFAULTED if getattr(parameters, name, None) is None)


def with_tools(
    messages: list[dict[str, str]], sampling: Sampling, tools: Sequence[Tool], choice: Choice | None, parallel: bool
) -> tuple[list[dict[str, str]], Sampling]:
    """Return a conversation that tells of tools, and the sampling that holds its answer to them.

    Args:
        tools: that may be called, at least one.
        parallel: whether there may be several calls.

    Raises:
        InputError: the answer is held to something else already, or the tools are too long.
    """
    if sampling.constraint:
        raise InputError("invalid_parameter", "the answer is held to two things", "$.tools", "tools or a format")
    sampling = replace(sampling, constraint=held_to(tools, choice, parallel))
    return with_system(messages, told(tools)), sampling


def _prompts(given: str | list[str | int | list[int]]) -> list[Prompt]:
    """Return the prompts of a completion: one text or list of tokens, or several of them."""
    if isinstance(given, str):
        return [given]
    if not given:
        raise InputError("empty", "there is no prompt", "$.prompt", "a text, tokens, or a list of them")
    tokens = [one for one in given if isinstance(one, int)]
    if len(tokens) == len(given):
        return [tokens]
    if tokens:
        raise InputError("wrong_type", "prompts and tokens are mixed", "$.prompt", "prompts, or the tokens of one")
    return [one for one in given if not isinstance(one, int)]


def _answers(parameters: OpenAI, prompts: int) -> int:
    """Return the number of answers to each prompt."""
    n = parameters.n or 1
    if n * prompts > MOST_ANSWERS:
        message = f"{prompts} prompts with {n} answers each are {n * prompts} answers"
        raise InputError("out_of_range", message, "$.n" if n > 1 else "$.prompt", f"at most {MOST_ANSWERS}")
    return n


def _max_tokens(parameters: ChatRequest) -> int | None:
    old, new = parameters.max_tokens, parameters.max_completion_tokens
    if old is not None and new is not None and old != new:
        message = f"max_tokens is {old}, max_completion_tokens {new}"
        raise InputError("invalid_parameter", message, "$.max_completion_tokens", "one of them")
    return new if old is None else old


def _with_usage(parameters: OpenAI) -> bool:
    if parameters.stream_options and parameters.stream_options.include_usage and not parameters.stream:
        raise InputError(
            "invalid_parameter", "stream_options is given without stream", "$.stream_options", "stream: true"
        )
    return bool(parameters.stream_options and parameters.stream_options.include_usage)


def _stops(parameters: Parameters) -> list[str]:
    stops = [parameters.stop] if isinstance(parameters.stop, str) else parameters.stop or []
    if len(stops) > MOST_STOPS:
        raise InputError("out_of_range", f"there are {len(stops)} stops", "$.stop", f"at most {MOST_STOPS}")
    if "" in stops:
        raise InputError("empty", "a stop is empty", "$.stop", "strings of at least one character")
    return stops


def _sampling(parameters: Parameters, logprobs: int | None) -> Sampling:
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
