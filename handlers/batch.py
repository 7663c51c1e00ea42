"""What the handler did with one batch, told to its observers: telemetry, the log of failures, capture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from handlers.codec import Decoded, Outputs
from handlers.contract import ModelContract
from handlers.message import Request, Response


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
