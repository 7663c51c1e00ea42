"""What came of a prompt and when, whoever generated it, and the rates in it."""

import statistics
from collections.abc import Callable, Sequence

import msgspec


class Task(msgspec.Struct, frozen=True):
    """What a program that generates without a server is asked."""

    prompts: Sequence[str]
    max_tokens: int


class Answer(msgspec.Struct, frozen=True):
    """A generated text.

    Attributes:
        text: of the answer alone.
        times: seconds from the moment that the first of the prompts was sent until each token was there.
        sent: when this prompt was.
        prompt: its tokens, where told.
        cached: of them, how many were known from before, where told.
    """

    text: str
    times: list[float]
    sent: float = 0.0
    prompt: int | None = None
    cached: int | None = None


# Sends prompts at once and waits for the answers; the second argument is how many tokens each has at most.
Ask = Callable[[Sequence[str], int], list[Answer]]


def first_token(answer: Answer) -> float:
    """Return the seconds from the prompt to its first token."""
    return answer.times[0] - answer.sent


def decoding(answers: Sequence[Answer]) -> float:
    """Tokens a second of all while each is being generated: from the last one's first token to the first one's last.

    Raises:
        ValueError: there is no such time.
    """
    start = max(answer.times[0] for answer in answers)
    end = min(answer.times[-1] for answer in answers)
    if end <= start:
        raise ValueError(f"one of {len(answers)} answers was complete before another began")
    return sum(start < moment <= end for answer in answers for moment in answer.times) / (end - start)


def end_to_end(answers: Sequence[Answer]) -> float:
    """Generated tokens a second of all, prompts included in the time."""
    return sum(len(answer.times) for answer in answers) / max(answer.times[-1] for answer in answers)


def gaps(answers: Sequence[Answer], start: float, end: float) -> list[float]:
    """Seconds between each two tokens of an answer of which the later one came after ``start`` and until ``end``."""
    pairs = [pair for answer in answers for pair in zip(answer.times, answer.times[1:], strict=False)]
    return [later - former for former, later in pairs if start < later <= end]


def p95(values: Sequence[float]) -> float:
    """Return the 95th percentile."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]
