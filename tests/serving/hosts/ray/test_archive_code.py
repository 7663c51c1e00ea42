"""A handler from elsewhere is called as TorchServe calls it; others by their core."""

import json
import sys
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from serving.hosts.ray.archive_code import (
    METRICS,
    MULTIPROCESS,
    Called,
    Request,
    core_of,
    handle_of,
    measure_here,
    messages_of,
    with_threads,
)


class Handler:
    """As one writes it for TorchServe."""

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[Any]:
        context.set_response_content_type(0, "text/plain")
        context.set_response_status(code=418, phrase="I'm a teapot", idx=1)
        return [parts["body"].decode().upper() for parts in data]


def test_a_handler_from_elsewhere_answers_each_request_of_a_batch() -> None:
    core = core_of(Handler())
    answers = core.handle([Request(b"a", {}), Request(b"b", {})], [0.0, 0.0])
    assert [(answer.status, answer.body, answer.content_type) for answer in answers] == [
        (200, b"A", "text/plain"),
        (418, b"B", "application/json"),
    ]


def test_a_handler_that_fails_fails_its_batch_and_says_why() -> None:
    def fail(data: Any, context: Any) -> Any:
        raise ValueError("no such thing")

    (answer,) = Called(SimpleNamespace(handle=fail)).handle([Request(b"a", {})])
    assert answer.status == 500
    assert json.loads(answer.body)["error"]["message"] == "ValueError: no such thing"


def test_what_is_no_text_is_written_as_json() -> None:
    (answer,) = Called(SimpleNamespace(handle=lambda data, context: [{"b": 1}])).handle([Request(b"a", {})])
    assert json.loads(answer.body) == {"b": 1}


def test_the_core_of_an_archive_is_taken_also_where_it_was_private() -> None:
    core = SimpleNamespace(handle=lambda requests: ["answered"])
    assert core_of(SimpleNamespace(handler=core)) is core
    assert core_of(SimpleNamespace(_handler=core)) is core
    assert handle_of(core)([], []) == ["answered"]  # it does not take how long each waited


class FormerRequest(NamedTuple):
    """As a release had it before queries were handed on."""

    body: bytes
    headers: dict[str, str]
    form: dict[str, bytes]
    id: str


def test_an_archive_of_a_former_release_gets_its_own_requests_and_errors_of_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "handlers.message", SimpleNamespace(Request=FormerRequest))
    messages = messages_of()
    request = messages.Request(b"a", {}, {"top": b"1"}, "id", (messages.Part("top", b"1"),))
    assert request == FormerRequest(b"a", {}, {"top": b"1"}, "id")
    fault = messages.InputError("too_large", "the body is too large")
    answer = messages.error_response(fault, request, as_text=False)
    assert (answer.status, json.loads(answer.body)["error"]["request_id"]) == (413, "id")


def test_threads_are_given_unless_the_archive_names_them() -> None:
    assert with_threads({}, 2)["handler"] == {"threads": 2}
    assert with_threads({"handler": {"threads": 4}}, 2)["handler"] == {"threads": 4}
    assert with_threads({"continuousBatching": True}, 2)["handler"] == {}


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({MULTIPROCESS: "/heads", METRICS: "/own"}, "/own"),
        ({MULTIPROCESS: "/heads"}, "/heads"),  # a cluster of somebody else's
        ({METRICS: "/own"}, None),  # without telemetry
    ],
)
def test_a_replica_measures_into_the_folder_of_its_own_node(environ: dict[str, str], folder: str | None) -> None:
    measure_here(environ)
    assert environ.get(MULTIPROCESS) == folder
