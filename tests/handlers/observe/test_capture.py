"""Capture takes what it may, tells it all, and never stands in a request's way."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from handlers.contract import ModelContract
from handlers.formats.codec import Codec
from handlers.handler import ModelHandler
from handlers.message import JSON, Request
from handlers.observe import capture as capture_module
from handlers.observe.capture import Capture
from handlers.observe.sink import RefusedError, Sink, SinkError
from tests.support.handlers import wire
from tests.support.handlers.models import FLIGHTS, LINE, MAX_ROWS, Formula
from tests.support.sinks import sink
from tests.support.waiting import wait_until

PLENTY = 1e6


class Kept(Sink):
    """A receiver that keeps what it is sent, after the errors that it is told to raise."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.bodies: list[bytes] = []

    def post(self, body: bytes) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.bodies.append(body)

    def close(self) -> None:
        pass

    @property
    def rows(self) -> list[tuple[str, int]]:
        data = [event["data"] for body in self.bodies for event in json.loads(body)]
        return [(one["request_id"], one["row"]) for one in data]


class World:
    """A handler with capture; the clock is the test's, and so is chance."""

    def __init__(
        self, sample: float = 1.0, rate: float = PLENTY, to: Sink | None = None, model: ModelContract = LINE
    ) -> None:
        self.now = 0.0
        self.draws: Iterator[float] = iter(())
        self.kept = Kept()
        self.registry = CollectorRegistry()
        chance = lambda: next(self.draws, 0.5)  # noqa: E731
        to = to or self.kept
        self.capture = Capture(model, to, self.registry, sample, rate, lambda: self.now, chance)
        self.handler = ModelHandler(model, Formula(model), Codec(model, MAX_ROWS), [self.capture])
        self._names = {"model": model.name, "version": model.version}

    def captured(self) -> float | None:
        return self.registry.get_sample_value("model_captured_rows_total", self._names)

    def dropped(self, reason: str) -> float | None:
        names = self._names | {"reason": reason}
        return self.registry.get_sample_value("model_capture_dropped_rows_total", names)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_module, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(capture_module, "INTERVAL", 0.001)


def ask(id: str = "a", rows: int = 1, **headers: str) -> Request:
    return wire.request({"instances": [{"x": i} for i in range(rows)]}, JSON, {}, x_request_id=id, **headers)


def test_every_row_that_was_answered_is_told_and_no_other() -> None:
    world = World()
    world.handler.handle([ask("a"), wire.request({"x": "six"}, x_request_id="bad"), ask("b", 3)])
    world.capture.flush()
    assert world.kept.rows == [("a", 0), ("b", 0), ("b", 1), ("b", 2)]
    assert world.captured() == 4


@pytest.mark.parametrize(
    ("headers", "captured"),
    [
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-site", "origin": "http://api.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://evil.example", "host": "127.0.0.1:8080"}, False),
        ({"origin": "http://127.0.0.1:3000", "host": "127.0.0.1:8080"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"sec_fetch_site": "cross-site", "authorization": "Bearer key"}, True),
        ({"sec_fetch_site": "same-origin", "origin": "https://a.example", "host": "behind:8080"}, True),
        ({"sec_fetch_site": "none"}, True),
        ({"origin": "http://127.0.0.1:8080", "host": "127.0.0.1:8080"}, True),
        ({}, True),
    ],
)
def test_what_a_page_of_another_site_sends_is_answered_and_not_captured(
    headers: dict[str, str], captured: bool
) -> None:
    world = World()
    (answer,) = world.handler.handle([ask("a", 1, **headers)])
    assert answer.status == 200
    world.capture.flush()
    assert world.kept.rows == ([("a", 0)] if captured else [])


def test_after_a_batch_failed_those_that_were_answered_alone_are_told() -> None:
    class Fragile(Formula):
        def run(self, tensors: Any) -> Any:
            if 1 in tensors["x"].tolist():
                raise RuntimeError("one")
            return super().run(tensors)

    world = World()
    world.handler = ModelHandler(LINE, Fragile(LINE), Codec(LINE, MAX_ROWS), [world.capture])
    world.handler.handle([ask("a"), ask("b", 2), ask("c")])
    world.capture.flush()
    assert world.kept.rows == [("a", 0), ("c", 0)]
    outputs = [event["data"]["output"] for body in world.kept.bodies for event in json.loads(body)]
    assert outputs[0] == outputs[1]  # of the same x


def test_a_sample_is_drawn_row_by_row() -> None:
    world = World(sample=0.25)
    world.draws = iter([0.1, 0.9, 0.2, 0.3, 0.8, 0.24])
    world.handler.handle([ask("a"), ask("b"), ask("c", 4)])
    world.capture.flush()
    assert world.kept.rows == [("a", 0), ("c", 0), ("c", 3)]
    assert world.dropped("rate") == 0


def test_no_more_rows_a_second_than_allowed_and_the_others_are_counted() -> None:
    world = World(rate=4)
    world.handler.handle([ask(str(i)) for i in range(6)])
    world.handler.handle([ask("late", 2)])
    world.now += 0.5
    world.handler.handle([ask("large", 8), ask("none")])
    world.now += 100
    world.handler.handle([ask(f"after{i}") for i in range(6)])
    world.capture.flush()
    spread = [("large", 0), ("large", 4)]
    assert world.kept.rows == [(str(i), 0) for i in range(4)] + spread + [(f"after{i}", 0) for i in range(4)]
    assert world.dropped("rate") == 2 + 2 + 7 + 2
    assert world.captured() == 10


