"""Requests of one model are answered together, in time or not at all, and each gets its own answer."""

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from handlers.message import Request, Response
from serving.hosts.direct.batches import INLINE, MOST, TURNS, Batches, Overloaded

FOREVER = 3600.0


class Echo:
    """Answers each request with its body, slowly where it is told to; keeps how it was asked."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.sizes: list[int] = []
        self.threads: set[str] = set()
        self.waited: list[float] = []

    def __call__(self, requests: Sequence[Request], waited: Sequence[float]) -> list[Response]:
        self.sizes.append(len(requests))
        self.waited += waited
        self.threads.add(threading.current_thread().name)
        if self.seconds:
            time.sleep(self.seconds)
        return [Response(200, request.body) for request in requests]


def request(body: bytes) -> Request:
    return Request(body, {})


def test_requests_of_one_turn_of_the_loop_are_one_batch_and_each_gets_its_own_answer() -> None:
    echo = Echo()

    async def run() -> list[bytes]:
        batches = Batches(echo, asyncio.get_running_loop())
        futures = [batches.submit(request(b"%d" % number), FOREVER) for number in range(20)]
        return [response.body for response in await asyncio.gather(*futures)]

    assert asyncio.run(run()) == [b"%d" % number for number in range(20)]
    assert echo.sizes == [20]
    assert echo.threads == {threading.main_thread().name}


def test_a_model_of_which_nobody_knows_how_long_it_takes_never_runs_in_the_loop() -> None:
    echo = Echo()

    async def run() -> None:
        batches = Batches(echo, asyncio.get_running_loop(), inline=False)
        for _ in range(3):
            await batches.submit(request(b""), FOREVER)
        batches.close()

    asyncio.run(run())
    assert threading.main_thread().name not in echo.threads
    assert echo.sizes == [1, 1, 1]


def test_a_batch_has_a_largest_size() -> None:
    echo = Echo()

    async def run() -> None:
        batches = Batches(echo, asyncio.get_running_loop())
        await asyncio.gather(*(batches.submit(request(b""), FOREVER) for _ in range(3 * MOST)))

    asyncio.run(run())
    assert echo.sizes == [MOST, MOST, MOST]


def test_what_comes_while_a_slow_batch_runs_in_its_thread_is_the_next_one_and_the_loop_goes_on() -> None:
    echo = Echo(10 * INLINE)

    async def run() -> tuple[list[bytes], int]:
        batches = Batches(echo, asyncio.get_running_loop())
        await batches.submit(request(b"first"), FOREVER)  # tells that it is slow
        slow = batches.submit(request(b"slow"), FOREVER)
        turns = 0
        rest: list[asyncio.Future[Response]] = []
        while not slow.done():
            await asyncio.sleep(0)
            turns += 1
            if len(rest) < 5:
                rest.append(batches.submit(request(b"%d" % len(rest)), FOREVER))
        answers = await asyncio.gather(slow, *rest)
        batches.close()
        return [response.body for response in answers], turns

    answers, turns = asyncio.run(run())
    assert len(echo.waited) == 7
    assert echo.waited[2] > 5 * INLINE  # it came soon after the slow one had begun
    assert answers == [b"slow", b"0", b"1", b"2", b"3", b"4"]
    assert echo.sizes[:2] == [1, 1]
    assert max(echo.sizes[2:]) > 1
    assert turns > 10
    assert len(echo.threads) == 2


def test_a_request_that_would_wait_longer_than_it_may_is_refused_with_the_time() -> None:
    async def run() -> float:
        batches = Batches(Echo(0.05), asyncio.get_running_loop())
        await batches.submit(request(b""), FOREVER)
        waiting = [batches.submit(request(b""), FOREVER) for _ in range(10)]
        with pytest.raises(Overloaded) as refused:
            batches.admit(0, 0.1)
        batches.admit(0, FOREVER)
        await asyncio.gather(*waiting)
        while not batches.idle:
            await asyncio.sleep(0.01)
        batches.admit(0, 0.1)  # nobody waits any more
        return refused.value.seconds

    assert asyncio.run(run()) > 0.1


class Clock:
    """Time that only requests take: ``COST`` seconds each."""

    COST = 0.01

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def handle(self, requests: Sequence[Request], waited: Sequence[float]) -> list[Response]:
        self.now += self.COST * len(requests)
        return [Response(200, b"") for _ in requests]


async def crowd(batches: Batches, clock: Clock, seconds: float, at_once: int) -> tuple[list[float], int]:
    """Send so many requests at once in the time that each takes; returns how long answers took, and the refused."""
    took: list[float] = []
    refused = 0

    async def ask() -> None:
        nonlocal refused
        since = clock()
        try:
            batches.admit(0, FOREVER)
            await batches.submit(request(b""), FOREVER)
            took.append(clock() - since)
        except Overloaded:
            refused += 1

    end, due, tasks = clock() + seconds, clock(), set[asyncio.Task[None]]()  # the open ones
    while clock() < end:
        while due <= clock():
            tasks |= {asyncio.create_task(ask()) for _ in range(at_once)}
            due += clock.COST
        before = clock()
        while clock() == before and tasks:
            await asyncio.sleep(0)
            tasks = {task for task in tasks if not task.done()}
        if clock() == before:
            clock.now += clock.COST
    await asyncio.gather(*tasks)
    return took, refused


def test_where_more_comes_than_can_be_answered_requests_wait_briefly_and_most_are_answered() -> None:
    async def run() -> tuple[list[float], int]:
        clock = Clock()
        batches = Batches(clock.handle, asyncio.get_running_loop(), clock)
        found = await crowd(batches, clock, 60.0, 3)
        batches.close()
        return found

    took, refused = asyncio.run(run())
    assert refused > 6000
    assert len(took) > 0.9 * 60.0 / Clock.COST  # as many as can be answered
    late = sorted(took)[round(0.99 * len(took))]
    assert late <= 2 * TURNS * Clock.COST


def test_clients_that_wait_for_each_answer_are_not_refused_after_a_batch_that_took_long() -> None:
    clients, cost, refusal = 256, 0.00015, 0.00003  # s; together they are answered in 38 ms

    async def run() -> int:
        clock, refused = Clock(), 0

        def handle(requests: Sequence[Request], waited: Sequence[float]) -> list[Response]:
            slow = 4 if 101.0 < clock.now < 101.1 else 1  # another process has the core
            clock.now += slow * cost * len(requests)
            return [Response(200, b"") for _ in requests]

        async def client() -> None:
            nonlocal refused
            while clock.now < 104.0:
                try:
                    batches.admit(0, FOREVER)
                    await batches.submit(request(b""), FOREVER)
                except Overloaded:
                    refused += 1
                    clock.now += refusal
                    await asyncio.sleep(0)

        batches = Batches(handle, asyncio.get_running_loop(), clock)
        await asyncio.gather(*(client() for _ in range(clients)))
        batches.close()
        return refused

    assert asyncio.run(run()) == 0


def test_a_crowd_that_comes_once_may_wait() -> None:
    async def run() -> None:
        clock = Clock()
        batches = Batches(clock.handle, asyncio.get_running_loop(), clock)
        await batches.submit(request(b""), FOREVER)
        for _ in range(90):
            batches.admit(0, FOREVER)
        await asyncio.gather(*(batches.submit(request(b""), FOREVER) for _ in range(90)))
        batches.close()

    asyncio.run(run())


def test_a_request_whose_time_is_over_at_its_turn_is_refused_then() -> None:
    async def run() -> None:
        clock = Clock()
        batches = Batches(clock.handle, asyncio.get_running_loop(), clock)
        late = batches.submit(request(b""), 1.0)
        clock.now += 2.0
        with pytest.raises(Overloaded):
            await late
        assert (await batches.submit(request(b""), 1.0)).status == 200

    asyncio.run(run())


def test_a_request_whose_client_is_gone_is_not_computed() -> None:
    echo = Echo(2 * INLINE)

    async def run() -> None:
        batches = Batches(echo, asyncio.get_running_loop())
        await batches.submit(request(b""), FOREVER)
        first = batches.submit(request(b"first"), FOREVER)
        await asyncio.sleep(0)  # it runs
        gone, there = batches.submit(request(b"gone"), FOREVER), batches.submit(request(b"there"), FOREVER)
        gone.cancel()
        assert [response.body for response in await asyncio.gather(first, there)] == [b"first", b"there"]

    asyncio.run(run())
    assert echo.sizes == [1, 1, 1]


def test_a_closed_model_leaves_nobody_waiting() -> None:
    async def run() -> None:
        batches = Batches(Echo(), asyncio.get_running_loop())
        waiting = batches.submit(request(b""), FOREVER)
        batches.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())


@pytest.mark.parametrize("seconds", [0.0, 2 * INLINE])
def test_a_request_that_comes_after_the_end_is_answered_all_the_same(seconds: float) -> None:
    async def run() -> bytes:
        batches = Batches(Echo(seconds), asyncio.get_running_loop())
        await batches.submit(request(b"first"), FOREVER)
        await batches.submit(request(b"second"), FOREVER)
        batches.close()
        return (await batches.submit(request(b"late"), FOREVER)).body

    assert asyncio.run(run()) == b"late"
