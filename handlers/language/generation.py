"""Requests to a language model's engine and its answers, the same for every engine."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple


class PromptTooLong(ValueError):
    """A prompt leaves no room for an answer."""


class QueueFull(RuntimeError):
    """Every slot is taken and the queue is full: try again later."""


class ConstraintError(ValueError):
    """No answer can be held to a constraint; the message says why."""


@dataclass(frozen=True)
class Constraint:
    """What an answer is held to; one that ends before it is whole is cut off.

    Args:
        kind: of the text: a JSON schema, a regular expression, a JSON list of strings, or a grammar of
            llguidance's.
        path: JSON path in the request.
    """

    kind: Literal["json_schema", "regex", "choice", "lark"]
    text: str
    path: str = field(default="$.response_format", compare=False)


@dataclass(frozen=True)
class Sampling:
    """Parameters of the choice of a token, in the terms of OpenAI's API.

    Args:
        temperature: 0 takes the likeliest token; 1 samples the model's own distribution.
        top_p: samples among the likeliest tokens that together have this probability, in [0, 1]; 0 for the first.
        top_k: samples among this number of the likeliest tokens; 0 for all.
        min_p: samples among tokens with this share of the likeliest one's probability (arXiv:2407.01082); 0 for all.
        presence_penalty: subtracted from the logit of each token that was generated before.
        frequency_penalty: subtracted once more for each time that the token was generated.
        repetition_penalty: divides the positive logit of each token of the prompt and the answer, and multiplies a
            negative one (arXiv:1909.05858); 1 for none.
        logit_bias: pairs of a token and what is added to its logit.
        ignore_eos: whether the answer goes on after the model's own end, up to ``max_tokens``.
        seed: makes the choices repeatable, whatever else runs in the batch; None for new ones each time.
        logprobs: number of alternatives with each token; None for no log-probabilities at all.
        constraint: None for free text.

    Raises:
        ValueError: a parameter is out of its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logprobs: int | None = None
    constraint: Constraint | None = None
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0 <= self.temperature < math.inf, "0 or more")
        _check("top_p", self.top_p, 0 <= self.top_p <= 1, "from 0 to 1")
        _check("top_k", self.top_k, self.top_k >= 0, "0 (all) or more")
        _check("presence_penalty", self.presence_penalty, math.isfinite(self.presence_penalty), "a finite number")
        _check("frequency_penalty", self.frequency_penalty, math.isfinite(self.frequency_penalty), "a finite number")
        _check("min_p", self.min_p, 0 <= self.min_p <= 1, "from 0 to 1")
        _check("repetition_penalty", self.repetition_penalty, 0 < self.repetition_penalty < math.inf, "over 0")
        _check("logprobs", self.logprobs, self.logprobs is None or self.logprobs >= 0, "0 or more, or none")


def _check(name: str, value: float | None, fits: bool, expected: str) -> None:
    if not fits:
        raise ValueError(f"{name} is {value}; it must be {expected}")


@dataclass(frozen=True)
class Generate:
    """A request to an engine.

    Args:
        id: names the request in its answers; unique among the waiting and running ones.
        prompt: tokens, at least one.
        max_tokens: most tokens of the answer, at least one, or none where the prompt is scored; fewer where the context
            ends before.
        sampling: parameters of the choice of tokens.
        scored: whether the log-probabilities of the prompt's tokens are wanted: none of it comes from a cache then.
        prediction: tokens that the answer probably begins with; it is the same without them.
        adapter: name of the one that answers; empty for the model alone.
    """

    id: str
    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    scored: bool = False
    prediction: Sequence[int] = ()
    adapter: str = ""


class Drafts(NamedTuple):
    """The tokens of an answer that were drafted, and those of them that the model chose, too."""

    drafted: int
    accepted: int


NO_DRAFTS = Drafts(0, 0)


@dataclass(frozen=True)
class Token:
    """A generated token.

    Args:
        id: of the request.
        token: number in the vocabulary.
        piece: bytes, which may end inside a character of UTF-8.
        logprob: natural logarithm of the probability before temperature and penalties, where the request wants it.
        top: the likeliest tokens with their bytes and log-probabilities, likeliest first.
        cached_tokens: tokens of the request's prompt that the cache held.
        drafts: of the answer up to this token; those after it in the same step count as drafted.
    """

    id: str
    token: int
    piece: bytes
    logprob: float | None = None
    top: tuple[tuple[int, bytes, float], ...] = ()
    cached_tokens: int = 0
    drafts: Drafts = NO_DRAFTS


@dataclass(frozen=True)
class Scored:
    """The tokens of a prompt with their log-probabilities, of which the first has none."""

    id: str
    tokens: Sequence[Token]


@dataclass(frozen=True)
class Finished:
    """The end of a request's answer.

    Args:
        id: of the request.
        reason: ``stop`` at the model's own end, ``length`` at ``max_tokens`` or the end of the context.
        error: the failure, where the reason is ``error``.
        prompt_tokens: tokens of the prompt.
        cached_tokens: tokens of the prompt that the cache held.
        generated_tokens: tokens of the answer.
        drafts: of the answer.
        end: the token by which the model ended it, where the request wants log-probabilities.
    """

    id: str
    reason: Literal["stop", "length", "error"]
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    error: str = ""
    drafts: Drafts = NO_DRAFTS
    end: Token | None = None


@dataclass(frozen=True)
class Usage:
    """Load of an engine.

    Args:
        running: requests that have a slot.
        waiting: requests that have none.
        kv_used: cells (tokens) of the cache that running ones hold.
        kv_total: cells of the cache.
        preemptions: times that a request had to give up its slot, since the start.
    """

    running: int
    waiting: int
    kv_used: int
    kv_total: int
    preemptions: int = 0
