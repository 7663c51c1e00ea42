"""Times of several engines, measured in turn, so that whatever else the machine does meets all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping


def medians(
    calls: Mapping[str, Callable[[], object]],
    rounds: int = 20,
    seconds: float = 0.05,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """The median time of one call of each, in seconds.

    Args:
        calls: what is measured, by name.
        rounds: turns of each.
        seconds: of one turn; it holds at least one call.
        clock: tells the time in seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # the first one warms up
    for _ in range(rounds):
        for name, call in calls.items():
            end = clock() + seconds
            while True:
                started = clock()
                call()
                stopped = clock()
                times[name].append(stopped - started)
                if stopped >= end:
                    break
    return {name: statistics.median(values) for name, values in times.items()}
