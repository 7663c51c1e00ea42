"""The log: JSON, one line a failed request, with every id by which it can be found."""

import io
import json
import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import pytest

from handlers.contract import Array
from handlers.engine import Engine
from handlers.formats.codec import Codec
from handlers.handler import ModelHandler
from handlers.message import JSON, Request
from handlers.observe.logs import LINES, WINDOW, configure, log_requests
from tests.support.handlers import wire
from tests.support.handlers.models import LINE, MAX_ROWS, Formula

GOOD = wire.request({"x": 6})
BAD = wire.request({"x": "six"})


class Failing:
    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        raise RuntimeError("out of order")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is logged, by the real configuration; the former one comes back afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("handlers.observe.logs")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    root.handlers = []
    written = io.StringIO()
    configure(written)
    yield written
    root.handlers = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def handle(requests: list[Request], sample: float = 0.0, engine: Engine | None = None, draw: float = 0.5) -> None:
    observer = log_requests(sample, lambda: draw)
    ModelHandler(LINE, engine or Formula(LINE), Codec(LINE, MAX_ROWS), [observer]).handle(requests)


def test_a_failed_request_is_one_line_and_a_successful_one_none(stream: io.StringIO) -> None:
    handle([GOOD, BAD, GOOD])
    (line,) = lines(stream)
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line.pop("seconds") > 0
    assert line == {
        "level": "WARNING",
        "logger": "handlers.observe.logs",
        "message": "Expected `float`, got `str`",
        "model": "line",
        "version": "1.2",
        "request_id": "r-1",
        "status": 400,
        "reason": "wrong_type",
        "path": "$.x",
    }


def test_the_ids_of_the_client_are_in_the_log_and_in_the_error(stream: io.StringIO) -> None:
    sent = {"x_request_id": "order-7", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    asked = wire.request({"x": None}, JSON, None, **sent)
    handler = ModelHandler(LINE, Formula(LINE), Codec(LINE, MAX_ROWS))
    error = json.loads(handler.handle([asked])[0].body)["error"]
    (line,) = lines(stream)
    assert line["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    for found in (error, line):
        assert (found["request_id"], found["client_request_id"]) == ("r-1", "order-7")
        assert found["traceparent"] == sent["traceparent"]


def test_a_clients_id_without_end_is_cut(stream: io.StringIO) -> None:
    handle([wire.request({"x": None}, x_request_id="a" * 5000)])
    assert len(lines(stream)[0]["client_request_id"]) < 400


def test_a_fault_of_ours_is_an_error_with_its_traceback_in_the_same_line(stream: io.StringIO) -> None:
    handle([GOOD], engine=Failing())
    (line,) = lines(stream)
    assert (line["level"], line["status"], line["reason"], line["protocol"]) == ("ERROR", 500, "internal", "native")
    assert "RuntimeError: out of order" in line["traceback"]


def test_what_a_request_holds_cannot_break_the_line(stream: io.StringIO) -> None:
    handle([wire.request({"x\n\u2028\x00": 1}, x_request_id='"}\n{"level": "OK"')])
    assert len(lines(stream)) == 1


@pytest.mark.parametrize(("sample", "draw", "expected"), [(0.0, 0.0, 0), (0.1, 0.05, 1), (0.1, 0.2, 0), (1.0, 0.9, 1)])
def test_a_sample_of_the_successful_requests_is_logged(
    stream: io.StringIO, sample: float, draw: float, expected: int
) -> None:
    handle([GOOD], sample, draw=draw)
    assert [line["message"] for line in lines(stream)] == ["answered"] * expected


@pytest.mark.parametrize("body", [{"x": "six"}, {"instances": [{"x": "six"}]}, {"inputs": [{"name": "x"}]}])
def test_a_line_says_the_same_whatever_the_form_of_the_error(stream: io.StringIO, body: Any) -> None:
    handle([wire.request(body)])
    (line,) = lines(stream)
    assert line["level"] == "WARNING"
    assert line["message"].startswith(("Expected `float`", "Object missing required field"))
    assert line["path"].startswith("$.")


def test_what_others_log_below_warning_stays_out(stream: io.StringIO) -> None:
    logging.getLogger("ts").info("chatter")
    logging.getLogger("ts").warning("trouble")
    assert [line["message"] for line in lines(stream)] == ["trouble"]


def test_many_failed_requests_are_counted_instead_of_logged(stream: io.StringIO) -> None:
    now = [0.0]
    handler = ModelHandler(LINE, Formula(LINE), Codec(LINE, MAX_ROWS), [log_requests(clock=lambda: now[0])])
    empty = wire.request(b"")
    for _ in range(LINES):
        handler.handle([BAD, BAD, empty, GOOD])
    assert len(lines(stream)) == LINES
    now[0] = WINDOW
    handler.handle([BAD])
    told, line = lines(stream)[LINES:]
    assert told["message"] == "more failed requests that were not logged, by reason"
    assert sum(told["failed_requests"].values()) == 2 * LINES
    assert len(told["failed_requests"]) == 2
    assert line["reason"] in told["failed_requests"]
    handler.handle([BAD])  # the counts are told once
    assert len(lines(stream)) == LINES + 3
