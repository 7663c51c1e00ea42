"""What every run of a bench keeps, and the arithmetic on it: medians over rounds, ratios paired within a round."""

import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import msgspec

T = TypeVar("T")


class Run(msgspec.Struct, kw_only=True):
    """One run of a bench.

    Attributes:
        started: ISO 8601.
        machine: processor, cores, memory, system, Python.
        titles: of each contender, in the tables' order.
        versions: packages of each contender's environment.
        absent: why a contender is missing, or from when on.
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


def spread(rounds: Mapping[int, T], of: Callable[[T], float]) -> Spread | None:
    """The spread of a quantity over the rounds; None without a round."""
    return _spread([of(measured) for measured in rounds.values()])


def ratio(numerator: Mapping[int, T], denominator: Mapping[int, T], of: Callable[[T], float]) -> Spread | None:
    """The spread of the ratio of two contenders, taken within each round; None without a round that both have.

    Within a round the machine is the same for both, so that what slows it for a while falls out.
    """
    shared = numerator.keys() & denominator.keys()
    return _spread([of(numerator[i]) / of(denominator[i]) for i in sorted(shared) if of(denominator[i]) > 0])


def _spread(values: list[float]) -> Spread | None:
    return Spread(statistics.median(values), min(values), max(values)) if values else None
