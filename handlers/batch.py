"""What a core did with one batch, told to its observers: telemetry, the log of failures, capture."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from handlers.contract import Array, ModelContract
from handlers.features import FeatureRows, as_tensors
from handlers.message import Request, Response

logger = logging.getLogger(__name__)
Outputs = Mapping[str, Array]


class Accepted(msgspec.Struct, frozen=True):
    """What observers are told of a request that could be read.

    Attributes:
        protocol: the wire format, of a closed set.
        rows: number of rows; 1 of a language model.
    """

    protocol: str
    rows: int


class Decoded(Accepted, frozen=True):
    """A request for a graph, ready to be stacked with others.

    Attributes:
        data: graph tensors, or rows of features that become tensors once they are stacked.
        encode: turns the graph's outputs for these rows into the response.
        sent: what the client sent, where ``data`` no longer tells it.
    """

    data: FeatureRows | dict[str, Array]
    encode: Callable[[Outputs], Response]
    sent: dict[str, Array] | None = None

    @property
    def tensors(self) -> dict[str, Array]:
        """One graph tensor an input, each with ``rows`` rows."""
        return as_tensors(self.data)


@dataclass(slots=True)
class Batch:
    """One batch of requests and what came of them.

    Attributes:
        received: seconds since the epoch, when the worker got it.
        accepted: by position, the requests that could be read.
        outputs: what the graph computed, one for each time that it ran: mostly once for the whole batch, more often
            where that has many rows, and once a request where several together failed.
        answered: by position, the requests that a graph answered, with its outputs for each.
        responses: one a request.
        seconds: spent in each stage, ``decode``, ``predict`` and ``encode``.
    """

    contract: ModelContract
    requests: Sequence[Request]
    received: float
    accepted: dict[int, Accepted] = field(default_factory=dict)
    outputs: list[Outputs] = field(default_factory=list)
    answered: dict[int, tuple[Decoded, Outputs]] = field(default_factory=dict)
    responses: list[Response] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of all requests that could be read."""
        return sum(request.rows for request in self.accepted.values())


Observer = Callable[[Batch], None]


class Observers:
    """Observers of one model, of whom none that fails harms a request or another.

    Args:
        model: its name, for the log.
        observers: told of each batch.
    """

    def __init__(self, model: str, observers: Sequence[Observer]) -> None:
        self._model, self._observers = model, observers
        self._failures = 0

    def __call__(self, batch: Batch) -> None:
        """Tell each of them of a batch."""
        for observe in self._observers:
            try:
                observe(batch)
            except Exception:
                self._failures += 1
                if str(self._failures).strip("0") == "1":  # 1, 10, 100: what always fails must not fill the log
                    logger.exception("an observer of %s failed (%d so far)", self._model, self._failures)
