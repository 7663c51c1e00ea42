"""Clients that know the answers: they ask while a fault is made, and tell what came of every request."""

import contextlib
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

RIGHT, WRONG, REFUSED, FAILED = "right", "wrong", "refused", "failed"
PAUSE = 0.002  # s between two requests of a client: the fault, not the load, is what is tried


@dataclass(frozen=True)
class Question:
    """A request whose answer is known.

    Attributes:
        path: of the URL.
        body: is sent as JSON.
        answer: of the response's JSON.
    """

    path: str
    body: Any
    answer: Any


@dataclass
class Outcomes:
    """What clients met so far.

    Attributes:
        counts: requests by what came of them: right, wrong, refused (a status of 400 or more) or failed (no response).
        moments: when each right answer came, seconds of ``time.monotonic``, in order.
        examples: the first few that were wrong or refused, and what came instead.
        refused_at: moment of the first refusal; infinite before it.
        lost: when each request that failed was sent.
    """

    counts: Counter[str] = field(default_factory=Counter)
    moments: list[float] = field(default_factory=list)
    examples: list[Any] = field(default_factory=list)
    refused_at: float = math.inf
    lost: list[float] = field(default_factory=list)

    @property
    def longest_gap(self) -> float:
        """Seconds of the longest time without a right answer."""
        return max((later - earlier for earlier, later in zip(self.moments, self.moments[1:], strict=False)), default=0)

    def __str__(self) -> str:
        parts = [f"{self.counts[name]:,} {name}" for name in (RIGHT, WRONG, REFUSED, FAILED)]
        return f"{', '.join(parts)}; longest time without an answer {self.longest_gap:.1f} s"


@contextlib.contextmanager
def clients(url: str, question: Question, count: int = 8, timeout: float = 30) -> Iterator[Outcomes]:
    """Ask from several threads, each in a connection of its own, until the block ends.

    Args:
        url: of the inference port.
        question: is asked again and again.
        count: threads.
        timeout: seconds after which a request counts as failed.
    """
    outcomes, lock, stop = Outcomes(), threading.Lock(), threading.Event()

    def ask_on() -> None:
        with httpx.Client(base_url=url, timeout=timeout, trust_env=False) as client:
            while not stop.wait(PAUSE):
                sent = time.monotonic()
                outcome, response = _ask(client, question)
                with lock:
                    outcomes.counts[outcome] += 1
                    if outcome == REFUSED:
                        outcomes.refused_at = min(outcomes.refused_at, time.monotonic())
                    elif outcome == FAILED:
                        outcomes.lost.append(sent)
                    if outcome == RIGHT:
                        outcomes.moments.append(time.monotonic())
                    elif outcome in (WRONG, REFUSED) and len(outcomes.examples) < 5:
                        outcomes.examples.append(response)

    threads = [threading.Thread(target=ask_on) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _ask(client: httpx.Client, question: Question) -> tuple[str, Mapping[str, Any] | None]:
    try:
        response = client.post(question.path, json=question.body)
    except httpx.TransportError:
        return FAILED, None
    if response.status_code >= 400:
        return REFUSED, {"status": response.status_code, "text": response.text[:200]}
    try:
        answer = response.json()
    except ValueError:
        answer = {"text": response.text}
    return (RIGHT if answer == question.answer else WRONG), answer
