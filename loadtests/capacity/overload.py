"""A model under more requests than it can answer: its throughput, latency and refusals.

One request of many rows is sent again and again, so that the client needs less of the machine than the model:

- in turn, for the latency of an idle service;
- by a closed loop, for the peak of its throughput;
- at a constant rate above the peak;
- in turn once more, for its recovery.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import numpy as np
import uvloop

from handlers.contract import ModelContract
from loadtests.capacity.requests import payload_of_rows, target
from loadtests.open_loop import Client, Response
from loadtests.slo import Verdict

IN_TURN = 300  # requests that measure an idle service
CLIENTS = 16  # clients of the closed loop
GOODPUT = 0.9  # least share of the peak
SLOWER = 10.0  # most p99 of accepted requests, in times of the idle p99
REFUSING = 0.05  # s, most p99 of refusals
RECOVERY = 1.0  # s after the last request
CALM = 5  # right answers in a row after which the service has recovered


class OverloadError(Exception):
    """The model could not be measured."""


class Overload(msgspec.Struct, frozen=True):
    """The measurements of an overload.

    Attributes:
        rate: requests a second that were due.
        peak: good answers a second of the closed loop.
        goodput: good answers a second at ``rate``, until the last answer.
        idle: p99 in s of an idle service.
        accepted: p50 and p99 in s of good answers under overload.
        refused: number of 503 with ``Retry-After``, and their p99 in s.
        wrong: number of answers of status 200 with a wrong body.
        other: number of other answers by status; 0 is no answer.
        recovery: s after the last request until answers are quick again; infinite if they are not.
        late: s by which the client itself was behind at the end.
    """

    rate: float
    peak: float
    goodput: float
    idle: float
    accepted: tuple[float, float]
    refused: tuple[int, float]
    wrong: int
    other: dict[int, int]
    recovery: float
    late: float


def measure(
    contract: ModelContract, url: str, rows: int, factor: float, seconds: float, key: Mapping[str, str]
) -> Overload:
    """Put a model under more load than it can answer.

    Args:
        rows: rows of each request.
        factor: rate of requests in times of the peak.
        seconds: duration of the closed loop, and of the overload.
        key: headers that let the client in.

    Raises:
        OverloadError: the model does not answer the request on an idle service.
    """
    host, port, request = target(contract, payload_of_rows(contract, rows), url, key)

    async def run() -> Overload:
        with contextlib.closing(Client(host, port, request)) as client:
            return await _measure(client, factor, seconds)

    return uvloop.run(run())


async def _measure(client: Client, factor: float, seconds: float) -> Overload:
    response, body = await client.ask()
    if response.status != 200:
        text = body[:300].decode(errors="replace") if response.status else "no answer came"
        raise OverloadError(f"an idle service does not answer the request: {response.status} {text}")
    client.expected = body
    await client.in_turn(IN_TURN // 10)
    idle = _percentile(await client.in_turn(IN_TURN), 0.99)
    peak = len(_good(await client.closed(CLIENTS, seconds))) / seconds
    start = time.perf_counter()
    tasks = await client.steady(factor * peak, seconds)
    end = time.perf_counter()
    recovery = await _recovered(client, SLOWER * idle)
    responses = [(await task)[0] for task in tasks]
    good = _good(responses)
    last = max((number / (factor * peak) + response.seconds for number, response in enumerate(responses)), default=0.0)
    refused = [response for response in responses if response.status == 503 and response.retry_after]
    rest = Counter(r.status for r in responses if r.status != 200 and not (r.status == 503 and r.retry_after))
    return Overload(
        rate=factor * peak,
        peak=peak,
        goodput=len(good) / max(seconds, last),
        idle=idle,
        accepted=(_percentile(good, 0.5), _percentile(good, 0.99)),
        refused=(len(refused), _percentile(refused, 0.99)),
        wrong=sum(response.status == 200 and not response.right for response in responses),
        other=dict(rest),
        recovery=recovery,
        late=max(0.0, end - start - seconds),
    )


async def _recovered(client: Client, within: float) -> float:
    """Return the seconds until ``CALM`` right answers in a row take no longer than ``within`` seconds each."""
    start, calm, since = time.perf_counter(), 0, 0.0
    while (now := time.perf_counter() - start) < 10 * RECOVERY:
        response, _ = await client.ask()
        if not response.right or response.status != 200 or response.seconds > within:
            calm = 0
            await asyncio.sleep(0.02)
            continue
        since = since if calm else now
        calm += 1
        if calm == CALM:
            return since
    return float("inf")


def judge(model: str, overload: Overload) -> Iterator[Verdict]:
    """Compare the measurements with the objectives of a service under overload."""
    yield Verdict(model, "goodput", GOODPUT, overload.goodput / overload.peak, at_least=True)
    yield Verdict(model, "p99 in idle p99s", SLOWER, overload.accepted[1] / overload.idle)
    yield Verdict(model, "p99 of refusals, s", REFUSING, overload.refused[1] if overload.refused[0] else 0.0)
    yield Verdict(model, "wrong answers", 0, overload.wrong)
    yield Verdict(model, "neither answered nor told when to come back", 0, sum(overload.other.values()))
    yield Verdict(model, "recovery, s", RECOVERY, overload.recovery)


def describe(overload: Overload, say: Callable[[str], None]) -> None:
    """Report the measurements, a line a fact."""
    say(
        f"idle: p99 {1000 * overload.idle:.1f} ms; at most {overload.peak:,.0f} answers a second from {CLIENTS} clients"
    )
    say(
        f"{overload.rate:,.0f} requests a second: {overload.goodput:,.0f} answers a second, "
        f"{overload.goodput / overload.peak:.0%} of the peak"
    )
    p50, p99 = (1000 * value for value in overload.accepted)
    say(f"accepted: p50 {p50:.0f}, p99 {p99:.0f} ms, {overload.accepted[1] / overload.idle:.0f} times the idle one")
    count, refusing = overload.refused
    say(f"refused with Retry-After: {count:,}" + (f", p99 {1000 * refusing:.0f} ms" if count else ""))
    for status, number in sorted(overload.other.items()):
        say(f"{status or 'no answer'}: {number:,}")
    say(f"recovered after {overload.recovery:.1f} s; {overload.wrong} wrong answers")
    if overload.late > 0.1:
        say(f"the client was {overload.late:.1f} s late: it had too little of the machine for this rate")


def _good(responses: Sequence[Response]) -> list[Response]:
    return [response for response in responses if response.status == 200 and response.right]


def _percentile(responses: Sequence[Response], share: float) -> float:
    seconds = [response.seconds for response in responses]
    return float(np.quantile(seconds, share)) if seconds else float("inf")
