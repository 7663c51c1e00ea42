"""Refusals while the host ends: begun by a signal, over by themselves."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from handlers.http.drain import LASTS, SIGNAL, Drain


@pytest.fixture(autouse=True)
def former() -> Iterator[None]:
    handler = signal.getsignal(SIGNAL)
    yield
    signal.signal(SIGNAL, handler)


def test_nothing_is_refused_until_the_signal_and_then_all_but_what_waited() -> None:
    drain = Drain()
    drain.begin_on_signal()
    assert [drain.refuses() for _ in range(3)] == [False] * 3
    signal.raise_signal(SIGNAL)
    assert [drain.refuses() for _ in range(3)] == [False, True, True]


def test_a_model_that_a_thread_loads_listens_to_no_signal() -> None:
    before = signal.getsignal(SIGNAL)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(Drain().begin_on_signal).result()
    assert signal.getsignal(SIGNAL) == before


def test_an_end_that_never_came_is_forgotten() -> None:
    now = 0.0
    drain = Drain(lambda: now)
    drain.begin()
    now = LASTS - 1
    assert [drain.refuses() for _ in range(2)] == [False, True]
    now = LASTS + 1
    assert not drain.refuses()


def test_a_worker_of_an_older_archive_outlives_the_signal() -> None:
    signal.signal(SIGNAL, signal.SIG_DFL)
    signal.raise_signal(SIGNAL)  # which would end this process
