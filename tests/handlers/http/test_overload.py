"""When a batch may be long, and when it must be short."""

import math
from collections.abc import Sequence

import pytest

from handlers.http.overload import CALM, Overload, waits
from handlers.message import Request

NOW = 1_800_000_000.0
PATIENCE = 60.0


def waiting(*seconds: float | None) -> list[Request]:
    """Requests that have waited so long; None has no header that tells."""
    headers = [{} if one is None else {"x-request-start": f"t={NOW - one}"} for one in seconds]
    return [Request(b"", one) for one in headers]


def after_a_batch(seconds: float, answered: int = 64, patience: float = PATIENCE) -> Overload:
    overload = Overload(patience)
    overload.ended(NOW, seconds, answered, 0)
    return overload


def test_requests_that_waited_longer_than_two_batches_take_make_the_next_ones_short() -> None:
    overload = after_a_batch(0.256)
    assert overload.seconds_for(waiting(*[0.6] * 64), NOW) == pytest.approx(4 * 0.256 / 64)


@pytest.mark.parametrize(
    ("seconds", "requests"),
    [
        (0.256, waiting(*[0.3] * 64)),  # 64 clients that wait for each other: each comes while the others' batch runs
        (0.04, waiting(*[5.0] * 64)),  # short batches: nobody waits long here
        (0.256, waiting(*[5.0] * 20, *[0.1] * 44)),
        (0.256, waiting(*[5.0] * 30, *[None] * 34)),  # most do not tell
        (0.256, waiting(*[None] * 64)),
        (0.256, waiting(*[5000.0] * 64)),  # a clock that is wrong
        (0.256, [Request(b"", {"x-request-start": "now"})] * 64),
        (0.256, []),
    ],
)
def test_otherwise_a_batch_may_take_its_time(seconds: float, requests: Sequence[Request]) -> None:
    assert after_a_batch(seconds).seconds_for(requests, NOW) == PATIENCE


def test_batches_stay_short_until_nobody_was_turned_away_for_a_while() -> None:
    overload = after_a_batch(0.256)
    assert overload.seconds_for(waiting(*[0.6] * 64), NOW) < 1
    overload.ended(NOW + 1, 0.03, 6, 58)
    assert overload.seconds_for(waiting(0.01), NOW + 0.9 + CALM) < 1
    overload.ended(NOW + 1.5, 0.03, 6, 0)
    assert overload.seconds_for(waiting(0.01), NOW + 1.1 + CALM) == PATIENCE


def test_a_batch_is_never_allowed_more_than_patience() -> None:
    assert after_a_batch(9.0, answered=1, patience=2.0).seconds_for(waiting(30.0), NOW) == 2.0
    assert after_a_batch(9.0, answered=0, patience=math.inf).seconds_for(waiting(30.0), NOW) == 36.0


def test_a_clock_a_little_ahead_means_no_wait() -> None:
    assert waits(waiting(-2.0, None, 1.5), NOW) == [0.0, 1.5]
