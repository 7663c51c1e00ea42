"""The common results of benches, and their arithmetic: medians over rounds, ratios paired within a round."""

import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import msgspec

T = TypeVar("T")


class Run(msgspec.Struct, kw_only=True):
    """A run of a bench.

    Attributes:
        started: ISO 8601.
        machine: processor, cores, memory, system, Python.
        titles: titles by contender, in the tables' order.
        versions: packages of each contender's environment.
        absent: reasons by contender that is missing, or is from some round on.
    """

    started: str
    machine: dict[str, str]
    titles: dict[str, str]
    versions: dict[str, list[str]] = {}
    absent: dict[str, str] = {}


class Spread(NamedTuple):
    """A median over rounds with the smallest and the largest value."""

    median: float
    low: float
    high: float


def spread(rounds: Mapping[int, T], quantity: Callable[[T], float]) -> Spread | None:
    """Return the spread of a quantity over the rounds; None without a round."""
    return _spread([quantity(measured) for measured in rounds.values()])


def ratio(numerator: Mapping[int, T], denominator: Mapping[int, T], quantity: Callable[[T], float]) -> Spread | None:
    """Return the spread of the ratio of two contenders, paired within each round; None without a common round.

    Within a round the machine is the same for both, so that a slow phase of it cancels out.
    """
    shared = sorted(numerator.keys() & denominator.keys())
    pairs = [(quantity(numerator[i]), quantity(denominator[i])) for i in shared]
    return _spread([above / below for above, below in pairs if below > 0])


def _spread(values: list[float]) -> Spread | None:
    return Spread(statistics.median(values), min(values), max(values)) if values else None