def test_a_request_can_ask_not_to_be_captured() -> None:
    world = World()
    world.handler.handle([ask("probe", x_marloop_capture="off"), ask("a", x_marloop_capture="on")])
    world.capture.flush()
    assert world.kept.rows == [("a", 0)]


def test_rows_have_the_time_that_their_request_tells() -> None:
    world = World()
    world.handler.handle([ask("past", 2, x_marloop_time="2013-03-01T10:00:00Z"), ask("now")])
    world.capture.flush()
    past, _, now = (event for body in world.kept.bodies for event in json.loads(body))
    assert past["time"] == "2013-03-01T10:00:00.000000+00:00"
    assert datetime.fromisoformat(now["time"]) > datetime(2026, 1, 1, tzinfo=UTC)


def test_the_queue_holds_so_many_requests_and_the_others_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_module, "MOST_REQUESTS", 2)
    world = World()
    for _ in range(2):  # there is place again once it was sent
        world.handler.handle([ask("a"), ask("b"), ask("c", 3)])
        world.capture.flush()
    assert world.kept.rows == [("a", 0), ("b", 0)] * 2
    assert world.dropped("full") == 6


def test_the_queue_holds_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_module, "MOST_BYTES", 2000)
    world = World()
    padded = wire.request(b'{"x": 6' + b" " * 1000 + b"}", x_request_id="large")
    for _ in range(2):
        world.handler.handle([padded, padded, ask("small")])
        world.capture.flush()
    assert [id for id, _ in world.kept.rows] == ["large", "large"]
    assert world.dropped("full") == 4


def test_what_was_not_taken_is_sent_again_and_nothing_is_lost(no_pause: None) -> None:
    world = World()
    world.kept.errors = [SinkError("503"), SinkError("503"), SinkError("503")]
    world.handler.handle([ask("a", 2)])
    world.capture.flush()
    assert world.kept.rows == [("a", 0), ("a", 1)]
    assert world.captured() == 2


def test_the_pauses_between_attempts_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    world, pauses = World(), list[float]()

    def wait(pause: float) -> bool:
        pauses.append(pause)
        return False

    monkeypatch.setattr(world.capture._stop, "wait", wait)
    world.kept.errors = [SinkError("down")] * 9
    world.handler.handle([ask()])
    world.capture.flush()
    assert pauses == [0.75 * pause for pause in (0.5, 1, 2, 4, 8, 16, 30, 30, 30)]


def test_what_was_refused_is_counted_and_the_next_is_sent() -> None:
    world = World()
    world.kept.errors = [RefusedError("422: no such model")]
    world.handler.handle([ask("a", 3)])
    world.capture.flush()
    world.handler.handle([ask("b")])
    world.capture.flush()
    assert world.kept.rows == [("b", 0)]
    assert (world.captured(), world.dropped("refused")) == (1, 3)


def test_large_deliveries_are_split() -> None:
    world = World()
    for i in range(100):
        world.handler.handle([ask(str(i), 8)])
    world.capture.flush()
    assert len(world.kept.rows) == 800
    assert [len(json.loads(body)) for body in world.kept.bodies] == [504, 296]


def test_its_thread_sends_what_comes_to_a_real_sink_and_waits_for_one_that_is_away(no_pause: None) -> None:
    with sink() as received:
        received.statuses = [503, 429]
        world = World(to=Sink(received.url), model=FLIGHTS)
        world.capture.start()
        world.handler.handle([wire.request({"distance": 100, "hour": 3, "carrier": "AA"}, x_request_id="f-1")])
        wait_until(lambda: world.captured() == 1, poll=0.01)
        world.capture.stop(10)
    assert len(received.events) == 3  # refused twice
    assert received.events[-1]["data"]["features"] == {"distance": 100, "hour": 3, "carrier": "AA"}
    assert not any(thread.name == "capture" for thread in threading.enumerate())


def test_a_sink_that_hangs_slows_no_request_and_what_finds_no_place_is_counted(
    no_pause: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture_module, "MOST_REQUESTS", 10)
    with sink() as received:
        received.hang.set()
        world = World(to=Sink(received.url, timeout=600))
        world.capture.start()
        world.handler.handle([ask()])
        wait_until(lambda: received.connections == 1, poll=0.01)
        for _ in range(20):  # a request that waited for the sink would wait for ever
            (response,) = world.handler.handle([ask()])
            assert response.status == 200
        assert received.bodies == []
        assert world.dropped("full") == 10  # told at once, not when the sink answers
        received.hang.clear()
        received.released.set()
        wait_until(lambda: (world.captured() or 0) > 0, poll=0.01)
        world.capture.stop(10)


def test_what_cannot_be_told_is_counted_and_logged_and_the_thread_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.handler.handle([ask("a"), ask("b")])

    def fail() -> list[Any]:
        raise RuntimeError("no event")

    world.capture._queue[0] = world.capture._queue[0]._replace(events=fail)
    world.capture.flush()
    assert world.kept.rows == [("b", 0)]
    assert world.dropped("failed") == 1
    assert "capture of request a failed" in caplog.text
