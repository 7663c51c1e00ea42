"""Times of several engines, measured in turn, so that the machine's other work meets all of them alike."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeVar

T = TypeVar("T")


def in_turns(calls: Mapping[str, Callable[[int], T]], rounds: int) -> Iterator[dict[str, T]]:
    """Call each once a round, with the round's number; yield the returned values by name.

    The order turns about from round to round, so that none always finds what another left in the caches.
    """
    names = [*calls]
    for number in range(rounds):
        yield {name: calls[name](number) for name in (names[::-1] if number % 2 else names)}


def medians(
    calls: Mapping[str, Callable[[], object]],
    rounds: int = 20,
    seconds: float = 0.05,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Measure the median time of one call of each, in seconds.

    Args:
        seconds: length of one turn; it holds at least one call.
    """

    def turn(call: Callable[[], object], _: int) -> list[float]:
        times: list[float] = []
        end = clock() + seconds
        while not times or clock() < end:
            started = clock()
            call()
            times.append(clock() - started)
        return times

    for call in calls.values():
        call()  # the first one warms up
    measured = [*in_turns({name: partial(turn, call) for name, call in calls.items()}, rounds)]
    return {name: statistics.median(value for times in measured for value in times[name]) for name in calls}
