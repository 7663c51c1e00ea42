"""What a language model's engine is asked and what it answers, whichever engine it is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol


class PromptTooLong(ValueError):
    """A prompt leaves no room for an answer."""


class QueueFull(RuntimeError):
    """Every slot is taken and so many requests wait that one more is not accepted: try again later."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, in the terms of OpenAI's API.

    Args:
        temperature: 0 takes the likeliest token; 1 draws from the model's own distribution.
        top_p: draws among the likeliest tokens that together have this probability, in (0, 1].
        top_k: draws among so many of the likeliest tokens; 0 for all.
        presence_penalty: taken off the logit of each token that was generated before.
        frequency_penalty: taken off it once more for each time that it was.
        seed: makes the draws repeatable, whatever else runs in the batch; None for new ones each time.
        logprobs: how many alternatives come with each token; None for no log-probabilities at all.
        json: the answer is held to one JSON object; where it ends before that is closed, it is cut off.

    Raises:
        ValueError: one of them is out of its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logprobs: int | None = None
    json: bool = False

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0 <= self.temperature < math.inf, "0 or more")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "over 0 and at most 1")
        _check("top_k", self.top_k, self.top_k >= 0, "0 (all) or more")
        _check("presence_penalty", self.presence_penalty, math.isfinite(self.presence_penalty), "a finite number")
        _check("frequency_penalty", self.frequency_penalty, math.isfinite(self.frequency_penalty), "a finite number")
        _check("logprobs", self.logprobs, self.logprobs is None or self.logprobs >= 0, "0 or more, or none")


def _check(name: str, value: float | None, fits: bool, right: str) -> None:
    if not fits:
        raise ValueError(f"{name} is {value}; it must be {right}")


@dataclass(frozen=True)
class Generate:
    """A request.

    Args:
        id: names it in the answers; no other request that waits or runs has it.
        prompt: tokens, at least one.
        max_tokens: that are generated at most, at least one; fewer where the context ends before.
        sampling: how they are chosen.
    """

    id: str
    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class Token:
    """A generated token.

    Args:
        id: of the request.
        token: its number in the vocabulary.
        piece: its bytes, which may end inside a character of UTF-8.
        logprob: natural logarithm of its probability before temperature and penalties, where asked for.
        top: the likeliest tokens, their bytes and log-probabilities, likeliest first, as many as asked for.
        cached_tokens: of the request's prompt, how many were known from before and cost nothing.
    """

    id: str
    token: int
    piece: bytes
    logprob: float | None = None
    top: tuple[tuple[int, bytes, float], ...] = ()
    cached_tokens: int = 0


@dataclass(frozen=True)
class Finished:
    """The last of a request's answers.

    Args:
        id: of the request.
        reason: ``stop`` at the model's own end, ``length`` at ``max_tokens`` or the end of the context.
        error: what went wrong, where the reason is ``error``.
        prompt_tokens: of the request.
        cached_tokens: of them, how many were known from before and cost nothing.
        generated_tokens: that were given out.
    """

    id: str
    reason: Literal["stop", "length", "error"]
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    error: str = ""


@dataclass(frozen=True)
class Usage:
    """How full an engine is: requests that run and wait, and the cells (tokens) of the cache that running ones hold."""

    running: int
    waiting: int
    kv_used: int
    kv_total: int


class GenerationEngine(Protocol):
    """Generates for several requests at once; they join and leave at every step. For one thread.

    Attributes:
        context: tokens that a request may have, prompt and answer.
        slots: requests that run at once.
    """

    context: int
    slots: int

    def tokenize(self, text: str, special: bool) -> list[int]:
        """Split text into tokens.

        Args:
            text: valid Unicode.
            special: the names of control tokens in the text, such as ``<|im_start|>``, are these tokens. Only for a
                template: what a user wrote must not forge a turn of the conversation.
        """

    def add(self, request: Generate) -> None:
        """Let a request wait for a slot; first come, first served.

        Raises:
            PromptTooLong: it does not fit the context.
            QueueFull: too many wait.
            ValueError: it is empty, or has an id that is in use.
        """

    def cancel(self, id: str) -> None:
        """Forget a request and free its slot at once, without another answer; an unknown id is ignored."""

    def step(self) -> list[Token | Finished]:
        """Advance every running request by a token, and one that starts by a part of its prompt; empty when idle."""

    @property
    def usage(self) -> Usage:
        """How full it is now."""

    def close(self) -> None:
        """Free its memory; it is of no use after."""
