"""The answers of any contender with the times of their tokens, and rates computed from them."""

import statistics
from collections.abc import Callable, Sequence

import msgspec


class Task(msgspec.Struct, frozen=True):
    """A task for a program that generates without a server."""

    prompts: Sequence[str]
    max_tokens: int


class Answer(msgspec.Struct, frozen=True):
    """A generated text.

    Attributes:
        text: without the prompt.
        times: seconds from the sending of the first prompt to each token.
        sent: seconds from the sending of the first prompt to that of this one.
        prompt: number of the prompt's tokens, if reported.
        cached: how many of them a cache knew, if reported.
    """

    text: str
    times: list[float]
    sent: float = 0.0
    prompt: int | None = None
    cached: int | None = None


# Sends prompts at once and waits for the answers; the second argument is the most tokens of each.
Ask = Callable[[Sequence[str], int], list[Answer]]


def first_token(answer: Answer) -> float:
    """Return the seconds from the prompt to its first token."""
    return answer.times[0] - answer.sent


def decoding(answers: Sequence[Answer]) -> float:
    """Return tokens a second of all answers from the last one's first token to the first one's last.

    Raises:
        ValueError: an answer was complete before another began.
    """
    start = max(answer.times[0] for answer in answers)
    end = min(answer.times[-1] for answer in answers)
    if end <= start:
        raise ValueError(f"one of {len(answers)} answers was complete before another began")
    return sum(start < moment <= end for answer in answers for moment in answer.times) / (end - start)


def end_to_end(answers: Sequence[Answer]) -> float:
    """Return the generated tokens a second of all answers, prompts included in the time."""
    return sum(len(answer.times) for answer in answers) / max(answer.times[-1] for answer in answers)


def gaps(answers: Sequence[Answer], start: float, end: float) -> list[float]:
    """Return the seconds between successive tokens, where the later one came after ``start`` and until ``end``."""
    pairs = [pair for answer in answers for pair in zip(answer.times, answer.times[1:], strict=False)]
    return [later - former for former, later in pairs if start < later <= end]


def p95(values: Sequence[float]) -> float:
    """Return the 95th percentile."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]
