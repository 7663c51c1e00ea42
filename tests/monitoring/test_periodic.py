"""What the monitor does again and again."""

import logging
import threading
from collections.abc import Callable

import pytest

from monitoring.periodic import repeat


class Stop(threading.Event):
    """Ends after some pauses, of which it waits for none."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds, self.pauses = rounds, list[float | None]()

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout)
        return len(self.pauses) > self.rounds


def test_it_is_done_again_and_again_with_a_pause_between_until_told_to_stop() -> None:
    done, stop = list[int](), Stop(3)
    repeat(30.0, lambda: done.append(1), stop)
    assert (len(done), stop.pauses) == (3, [0.0, 30.0, 30.0, 30.0])


def test_the_first_round_can_wait() -> None:
    stop = Stop(1)
    repeat(60.0, lambda: None, stop, delay=3600.0)
    assert stop.pauses == [3600.0, 60.0]


@pytest.mark.parametrize(("pause", "expected"), [(lambda took: 5 - took, 4.0), (lambda took: took / 0.01, 100.0)])
def test_a_pause_can_depend_on_how_long_a_round_took(
    pause: Callable[[float], float], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([7.0, 8.0])
    monkeypatch.setattr("monitoring.periodic.time.monotonic", lambda: next(seconds))
    stop = Stop(1)
    repeat(pause, lambda: None, stop)
    assert stop.pauses[1:] == [pytest.approx(expected)]


def test_what_goes_wrong_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    tries = list[int]()

    def fail_once() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("no route to the moon")

    with caplog.at_level(logging.ERROR):
        repeat(1.0, fail_once, Stop(2), fault="cannot fly")
    (record,) = caplog.records
    assert (len(tries), record.getMessage()) == (2, "cannot fly")
    assert record.exc_text or record.exc_info


def test_a_pause_ends_at_once_when_told_to_stop() -> None:
    stop, begun = threading.Event(), threading.Event()
    thread = threading.Thread(target=repeat, args=(3600.0, begun.set, stop))
    thread.start()
    assert begun.wait(10)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
