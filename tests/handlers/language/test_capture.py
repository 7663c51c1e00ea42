"""Conversations are captured whole, redacted, and only where their client and the owner of the service said so."""

import json
import logging
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from handlers.language.handler import ChatHandler
from handlers.language.template import ChatTemplate
from handlers.message import JSON, NEXT, Request, Response
from handlers.observe.capture import Capture, capture_of
from handlers.observe.redaction import RedactionError, redact
from handlers.observe.sink import Sink
from tests.support.chat_archive import contract, echoed
from tests.support.handlers.echo_engine import SMOLLM2, EchoEngine
from tests.support.handlers.models import LINE
from tests.support.handlers.wire import dumps

CHAT, RESPONSES, COMPLETIONS = "v1/chat/completions", "v1/responses", "v1/completions"
MODEL = contract("chat", echoed("Hello"))
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "I am a@b.example"}]
KEPT = [ASKED[0], {"role": "user", "content": "I am [e-mail]"}]


class Kept(Sink):
    """A receiver that keeps the data of events."""

    def __init__(self) -> None:
        self.data: list[dict[str, Any]] = []

    def post(self, body: bytes) -> None:
        self.data += [event["data"] for event in json.loads(body)]

    def close(self) -> None:
        pass


class World:
    """A handler on the echo, whose conversations are captured."""

    def __init__(self, sample: float = 1.0, redact: Any = redact) -> None:
        self.kept, self.registry = Kept(), CollectorRegistry()
        self.capture = Capture(MODEL, self.kept, self.registry, sample, 1e6, chance=lambda: 0.5, redact=redact)
        engine = EchoEngine(context=400_000)
        self.handler = ChatHandler(MODEL, engine, ChatTemplate(SMOLLM2, engine.tokenize), [self.capture])

    def ask(self, path: str = CHAT, headers: Any = (), **body: Any) -> Response:
        """Ask to the end, and return the answer as one part."""
        if path == CHAT:
            body = {"messages": ASKED} | body
        request = Request(dumps(body), {"content-type": JSON, "url_path": path, **dict(headers)}, {}, "own")
        parts = self.handler.handle([request])
        while parts[-1] is None or parts[-1].headers.get(NEXT) == "true":
            parts += self.handler.handle([request._replace(body=b"")])
        told = [part for part in parts if part]
        return told[-1]._replace(body=b"".join(part.body for part in told))

    def captured(self) -> list[dict[str, Any]]:
        self.capture.flush()
        return self.kept.data

    def dropped(self, reason: str) -> float | None:
        names = {"model": "chat", "version": "1.0", "reason": reason}
        return self.registry.get_sample_value("model_capture_dropped_rows_total", names)


def test_a_conversation_is_captured_redacted_where_its_client_consents() -> None:
    world = World()
    answer = json.loads(world.ask(store=True).body)
    (data,) = world.captured()
    assert data == {
        "request_id": "own",
        "row": 0,
        "model": "chat",
        "version": "1.0",
        "features": {"messages": KEPT},
        "output": {"content": redact(answer["choices"][0]["message"]["content"]), "finish_reason": "stop"},
    }
    assert "[e-mail]" in data["output"]["content"]


@pytest.mark.parametrize("consent", [{}, {"store": False}, {"store": None}])
def test_without_consent_nothing_is_kept(consent: dict[str, Any]) -> None:
    world = World()
    assert world.ask(**consent).status == 200
    assert world.ask(RESPONSES, input="Who?", **consent).status == 200
    assert world.ask(COMPLETIONS, prompt="Who?").status == 200
    assert world.captured() == []


def test_a_stream_is_captured_whole_at_its_end() -> None:
    whole, stream = World(), World()
    whole.ask(store=True)
    assert b"[DONE]" in stream.ask(store=True, stream=True).body
    assert stream.captured() == whole.captured() != []


