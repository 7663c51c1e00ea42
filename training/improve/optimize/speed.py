"""The time of graphs, side by side: in rounds, so that the machine's other work meets all of them alike."""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from handlers.contract import Array
from handlers.engine import Engine
from training.figures.timing import in_turns
from training.recipe import Split
from training.recipe.measured import Measured

SIZES = (1, 64)  # rows: a request alone, and a full batch
ROUNDS = 20
DRAWS = 64  # different batches of each size: texts are not equally long
Batch = Mapping[str, Array]


@dataclass(frozen=True)
class Times:
    """The times of one graph with one size of batch: seconds of each call, ``(rounds, calls)``."""

    size: int
    seconds: Array

    def milliseconds(self, share: float) -> float:
        """Return a quantile of all calls, in ms."""
        return float(1000 * np.quantile(self.seconds, share))

    @property
    def rows_per_second(self) -> float:
        """Throughput of one batch after the other."""
        return float(self.size * self.seconds.size / self.seconds.sum())


def batches(model: Measured, split: Split) -> dict[int, list[Batch]]:
    """Return batches of each size from all over a split, as the handler stacks them."""
    work: dict[int, list[Batch]] = {}
    for size in SIZES:
        starts = np.linspace(0, len(split), DRAWS, endpoint=False, dtype=int)
        rows = [(start + np.arange(size)) % len(split) for start in starts]
        work[size] = [model.batch({name: values[chosen] for name, values in split.inputs.items()}) for chosen in rows]
    return work


def race(
    engines: Mapping[str, Engine],
    work: Mapping[int, Sequence[Batch]],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, dict[int, Times]]:
    """Time every engine on the same batches, in rounds of changing order.

    Args:
        engines: by name; the first determines how many calls fit into the time.
        work: batches by their size.
        seconds: time for each engine and size, if it is as fast as the first.
    """
    first = next(iter(engines.values()))
    calls = {size: _calls(first, rows[0], seconds / ROUNDS, clock) for size, rows in work.items()}

    def turn(engine: Engine, number: int) -> dict[int, list[float]]:
        times = {}
        for size, rows in work.items():
            begin = number * calls[size] % len(rows)
            chosen = itertools.islice(itertools.cycle(rows), begin, begin + calls[size])
            times[size] = _times(engine, list(chosen), clock)
        return times

    rounds = [*in_turns({name: partial(turn, engine) for name, engine in engines.items()}, ROUNDS)]
    return {
        name: {size: Times(size, np.array([times[name][size] for times in rounds])) for size in work}
        for name in engines
    }


def speedup(times: Mapping[int, Times], reference: Mapping[int, Times]) -> tuple[float, float, float]:
    """Return the ratio of the reference's times to these, the geometric mean over all sizes.

    Returns:
        The median over the rounds, and its exact 95 % interval from their order.
    """
    from scipy.stats import quantile_test

    ratios = [np.median(reference[size].seconds, 1) / np.median(times[size].seconds, 1) for size in times]
    rounds = np.exp(np.mean(np.log(ratios), 0))  # (rounds,)
    interval = quantile_test(rounds, p=0.5).confidence_interval(0.95)
    return float(np.median(rounds)), float(interval.low), float(interval.high)


def _calls(engine: Engine, batch: Batch, seconds: float, clock: Callable[[], float]) -> int:
    engine.run(batch)
    typical = statistics.median(_times(engine, [batch] * 5, clock))
    return int(np.clip(seconds / typical, 2, 1000))


def _times(engine: Engine, work: Sequence[Batch], clock: Callable[[], float]) -> list[float]:
    engine.run(work[0])  # the caches were another's
    seconds = []
    for batch in work:
        started = clock()
        engine.run(batch)
        seconds.append(clock() - started)
    return seconds
