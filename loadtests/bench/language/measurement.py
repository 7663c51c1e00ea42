"""The measurement: the turn of a contender, in which no cache knows a prompt of an earlier one."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from loadtests.bench.language import results as figures
from loadtests.bench.language import stream
from loadtests.bench.language.answers import Answer, decoding, end_to_end, first_token, gaps, p95
from loadtests.bench.language.contenders import Contender, Started, plain
from loadtests.bench.language.model import Model
from loadtests.bench.language.prompts import NEW, Prompts
from loadtests.bench.language.results import DIRECT, MACHINE, NAMED, OURS, Results, Sample
from loadtests.bench.rounds import Turns

TURN_TIMEOUT = 600.0  # s
# TorchServe's Java compiles its hot code on the engine's cores: one stream alone had 55 tokens a second in the first
# half minute, and 65 to 70 after a minute. Here eight at once make it busy.
WARM_UP = 30.0  # s
SHORT = 8  # tokens of an answer of which only the first matters
TEMPLATE = 8  # most tokens that every conversation begins with
BEGUN = 24  # tokens of each stream when the long prompt comes
SOON = 0.5  # s after a long prompt at which a short one comes, while it is read
STREAMING = 200  # tokens of each stream beside a long prompt
READ = 256 * 2**20  # bytes that each core reads, more than its caches hold
READS = 8  # repetitions; the fastest counts

Measured = Iterator[tuple[str, float]]


class Bench:
    """A run.

    Args:
        prompts: the same in every turn.
        save: called after every turn.
    """

    def __init__(
        self, results: Results, model: Model, prompts: Prompts, say: Callable[[str], None], save: Callable[[], None]
    ) -> None:
        self._results, self._model, self._prompts, self._say, self._save = results, model, prompts, say, save
        self._turns = Turns(results, say, TURN_TIMEOUT, (stream.StreamError,))

    def run(self, contenders: Sequence[Contender]) -> None:
        """Measure in all rounds; a contender that fails is noted as absent, and the others go on."""
        ready = self._turns.prepared(contenders, NAMED)
        for number in range(self._results.rounds):
            self._results.samples.append(Sample(number, MACHINE, figures.BANDWIDTH, read_bandwidth()))
            for contender in ready:
                if contender.name not in self._results.absent:
                    self._say(f"round {number + 1} of {self._results.rounds}: {contender.name}")
                    self._turns.attempt(contender, f"round {number + 1}", partial(self._turn, contender, number))
                    self._save()

    def _turn(self, contender: Contender, number: int) -> None:
        with (
            tempfile.TemporaryDirectory(prefix="mb-", ignore_cleanup_errors=True) as folder,
            contender.start(self._model, Path(folder)) as started,
        ):
            for figure, value in turn(contender, started, self._prompts):
                self._results.samples.append(Sample(number, contender.name, figure, value))
                self._say(f"  {figure}: {value:.4g}")


def read_bandwidth() -> float:
    """Measure the bytes a second that all cores read in sequence: the bound of a token, which needs all weights."""
    cores = len(os.sched_getaffinity(0))
    arrays = [np.ones(READ // 8, np.int64) for _ in range(cores)]
    best = 0.0
    with ThreadPoolExecutor(cores) as threads:
        for _ in range(READS):
            started = time.perf_counter()
            list(threads.map(np.max, arrays))
            best = max(best, READ * cores / (time.perf_counter() - started))
    return best


def turn(contender: Contender, started: Started, prompts: Prompts, warm_up: float = WARM_UP) -> Measured:
    """Measure a contender that was just started, after its warm-up.

    Args:
        prompts: new to the contender.
        warm_up: least seconds; the speed of a server that runs for days is measured, not its start.
    """
    end = time.monotonic() + warm_up
    started.ask(prompts.warm_up, NEW)
    while time.monotonic() < end:
        started.ask(prompts.warm_up, NEW)
    yield from _alone(started, prompts)
    yield from _together(contender, started, prompts)
    if contender.name in (OURS, DIRECT):
        yield from _prefixes(started, prompts)
        for count, long in zip(figures.BESIDE, prompts.long, strict=True):
            yield from _beside(started, prompts.together[:count], long)
        yield from _newcomers(started, prompts)


def _alone(started: Started, prompts: Prompts) -> Measured:
    answers = [cold(started.ask([prompt], NEW))[0] for prompt in prompts.alone]
    yield figures.FIRST, statistics.median(first_token(answer) for answer in answers)
    yield figures.ALONE, statistics.median(decoding([answer]) for answer in answers)
    yield figures.ALONE_END_TO_END, statistics.median(end_to_end([answer]) for answer in answers)
    yield figures.SAME_ALONE, _same(answers, prompts.alone, prompts)


def _together(contender: Contender, started: Started, prompts: Prompts) -> Measured:
    answers = cold(started.ask(prompts.together, NEW))
    yield figures.END_TO_END, end_to_end(answers)
    firsts = [first_token(answer) for answer in answers]
    yield figures.EARLIEST, min(firsts)
    yield figures.LATEST, max(firsts)
    if contender.remembers:
        again = started.ask(prompts.together, NEW)
        yield figures.DECODING, decoding(again)
        yield figures.SAME, min(_same(answers, prompts.together, prompts), _same(again, prompts.together, prompts))
    else:
        yield figures.SAME, _same(answers, prompts.together, prompts)
        if not contender.serial:
            yield figures.DECODING, decoding(answers)
    yield (
        figures.AGREES,
        statistics.mean(
            agreement(answer.text, prompts.expected[prompt])
            for prompt, answer in zip(prompts.together, answers, strict=True)
        ),
    )


def _prefixes(started: Started, prompts: Prompts) -> Measured:
    """Time first tokens of a conversation, of the same one a turn later, and of another with its system prompt."""
    firsts: dict[str, list[float]] = {figures.COLD: [], figures.WARM_TURNS: [], figures.WARM_SYSTEM: []}
    for text in prompts.systems:
        system = {"role": "system", "content": text}
        question = {"role": "user", "content": "What did the engineer write down?"}
        (answer,) = cold(_chat(started, [system, question]))
        firsts[figures.COLD].append(first_token(answer))
        reply = {"role": "assistant", "content": answer.text}
        more = {"role": "user", "content": "And what happened at the market?"}
        firsts[figures.WARM_TURNS].append(first_token(_chat(started, [system, question, reply, more])[0]))
        other = {"role": "user", "content": "Who walked from village to village?"}
        firsts[figures.WARM_SYSTEM].append(first_token(_chat(started, [system, other])[0]))
    for figure, values in firsts.items():
        yield figure, statistics.median(values)


def _chat(started: Started, messages: Sequence[dict[str, str]]) -> list[Answer]:
    body = {**plain("", SHORT), "messages": messages}
    del body["prompt"]
    return stream.ask(started.port, f"{started.path}/chat/completions", [stream.Request(body)])


def _beside(started: Started, prompts: Sequence[str], long: str) -> Measured:
    """Time gaps between the tokens of running streams, before and while a long prompt is read, and its first token."""
    running = [stream.Request(plain(prompt, STREAMING)) for prompt in prompts]
    requests = [*running, stream.Request(plain(long, SHORT), BEGUN)]
    *others, late = cold(stream.ask(started.port, f"{started.path}/completions", requests), last=True)
    count = len(prompts)
    begun = max(answer.times[0] for answer in others)
    yield figures.IDLE_GAP.format(count), statistics.median(gaps(others, begun, late.sent))
    yield figures.BUSY_GAP.format(count), p95(gaps(others, late.sent, late.times[0]))
    yield figures.LATE.format(count), first_token(late)


def _newcomers(started: Started, prompts: Prompts) -> Measured:
    """Time first tokens of short prompts, alone and while a long one is read."""
    alone, beside = [], []
    for long, (first, second) in zip(prompts.longest, prompts.shortest, strict=True):
        path = f"{started.path}/completions"
        alone.append(first_token(*cold(stream.ask(started.port, path, [stream.Request(plain(first, SHORT))]))))
        requests = [stream.Request(plain(long, SHORT)), stream.Request(plain(second, SHORT), delay=SOON)]
        beside.append(first_token(cold(stream.ask(started.port, path, requests))[1]))
    yield figures.NEWCOMER_ALONE, statistics.median(alone)
    yield figures.NEWCOMER, statistics.median(beside)


def cold(answers: list[Answer], last: bool = False) -> list[Answer]:
    """Return the answers if no cache knew their prompts.

    Raises:
        ValueError: a cache knew more of one than the beginning of a template.
    """
    warm = next((answer for answer in answers[-1 if last else 0 :] if (answer.cached or 0) > TEMPLATE), None)
    if warm:
        raise ValueError(f"{warm.cached} of a cold prompt's {warm.prompt} tokens were known from before")
    return answers


def agreement(text: str, expected: str) -> float:
    """Return the share of a text up to its first difference."""
    shared = next((i for i, (a, b) in enumerate(zip(text, expected, strict=False)) if a != b), len(expected))
    return shared / len(expected)


def _same(answers: Sequence[Answer], questions: Sequence[str], prompts: Prompts) -> float:
    pairs = zip(questions, answers, strict=True)
    return statistics.mean(answer.text == prompts.expected[question] for question, answer in pairs)
