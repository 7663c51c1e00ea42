"""Responses: whole, or as typed events that add up to the same response."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.language.api.answers import Reason, usage
from handlers.language.api.responses.answers import ResponseAnswer
from handlers.language.api.responses.requests import parse_response_request
from handlers.language.generation import Token
from handlers.language.structured.tools import CLOSE, MIDDLE, OPEN
from handlers.language.text import Shown
from handlers.message import JSON, InputError
from tests.support.handlers.wire import dumps

TOOLS = [{"type": "function", "name": name} for name in ("f", "g")]
CALLS = f'{OPEN}f{MIDDLE}{{"a": "Grüße"}}{CLOSE}\n{OPEN}g{MIDDLE}{{}}{CLOSE}'


def answer(**members: Any) -> ResponseAnswer:
    return ResponseAnswer(parse_response_request(dumps({"input": "Hi"} | members)), "chat", "a", 7)


def whole(parts: Sequence[str | Shown], reason: Reason = "stop", **members: Any) -> Any:
    """What a response is that is told as a whole."""
    writer = answer(**members)
    assert writer.content_type == JSON
    return json.loads(written(writer, parts, reason))


def streamed(parts: Sequence[str | Shown], reason: Reason = "stop", **members: Any) -> list[Any]:
    """The events of a response."""
    return events(written(answer(stream=True, **members), parts, reason))


def written(writer: ResponseAnswer, parts: Sequence[str | Shown], reason: Reason) -> bytes:
    shown = [Shown(part) if isinstance(part, str) else part for part in parts]
    body = b"".join(writer.add(0, part) for part in shown)
    return body + writer.finish(0, Shown(""), reason) + writer.end(usage(5, 3, 2))


def events(body: bytes) -> list[Any]:
    """The data of events, whose types stand in front of it too."""
    *texts, rest = body.decode().split("\n\n")
    assert rest == ""
    pairs = [text.split("\n") for text in texts]
    told = [json.loads(data.removeprefix("data: ")) for _, data in pairs]
    assert [f"event: {event['type']}" for event in told] == [name for name, _ in pairs]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    return told


def kinds(told: Sequence[Any]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in told]


def test_a_response_has_its_text_its_numbers_and_what_was_asked() -> None:
    told = whole(["Hel", "lo"], instructions="Be kind.", metadata={"a": "b"}, store=True, max_output_tokens=9)
    assert {name: told[name] for name in ("id", "object", "created_at", "model", "status")} == {
        "id": "resp_a",
        "object": "response",
        "created_at": 7,
        "model": "chat",
        "status": "completed",
    }
    text = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
    message = {"id": "msg_a_0", "type": "message", "status": "completed", "role": "assistant", "content": [text]}
    assert told["output"] == [message]
    assert told["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 8,
    }
    assert (told["instructions"], told["metadata"], told["max_output_tokens"]) == ("Be kind.", {"a": "b"}, 9)
    assert (told["store"], told["error"], told["incomplete_details"]) == (False, None, None)


def test_one_that_is_cut_off_is_incomplete_and_says_why() -> None:
    told = whole(["Hel"], "length")
    assert (told["status"], told["output"][0]["status"]) == ("incomplete", "incomplete")
    assert told["incomplete_details"] == {"reason": "max_output_tokens"}
    assert kinds(streamed(["Hel"], "length"))[-1] == "incomplete"


def test_calls_are_items_of_their_own_and_go_on_to_be_input() -> None:
    told = whole([CALLS], tools=TOOLS)
    assert told["output"] == [
        {
            "id": f"fc_a_{i}",
            "type": "function_call",
            "status": "completed",
            "call_id": f"call_a_{i}",
            "name": name,
            "arguments": arguments,
        }
        for i, (name, arguments) in enumerate([("f", '{"a": "Grüße"}'), ("g", "{}")])
    ]
    again = parse_response_request(dumps({"input": [{"role": "user", "content": "Hi"}, *told["output"]]}))
    assert again.prompts[0][-1] == {"role": "assistant", "content": CALLS}
    text = whole(["Hello"])["output"]
    assert parse_response_request(dumps({"input": text})).prompts[0] == [{"role": "assistant", "content": "Hello"}]


def test_the_events_of_a_text_come_in_their_order() -> None:
    told = streamed(["Hel", "lo"])
    assert kinds(told) == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.done", "content_part.done", "output_item.done"),
        "completed",
    ]
    assert [event["response"]["status"] for event in told[:2]] == ["in_progress", "in_progress"]
    added, part = told[2:4]
    assert (added["item"]["content"], added["item"]["status"], added["output_index"]) == ([], "in_progress", 0)
    assert part["part"] == {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    assert {event["item_id"] for event in told[3:8]} == {added["item"]["id"]}
    assert [event["delta"] for event in told[4:6]] == ["Hel", "lo"]


def test_the_events_of_calls_come_in_their_order() -> None:
    told = streamed([CALLS], tools=TOOLS)
    call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
    assert kinds(told) == ["created", "in_progress", *call, *call, "completed"]
    assert [event["output_index"] for event in told[2:-1]] == [0] * 4 + [1] * 4
    assert (told[2]["item"]["name"], told[2]["item"]["arguments"]) == ("f", "")


@pytest.mark.parametrize("parts", [[], [""], ["", ""]])
def test_an_answer_without_a_text_is_an_empty_message(parts: list[str]) -> None:
    for tools in ([], TOOLS):
        assert [part["text"] for part in whole(parts, tools=tools)["output"][0]["content"]] == [""]
        assert streamed(parts, tools=tools)[-1]["response"]["output"][0]["content"][0]["text"] == ""


def test_a_text_has_the_log_probabilities_of_its_tokens() -> None:
    token = Token("a", 1, b"Hi", -0.5, ((2, b"Ho", -1.5),))
    parts = [Shown("Hi", [token])]
    likely = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}
    logprobs = [likely | {"top_logprobs": [{"token": "Ho", "logprob": -1.5, "bytes": [72, 111]}]}]
    for tools in ([], TOOLS):
        (item,) = whole(parts, tools=tools, top_logprobs=1)["output"]
        assert item["content"][0]["logprobs"] == logprobs
    delta = next(event for event in streamed(parts, top_logprobs=1) if event["type"].endswith("delta"))
    assert delta["logprobs"] == logprobs
    assert whole(parts)["output"][0]["content"][0]["logprobs"] == []


SPLITS = st.lists(st.integers(0, len(CALLS)), max_size=8).map(sorted)


@given(
    text=st.sampled_from([CALLS, "Hello, 世界", f"Hm {CALLS}", CALLS[:-5], OPEN, OPEN[:4]]),
    at=SPLITS,
    reason=st.sampled_from(["stop", "length"]),
    tools=st.sampled_from([[], TOOLS]),
)
def test_however_a_text_comes_its_events_add_up_to_the_whole(
    text: str, at: list[int], reason: Reason, tools: list[Any]
) -> None:
    parts = [text[start:end] for start, end in zip([0, *at], [*at, len(text)], strict=True)]
    told = streamed(parts, reason, tools=tools)
    response = told[-1]["response"]
    assert response == whole([text], reason, tools=tools)
    assert response["output"] == [event["item"] for event in told if event["type"] == "response.output_item.done"]
    for i, item in enumerate(response["output"]):
        deltas = "".join(event["delta"] for event in told if event.get("output_index") == i and "delta" in event)
        assert deltas == (item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"])


def test_one_that_fails_later_ends_with_the_reason() -> None:
    error = InputError("internal", "the engine failed")
    writer = answer(stream=True)
    told = events(writer.add(0, Shown("Hel")) + writer.fail(error))
    assert kinds(told)[-1] == "failed"
    failed = told[-1]["response"]
    assert (failed["status"], failed["error"]) == ("failed", {"code": "server_error", "message": "the engine failed"})
    assert kinds(events(answer(stream=True).fail(error))) == ["created", "in_progress", "failed"]
    alone = json.loads(answer().fail(error))
    assert alone["error"]["message"] == "the engine failed"
