"""Posting to a sink."""

import contextlib
import socket
from contextlib import closing

import pytest

from handlers.observe.sink import RefusedError, Sink, SinkError
from serving.ports import free_ports
from tests.support.sinks import sink
from tests.support.waiting import wait_until


def test_batches_go_over_one_connection_with_their_content_type_and_token() -> None:
    with sink() as received, closing(Sink(received.url, "secret")) as one:
        one.post(b"[1]")
        one.post(b"[2]")
    assert received.bodies == [[1], [2]]
    assert received.connections == 1
    for headers in received.headers:
        assert headers["content-type"] == "application/cloudevents-batch+json"
        assert headers["authorization"] == "Bearer secret"


def test_without_a_token_none_is_sent() -> None:
    with sink() as received, closing(Sink(received.url)) as one:
        one.post(b"[]")
    assert "authorization" not in received.headers[0]


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_an_answer_that_may_change_asks_for_another_attempt(status: int) -> None:
    with sink() as received, closing(Sink(received.url)) as one:
        received.statuses = [status]
        with pytest.raises(SinkError, match=f"{status}: {{}}"):
            one.post(b"[]")
        one.post(b"[]")


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 301])
def test_an_answer_that_will_not_change_is_a_refusal(status: int) -> None:
    with sink() as received, closing(Sink(received.url)) as one:
        received.statuses = [status]
        with pytest.raises(RefusedError, match=str(status)):
            one.post(b"[]")


def test_a_sink_that_is_away_hangs_or_talks_nonsense_is_an_error_and_the_next_attempt_is_a_new_one() -> None:
    (port,) = free_ports(1)
    one = Sink(f"http://127.0.0.1:{port}/events", timeout=0.2)
    with pytest.raises(SinkError, match="ConnectionRefusedError"):
        one.post(b"[]")
    with socket.create_server(("127.0.0.1", port)), pytest.raises(SinkError, match="TimeoutError"):
        one.post(b"[]")

    def arrives() -> bool:
        with contextlib.suppress(SinkError):  # on a busy machine also this one is late
            one.post(b"[]")
            return True
        return False

    with sink(port) as received, closing(one):
        wait_until(arrives)
    assert received.bodies[-1] == []


@pytest.mark.parametrize("url", ["127.0.0.1:8090/events", "ftp://host/events", "http://", "events"])
def test_a_url_that_is_none_is_refused_by_the_variables_name(url: str) -> None:
    with pytest.raises(ValueError, match="CAPTURE_URL is .*; it must be a URL such as http"):
        Sink(url)
