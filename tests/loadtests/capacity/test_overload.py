"""An overload is measured on services of known behaviour: they refuse, let all wait, or answer wrongly."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loadtests.capacity import overload
from loadtests.capacity.overload import Overload, OverloadError
from tests.support.applications import served
from tests.support.serving.stores import contract_of_doubling

SERVICE = 0.004  # s that the service needs for a request, one at a time
BUSY = JSONResponse({"error": "busy"}, 503, {"Retry-After": "1"})


@contextmanager
def service(answer: Callable[[int], Response], queue: int = 1_000_000) -> Iterator[str]:
    """Serve ``answer`` of the number of the request, one at a time; who finds the queue full is told to come back."""
    waiting, number, turn = 0, 0, asyncio.Lock()

    async def predict(request: Request) -> Response:
        nonlocal waiting, number
        if waiting >= queue:
            return BUSY
        waiting, number = waiting + 1, number + 1
        try:
            async with turn:
                await asyncio.sleep(SERVICE)
                return answer(number)
        finally:
            waiting -= 1

    app = Starlette(routes=[Route("/v1/models/doubling:predict", predict, methods=["POST"])])
    with served(app) as url:
        yield url


def measured(url: str, factor: float = 3.0) -> Overload:
    return overload.measure(contract_of_doubling(), url, rows=2, factor=factor, seconds=1.0, key={})


def missed(found: Overload) -> set[str]:
    return {verdict.objective for verdict in overload.judge("doubling", found) if not verdict.met}


def right(_: int) -> Response:
    return JSONResponse({"predictions": [1, 2]})


def test_who_is_refused_is_counted_apart_from_answers_and_from_failures() -> None:
    with service(right, queue=8) as url:
        found = measured(url, factor=12.0)  # a busy machine measures too low a peak: 3 times it may be no overload
    assert found.refused[0] > 0
    assert found.accepted[1] < float("inf")
    assert (found.other, found.wrong) == ({}, 0)
    assert not {"wrong answers", "neither answered nor told when to come back"} & missed(found)


def test_a_service_that_lets_all_wait_answers_much_but_late() -> None:
    with service(right) as url:
        found = measured(url)
    assert found.refused[0] == 0
    # Two of three requests wait for more than the second in which they came.
    assert found.accepted[1] > 0.5
    assert {"p99 in idle p99s", "recovery, s"} <= missed(found)


def test_another_body_is_a_wrong_answer() -> None:
    with service(lambda number: JSONResponse({"predictions": [1, 2 if number % 50 else 3]}), queue=8) as url:
        found = measured(url)
    assert found.wrong > 0
    assert "wrong answers" in missed(found)


def test_an_error_without_a_time_to_come_back_is_named_by_its_status() -> None:
    with service(lambda number: right(number) if number % 50 else Response(status_code=503), queue=8) as url:
        found = measured(url)
    assert found.other.keys() == {503}
    lines: list[str] = []
    overload.describe(found, lines.append)
    assert f"503: {found.other[503]}" in lines


def test_a_service_that_refuses_the_request_when_it_is_idle_is_not_measured() -> None:
    many = JSONResponse({"error": "too many rows"}, 400)
    with service(lambda _: many) as url, pytest.raises(OverloadError, match="400 .*too many rows"):
        measured(url)
    with pytest.raises(OverloadError, match="no answer came"):
        measured(url)
