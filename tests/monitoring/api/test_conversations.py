"""Conversations arrive as events, and thumbs as feedback; nothing that was said is told to others."""

import logging
from pathlib import Path
from typing import Any

import pytest

from monitoring.store.reviews import Reviews
from tests.support.chat_archive import register_echo
from tests.support.monitoring.conversations import conversation, conversation_event
from tests.support.monitoring.worlds import Monitor
from tests.support.serving.stores import add

SECRET = "the secret of it"


@pytest.fixture
def monitor(tmp_path: Path) -> Monitor:
    one = Monitor(tmp_path)
    add(one.models)
    register_echo(one.models.store, "chat", 2, 2, 0.0)
    return one


def labels(monitor: Monitor) -> dict[str, Any]:
    return {row.prediction.request_id: row.label for row in monitor.store.labelled("chat")}


def test_a_conversation_is_kept_once(monitor: Monitor) -> None:
    assert monitor.send(conversation_event("a")).json() == {"new": 1, "duplicates": 0}
    assert monitor.send(conversation_event("a")).json() == {"new": 0, "duplicates": 1}
    (kept,) = monitor.store.predictions("chat")
    assert (kept.features, kept.output) == (conversation("a").features, conversation("a").output)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"features": {}}, "$[0].data.features"),
        ({"features": {"messages": []}}, "$[0].data.features.messages"),
        ({"features": {"messages": [{"role": SECRET, "content": "x"}]}}, "$[0].data.features.messages[0].role"),
        ({"features": {"messages": [{"role": "user", "content": [SECRET]}]}}, ".messages[0].content"),
        ({"features": {"messages": [{"role": "user", "content": "x" * 200_001}]}}, "$[0].data.features.messages"),
        ({"features": {"messages": [{"role": "system", "content": SECRET}]}}, "$[0].data.features.messages"),
        ({"features": {"messages": [{"role": "user", "content": " "}]}}, "$[0].data.features.messages"),
        ({"features": {"x": SECRET}}, "$[0].data.features"),
        ({"output": SECRET}, "$[0].data.output"),
        ({"output": {"content": "x", "finish_reason": SECRET}}, "$[0].data.output.finish_reason"),
        ({"output": {"content": "x"}}, "$[0].data.output"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_place_and_not_quoted(
    monitor: Monitor, change: dict[str, Any], place: str
) -> None:
    answer = monitor.send(conversation_event("a", **change))
    assert answer.status_code == 422
    assert place in answer.text
    assert SECRET not in answer.text
    assert monitor.store.predictions("chat") == []


@pytest.mark.parametrize("id", ["a", "chatcmpl-a", "resp_a"])
def test_a_thumb_names_the_request_or_its_answer(monitor: Monitor, id: str) -> None:
    monitor.send(conversation_event("a"))
    told = {"request_id": id, "label": "up"}
    assert monitor.tell(told).json() == {"accepted": 1, "duplicates": 0, "waiting": 0}
    assert monitor.tell(told).json() == {"accepted": 0, "duplicates": 1, "waiting": 0}
    assert monitor.tell(told | {"model": "chat"}).json()["duplicates"] == 1
    assert labels(monitor) == {"a": "up"}


def test_a_client_may_call_its_request_as_answers_are_called(monitor: Monitor) -> None:
    monitor.send(conversation_event("chatcmpl-a"))
    for id in ("chatcmpl-a", "chatcmpl-chatcmpl-a"):
        assert monitor.tell({"request_id": id, "label": "up"}).json()["waiting"] == 0


def test_an_id_of_another_model_may_look_like_that_of_an_answer(monitor: Monitor) -> None:
    told = {"request_id": "chatcmpl-a", "label": 12.0, "model": "doubling"}
    assert monitor.tell(told).json()["waiting"] == 1
    assert [label.request_id for label in monitor.store.waiting([("chatcmpl-a", 0)])] == ["chatcmpl-a"]


def test_a_better_answer_is_kept_redacted(monitor: Monitor) -> None:
    monitor.send(conversation_event("a"))
    told = {"request_id": "a", "label": {"thumb": "down", "answer": "Ask a@b.example."}}
    assert monitor.tell(told).json()["accepted"] == 1
    assert monitor.tell(told).json()["duplicates"] == 1
    (found,) = Reviews(monitor.store.database).conversations("chat")
    assert found.answer == "Ask [e-mail]."


def test_a_thumb_may_come_first_and_may_change(monitor: Monitor) -> None:
    assert monitor.tell({"request_id": "chatcmpl-a", "label": "up"}).json()["waiting"] == 1
    monitor.send(conversation_event("a"))
    assert labels(monitor) == {"a": "up"}
    changed = {"request_id": "a", "label": {"thumb": "down", "answer": SECRET}}
    assert monitor.tell(changed).status_code == 409
    answer = monitor.client.post("/feedback?correct=true", json=changed)
    assert answer.json() == {"accepted": 0, "duplicates": 0, "waiting": 0, "corrected": 1}
    assert labels(monitor)["a"] == {"thumb": "down", "answer": SECRET}
    (decision,) = monitor.store.journal.decisions("chat")
    assert decision.details["labels"][0] | {} == {
        "request_id": "a",
        "row": 0,
        "was": "up",
        "is": "down, with a better answer",
    }
    refused = monitor.tell({"request_id": "a", "label": "up"})
    assert refused.status_code == 409
    assert SECRET not in refused.text


@pytest.mark.parametrize(
    "label", ["sideways", 1, True, {"thumb": "down"}, {"thumb": "down", "answer": " "}, {"thumb": "no", "answer": "x"}]
)
def test_what_is_no_thumb_is_refused(monitor: Monitor, label: Any) -> None:
    monitor.send(conversation_event("a"))
    answer = monitor.tell({"request_id": "a", "label": label})
    assert answer.status_code == 422
    assert labels(monitor) == {}


def test_a_thumb_that_a_model_of_numbers_was_told_is_not_logged(
    monitor: Monitor, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.support.monitoring.worlds import event

    monitor.tell({"request_id": "a", "label": {"thumb": "down", "answer": SECRET}})
    with caplog.at_level(logging.DEBUG):
        monitor.send(event("a"))
    assert "does not fit" in caplog.text
    assert SECRET not in caplog.text
