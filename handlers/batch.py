"""What the handler did with one batch, told to its observers: telemetry, the log of failures, capture."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from handlers.contract import ModelContract
from handlers.formats.codec import Decoded, Outputs
from handlers.message import Request, Response

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Batch:
    """One batch of requests and what came of them.

    Attributes:
        received: seconds since the epoch, when the worker got it.
        decoded: by position, the requests that could be read.
        outputs: what the graph computed, one for each time that it ran: mostly once for the whole batch, more often
            where that has many rows, and once a request where several together failed.
        answered: by position, the graph's outputs of the requests that were answered.
        responses: one a request.
        seconds: spent in each stage, ``decode``, ``predict`` and ``encode``.
    """

    contract: ModelContract
    requests: Sequence[Request]
    received: float
    decoded: dict[int, Decoded] = field(default_factory=dict)
    outputs: list[Outputs] = field(default_factory=list)
    answered: dict[int, Outputs] = field(default_factory=dict)
    responses: list[Response] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of all requests that could be read."""
        return sum(one.rows for one in self.decoded.values())


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