def test_a_stream_whose_client_left_is_not_captured() -> None:
    world = World()
    request = Request(dumps({"messages": ASKED, "store": True, "stream": True}), {"url_path": CHAT}, {}, "own")
    for _ in range(3):
        world.handler.handle([request])
    world.handler.handle([])
    assert world.captured() == []


def test_the_responses_api_consents_in_the_same_words() -> None:
    world = World()
    answer = json.loads(world.ask(RESPONSES, input="Who?", instructions="Be brief.", store=True).body)
    (data,) = world.captured()
    assert data["features"]["messages"] == [ASKED[0], {"role": "user", "content": "Who?"}]
    assert answer["id"] == "resp_own"


def test_a_text_that_a_stop_string_ends_is_captured_as_it_was_shown() -> None:
    world = World()
    answer = json.loads(world.ask(store=True, stop=["@b"]).body)["choices"][0]["message"]["content"]
    assert answer
    assert [data["output"]["content"] for data in world.captured()] == [answer]


def test_each_of_several_answers_is_a_row() -> None:
    world = World()
    world.ask(store=True, n=2, max_tokens=3)
    assert [(data["row"], data["output"]["finish_reason"]) for data in world.captured()] == [
        (0, "length"),
        (1, "length"),
    ]


def test_a_failed_answer_is_not_captured() -> None:
    world = World()
    assert world.ask(store=True, messages=[{"role": "user", "content": "FAIL"}]).status == 500
    assert world.captured() == []


def test_the_id_of_an_answer_is_the_one_that_feedback_names() -> None:
    world = World()
    answer = json.loads(world.ask(headers={"x-request-id": "trip-7"}, store=True).body)
    (data,) = world.captured()
    assert answer["id"] == f"chatcmpl-{data['request_id']}" == "chatcmpl-trip-7"


def test_what_a_page_of_another_site_sends_is_not_captured() -> None:
    world = World()
    world.ask(headers={"sec-fetch-site": "cross-site"}, store=True)
    world.ask(headers={"x-marloop-capture": "off"}, store=True)
    assert world.captured() == []


def test_the_sample_draws_among_those_that_consent() -> None:
    world = World(sample=0.5)  # and chance draws 0.5
    world.ask(store=True)
    assert world.captured() == []


def test_a_conversation_whose_redaction_fails_is_dropped_and_counted_and_no_log_quotes_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(text: str) -> str:
        raise RedactionError("the redaction failed with ValueError")

    world = World(redact=fail)
    with caplog.at_level(logging.DEBUG):
        world.ask(store=True)
        assert world.captured() == []
    assert world.dropped("redaction") == 1
    assert "is dropped: the redaction failed" in caplog.text
    assert "b.example" not in caplog.text


def test_a_conversation_that_is_too_long_is_dropped_and_counted() -> None:
    world = World()
    world.ask(store=True, max_tokens=4, messages=[{"role": "user", "content": "long " * 25_000}])
    assert world.captured() == []
    assert world.dropped("large") == 1


@pytest.mark.parametrize(
    "messages", [[{"role": "user", "content": " "}], [*ASKED, {"role": "assistant", "content": "I"}]]
)
def test_what_nothing_could_be_learned_from_is_left_out(messages: Any) -> None:
    world = World()
    assert world.ask(store=True, messages=messages).status == 200
    assert world.captured() == []


def test_the_owner_switches_it_on() -> None:
    sink, switched = {"CAPTURE_URL": "http://127.0.0.1:1/events"}, {"MARLOOP_CAPTURE_CONVERSATIONS": "on"}
    assert capture_of(MODEL, sink, CollectorRegistry()) is None
    assert capture_of(MODEL, switched, CollectorRegistry()) is None
    assert capture_of(MODEL, sink | switched, CollectorRegistry())
    assert capture_of(LINE, sink, CollectorRegistry())
    with pytest.raises(ValueError, match="redaction"):
        capture_of(MODEL, sink | switched | {"MARLOOP_CAPTURE_REDACTION": "/nowhere.py"}, CollectorRegistry())
