"""An engine's speed of generation on this machine, in the process itself."""

import statistics
import time
from collections.abc import Sequence

from handlers.contract.model_card import Speed
from handlers.language.generation import Generate, Sampling, Token
from handlers.language.scheduling.batching import ContinuousBatching
from training.figures.machine import machine

PROMPT, ANSWER = 128, 64  # tokens
STREAMS = 8  # at once
ROUNDS = 3


def speed(engine: ContinuousBatching, text: Sequence[int], name: str) -> Speed:
    """Measure tokens a second, greedy, of one stream and of eight, and the seconds to one stream's first token.

    Args:
        engine: nobody else uses it.
        text: tokens, more than a prompt; each prompt begins elsewhere in them, so that no cache knows it.

    Returns:
        Medians of three rounds. ``tokens_per_second`` is by the number of streams, from the last first token to the
        first end. A round in which an answer has no token counts as a speed of 0.
    """
    by_streams: dict[int, list[tuple[float, float]]] = {1: [], min(STREAMS, engine.slots): []}
    start = 0
    for number in range(ROUNDS):
        for streams, runs in by_streams.items():
            prompts = [[*text[(start + i) % len(text) :], *text][:PROMPT] for i in range(streams)]
            start += streams
            runs.append(_run(engine, prompts, f"{number}-{streams}"))
    return Speed(
        tokens_per_second={str(n): statistics.median(rate for _, rate in runs) for n, runs in by_streams.items()},
        first_token_seconds=statistics.median(first for first, _ in by_streams[1]),
        prompt_tokens=PROMPT,
        generated_tokens=ANSWER,
        machine=machine(),
        engine=name,
    )


def _run(engine: ContinuousBatching, prompts: Sequence[Sequence[int]], name: str) -> tuple[float, float]:
    """Return the seconds to the first token, and tokens a second while all prompts are answered."""
    times: dict[str, list[float]] = {f"{name}-{i}": [] for i in range(len(prompts))}
    started = time.perf_counter()
    for ident, prompt in zip(times, prompts, strict=True):
        engine.add(Generate(ident, prompt, ANSWER, Sampling(temperature=0)))
    while engine.usage.running or engine.usage.waiting:
        for event in engine.step():
            if isinstance(event, Token):
                times[event.id].append(time.perf_counter())
    if not all(times.values()):  # an answer ended before its first token
        return time.perf_counter() - started, 0.0
    begin, end = max(moments[0] for moments in times.values()), min(moments[-1] for moments in times.values())
    tokens = sum(begin < moment <= end for moments in times.values() for moment in moments)
    return min(moments[0] for moments in times.values()) - started, tokens / (end - begin) if end > begin else 0.0
