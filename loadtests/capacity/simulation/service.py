"""The time that a worker takes for a batch."""

import random

import msgspec


class Service(msgspec.Struct, frozen=True):
    """The time that a worker takes for a batch of ``n`` requests: ``batch_seconds + n · request_seconds``.

    Attributes:
        batch_seconds: of each batch, whatever its size.
        request_seconds: of each request, its part of HTTP included.
        variation: coefficient of variation of a batch's time, which is drawn from a gamma distribution; 0 is constant,
            1 exponential.
    """

    batch_seconds: float
    request_seconds: float
    variation: float = 0.0

    def seconds(self, requests: int, chance: random.Random) -> float:
        """Draw the seconds of a batch."""
        mean = self.batch_seconds + requests * self.request_seconds
        if not self.variation:
            return mean
        shape = self.variation**-2
        return chance.gammavariate(shape, mean / shape)

    def capacity(self, requests: int) -> float:
        """Return the requests a second of a worker that is never idle, in batches of so many."""
        return requests / (self.batch_seconds + requests * self.request_seconds)
