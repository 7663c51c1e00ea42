"""What one worker does under a rate, by simulation, and beside it what a real one did."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import uvloop
from msgspec.structs import replace

from loadtests.capacity.alone import Alone
from loadtests.capacity.costs import Costs, CostsError
from loadtests.capacity.requests import payload_of_rows, target
from loadtests.capacity.simulation.autoscaler import Autoscaling
from loadtests.capacity.simulation.fleet import simulate
from loadtests.capacity.simulation.results import Run
from loadtests.capacity.simulation.scenario import Scenario
from loadtests.capacity.simulation.traffic import Traffic
from loadtests.open_loop import Client

REQUESTS = 20_000  # of a simulated rate
WARM_UP = 0.1  # share of the time that is not counted
REFUSED = 0.001  # share of the requests above which a rate is too high
SHARES = (0.2, 0.4, 0.6, 0.8, 0.9)  # of the peak of a closed loop
CLIENTS = 16
IN_TURN = 200  # requests that measure a client alone
ROUNDS = 3


class Comparison(msgspec.Struct, frozen=True):
    """A rate, measured and predicted.

    Attributes:
        rate: requests a second.
        measured: p50 and p99 in s.
        predicted: p50 and p99 in s.
        lost: share of the requests without a good answer; likewise ``predicted_lost``.
        late: s by which the client was behind at the end: then what was measured is its own.
    """

    rate: float
    measured: tuple[float, float]
    predicted: tuple[float, float]
    lost: float
    predicted_lost: float
    late: float

    @property
    def errors(self) -> tuple[float, float]:
        """Relative errors of the predicted p50 and p99."""
        p50, p99 = (told / seen - 1 for told, seen in zip(self.predicted, self.measured, strict=True))
        return p50, p99


class Found(NamedTuple):
    """A real worker beside its prediction.

    Attributes:
        peak: share that it reached of what its CPU time allows.
    """

    peak: float
    rates: list[Comparison]


def one_worker(costs: Costs, rate: float, seed: int = 0) -> Run:
    """Simulate one worker under a constant rate of independent requests."""
    seconds = REQUESTS / rate
    return simulate(
        Scenario(
            service=costs.service,
            traffic=Traffic(rate),
            autoscaling=Autoscaling(1, 1),
            seconds=seconds,
            warm_up=WARM_UP * seconds,
            size=costs.size,
            network=costs.network,
            interval=seconds,
        ),
        seed,
    )


def p99_of(costs: Costs) -> Callable[[float], float]:
    """Return the function from a rate to the p99 of one worker in s; infinite where too many are refused."""

    def p99(rate: float) -> float:
        run = one_worker(costs, rate)
        return run.p99 if run.refused <= REFUSED * run.requests else math.inf

    return p99


def compare(alone: Alone, costs: Costs, seconds: float, say: Callable[[str], None]) -> Found:
    """Ask a real worker at several rates, at random times, and predict the same.

    The speed of the machine is that of now, by the peak of a closed loop; what is compared is the course from there.
    Of several rounds of a rate the one with the least p99 counts, in which others disturbed it least.

    Args:
        costs: measured with as many rows a request.
        seconds: of each rate.

    Raises:
        CostsError: the worker does not answer.
    """
    payload = payload_of_rows(alone.contract, costs.rows)
    host, port, request = target(alone.contract, payload, alone.url, {})

    async def run() -> Found:
        with contextlib.closing(Client(host, port, request)) as client:
            response, client.expected = await client.ask()
            if response.status != 200:
                raise CostsError(f"the worker answers {response.status}: {client.expected[:300]!r}")
            alone = float(np.median([answer.seconds for answer in await client.in_turn(IN_TURN)]))
            answers = await client.closed(CLIENTS, seconds)
            peak = sum(answer.right for answer in answers) / seconds
            today = slowed(costs, peak, alone)
            share = costs.request_seconds / today.request_seconds
            say(f"{CLIENTS} clients get {peak:,.0f} answers a second, {share:.0%} of what the CPU time allows")
            rates = [part * peak for part in SHARES]
            rounds = [[await _ask(client, rate, seconds, seed) for rate in rates] for seed in range(ROUNDS)]
            best = [min(same, key=lambda asked: asked.p99) for same in zip(*rounds, strict=True)]
            return Found(share, [_beside(today, rate, asked) for rate, asked in zip(rates, best, strict=True)])

    return uvloop.run(run())


def slowed(costs: Costs, peak: float, alone: float) -> Costs:
    """Return the costs as they are while others use the machine, too: a batch takes longer than its CPU time.

    Args:
        peak: answers a second that ``CLIENTS`` clients get, each of which waits for its answer.
        alone: s that one client waits.
    """
    factor = costs.service.capacity(CLIENTS) / peak
    return replace(
        costs,
        batch_seconds=factor * costs.batch_seconds,
        request_seconds=factor * costs.request_seconds,
        alone=alone,
    )


class Asked(NamedTuple):
    """What a real worker did at a rate; times in s, ``lost`` as a share of the requests."""

    p50: float
    p99: float
    lost: float
    late: float


async def _ask(client: Client, rate: float, seconds: float, seed: int) -> Asked:
    times = list(Traffic(rate).arrivals(seconds, np.random.default_rng(seed)))
    loop = asyncio.get_running_loop()
    started = loop.time()
    tasks = await client.at(times)
    late = max(0.0, loop.time() - started - times[-1])
    responses = [(await task)[0] for task in tasks]
    answered = [response.seconds for response in responses if response.status == 200 and response.right]
    if not answered:
        raise CostsError(f"at {rate:,.0f} requests a second the worker answers none")
    p50, p99 = np.quantile(answered, [0.5, 0.99]).tolist()
    return Asked(p50, p99, 1 - len(answered) / len(responses), late)


def _beside(costs: Costs, rate: float, asked: Asked) -> Comparison:
    run = one_worker(costs, rate)
    lost = (run.refused + run.failed) / run.requests
    return Comparison(rate, (asked.p50, asked.p99), (run.p50, run.p99), asked.lost, lost, asked.late)


def table_of(comparisons: Sequence[Comparison]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of a table of comparisons."""
    head = ["requests/s", "p50 measured, ms", "predicted", "error", "p99 measured, ms", "predicted", "error", "refused"]
    rows = []
    for comparison in comparisons:
        cells = [f"{comparison.rate:,.0f}"]
        for seen, told, error in zip(comparison.measured, comparison.predicted, comparison.errors, strict=True):
            cells += [f"{1000 * seen:.2f}", f"{1000 * told:.2f}", f"{error:+.0%}"]
        rows.append([*cells, f"{comparison.lost:.1%}, {comparison.predicted_lost:.1%}"])
    return head, rows
