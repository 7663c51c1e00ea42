"""A batch as its observers get it: telemetry, the log of failures, capture."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import msgspec

from handlers.contract import Array, ModelContract
from handlers.features import FeatureRows, as_tensors
from handlers.message import Request, Response

logger = logging.getLogger(__name__)
Outputs = Mapping[str, Array]


class Accepted(msgspec.Struct, frozen=True):
    """A request that could be read.

    Attributes:
        protocol: the wire format, of a closed set.
        rows: number of rows; 1 for a language model.
    """

    protocol: str
    rows: int


class Decoded(Accepted, frozen=True):
    """A request for a graph, ready to be stacked with others.

    Attributes:
        data: graph tensors, or rows of features that become tensors once they are stacked.
        encode: turns the graph's outputs for these rows into the response.
        sent: the client's values, where ``data`` has others.
    """

    data: FeatureRows | dict[str, Array]
    encode: Callable[[Outputs], Response]
    sent: dict[str, Array] | None = None

    @property
    def tensors(self) -> dict[str, Array]:
        """Graph tensors by input, each with ``rows`` rows."""
        return as_tensors(self.data)


class AnswerText(NamedTuple):
    """A text of a language model's answer, whole.

    Attributes:
        reason: why it ended: ``stop`` or ``length``.
    """

    text: str
    reason: str


class AnsweredConversation(NamedTuple):
    """A conversation whose client allows that it is kept, once it is answered.

    Attributes:
        messages: ``role`` and ``content`` of each, as the model read them.
        answers: one for each text that was asked for.
    """

    messages: Sequence[Mapping[str, str]]
    answers: Sequence[AnswerText]


@dataclass(slots=True)
class Batch:
    """A batch of requests and their answers.

    Attributes:
        received: seconds since the epoch, when the worker got it.
        accepted: the requests that could be read, by position.
        outputs: of each run of the graph: one for the whole batch, more where it has many rows, and one a request
            where a run of several failed.
        answered: the requests that a graph answered, with its outputs for each, by position.
        conversations: those that may be kept, by position.
        responses: one a request.
        seconds: spent in each stage, ``decode``, ``predict`` and ``encode``.
        waited: s that each request waited in its host's queue; empty where the host does not tell.
    """

    contract: ModelContract
    requests: Sequence[Request]
    received: float
    accepted: dict[int, Accepted] = field(default_factory=dict)
    outputs: list[Outputs] = field(default_factory=list)
    answered: dict[int, tuple[Decoded, Outputs]] = field(default_factory=dict)
    conversations: dict[int, AnsweredConversation] = field(default_factory=dict)
    responses: list[Response] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    waited: Sequence[float] = ()

    @property
    def rows(self) -> int:
        """Rows of all requests that could be read."""
        return sum(request.rows for request in self.accepted.values())


Observer = Callable[[Batch], None]


def at_once(show: Callable[[], None]) -> None:
    """Show a batch before its requests are answered."""
    show()


class Observers:
    """Observers of a model; one that fails is logged, and harms no request and no other observer.

    Attributes:
        schedule: calls a function that shows a batch: at once, unless the host has answers sent before.
    """

    def __init__(self, model: str, observers: Sequence[Observer]) -> None:
        self._model, self._observers = model, list(observers)
        self._failures = 0
        self.schedule: Callable[[Callable[[], None]], None] = at_once

    def add(self, *observers: Observer) -> None:
        """Show batches to further observers from now on."""
        self._observers += observers

    def __call__(self, batch: Batch) -> None:
        """Show a batch to each observer."""
        self.schedule(partial(self._show, batch))

    def _show(self, batch: Batch) -> None:
        for observe in self._observers:
            try:
                observe(batch)
            except Exception:
                self._failures += 1
                if str(self._failures).strip("0") == "1":  # 1, 10, 100: one that always fails must not fill the log
                    logger.exception("an observer of %s failed (%d so far)", self._model, self._failures)
