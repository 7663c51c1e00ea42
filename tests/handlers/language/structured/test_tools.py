"""Calls of tools: how they are asked for, held to their schemas, and read."""

import json
import random
from typing import Any

import pytest

from handlers.language.api import requests
from handlers.language.api.answers import usage
from handlers.language.api.requests import TextRequest
from handlers.language.api.routes import answer_of
from handlers.language.generation import Constraint, ConstraintError
from handlers.language.structured.grammars import Grammars
from handlers.language.structured.tools import CLOSE, MIDDLE, OPEN, CallReader, Said
from handlers.language.text import Shown
from tests.support.handlers.wire import dumps

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 9}, "days": {"type": "integer", "maximum": 9}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
TIME = {"type": "function", "function": {"name": "time"}}
ASKED = [{"role": "user", "content": "Is it warm?"}]


def chat(**members: Any) -> TextRequest:
    return requests.chat(dumps({"messages": ASKED} | members))


def call(name: str, arguments: str) -> str:
    return OPEN + name + MIDDLE + arguments + CLOSE


OSLO, NOW = call("get_weather", '{"city": "Oslo"}'), call("time", "{}")


def test_the_tools_are_told_in_the_system_message_and_what_they_answered_in_a_users() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        *ASKED,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}},
                {"id": "2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "5 degrees"},
    ]
    prompt: Any = chat(messages=messages, tools=[WEATHER, TIME]).prompts[0]
    assert not isinstance(prompt, str)
    system, asked, said, answered = prompt
    assert system["content"].startswith("Be brief.\n\nYou may call functions.")
    assert '"name":"get_weather","description":"The weather of a place."' in system["content"]
    assert asked == ASKED[0]
    assert said == {"role": "assistant", "content": f"{OSLO}\n{NOW}"}
    assert answered == {"role": "user", "content": "<tool_response>\n5 degrees\n</tool_response>"}


@pytest.mark.parametrize("members", [{}, {"tools": []}, {"tools": [WEATHER], "tool_choice": "none"}])
def test_without_tools_nothing_is_told_or_held(members: dict[str, Any]) -> None:
    asked = chat(**members)
    assert (asked.prompts[0], asked.sampling.constraint, asked.tools) == (ASKED, None, False)


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    pytest.importorskip("llguidance", reason="llguidance is not installed: it comes with the extra chat")
    from tests.handlers.language.structured.test_grammars import Bytes

    return Grammars(Bytes())


def can_be(grammars: Grammars, constraint: Constraint | None, text: str) -> bool:
    """Whether an answer can be said, and end there."""
    assert constraint
    answer = grammars.begin(constraint)
    for byte in text.encode():
        if byte not in answer.allowed():
            return False
        answer.take(byte)
    return 0 in answer.allowed()


NAMED = {"type": "function", "function": {"name": "time"}}


@pytest.mark.parametrize(
    ("members", "right", "wrong"),
    [
        ({}, [OSLO, NOW, f"{OSLO}\n{NOW}", "It is warm.", "5 < 6", ""], ["<tool_call> no"]),
        ({"tool_choice": "auto"}, [OSLO, "It is warm."], [call("get_weather", '{"town": "Oslo"}')]),
        ({"tool_choice": "required"}, [OSLO, NOW], ["It is warm.", ""]),
        ({"tool_choice": NAMED}, [NOW], [OSLO, "It is warm."]),
        ({"parallel_tool_calls": False}, [OSLO, f"{NOW}\n"], [f"{OSLO}\n{NOW}"]),
        ({"tool_choice": "required"}, [call("time", "{ }")], [call("time", '{"a": 1}'), call("tim", "{}")]),
        ({}, [], [call("get_weather", '{"city": "Oslo", "days": 10}'), call("get_weather", "{}"), OSLO[:-1]]),
    ],
)
def test_an_answer_is_a_call_that_fits_or_a_text(
    grammars: Grammars, members: dict[str, Any], right: list[str], wrong: list[str]
) -> None:
    constraint = chat(tools=[WEATHER, TIME], **members).sampling.constraint
    assert [text for text in right if not can_be(grammars, constraint, text)] == []
    assert [text for text in wrong if can_be(grammars, constraint, text)] == []


def test_what_a_schema_cannot_say_is_refused_where_it_is_strict_and_left_out_elsewhere(grammars: Grammars) -> None:
    function = {"name": "f", "parameters": {"type": "object", "not": {}}}
    for strict in (True, False):
        held = chat(tools=[{"type": "function", "function": function | {"strict": strict}}]).sampling.constraint
        assert held is not None
        if strict:
            with pytest.raises(ConstraintError, match="Unimplemented keys"):
                grammars.check(held)
        else:
            assert can_be(grammars, held, call("f", '{"x": 1}'))


ANSWERS = {
    "a text": ("It is warm.", [Said(-1, "It is warm.")]),
    "nothing": ("", []),
    "a text with a mark": ("5 < 6 <tool_call>", [Said(-1, "5 < 6 <tool_call>")]),
    "the beginning of a mark": ("<tool", [Said(-1, "<tool")]),
    "a call": (OSLO, [Said(0, name="get_weather"), Said(0, '{"city": "Oslo"}')]),
    "two calls": (
        f"{OSLO}\n{NOW}\n",
        [Said(0, name="get_weather"), Said(0, '{"city": "Oslo"}'), Said(1, name="time"), Said(1, "{}")],
    ),
    "a mark within": (
        call("f", '{"a": "}</tool_call>", "b": {"c": 1}}'),
        [Said(0, name="f"), Said(0, '{"a": "}</tool_call>", "b": {"c": 1}}')],
    ),
    "cut off": (OSLO[:-20], [Said(0, name="get_weather"), Said(0, '{"city": "Oslo"}'[:-1])]),
    "cut off in the name": (OPEN + "get", []),
}


def joined(parts: list[Said]) -> list[Said]:
    """Parts with neighbours of one call put together."""
    whole: list[Said] = []
    for part in parts:
        if whole and not part.name and not whole[-1].name and whole[-1].call == part.call:
            whole[-1] = Said(part.call, whole[-1].text + part.text)
        else:
            whole.append(part)
    return whole


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_alike_however_it_comes(name: str) -> None:
    text, expected = ANSWERS[name]
    if name == "cut off":
        text = OPEN + "get_weather" + MIDDLE + '{"city": "Oslo"'
    drawn = random.Random(1)
    for size in (1, 2, 7, 1000, *(drawn.randint(1, 30) for _ in range(20))):
        reader = CallReader()
        parts = [part for i in range(0, len(text), size) for part in reader.add(text[i : i + size])]
        assert joined(parts + reader.end()) == expected


def written(text: str, stream: bool, size: int = 5, reason: Any = "stop") -> Any:
    """The body of an answer, as a client decodes it."""
    answer = answer_of(chat(tools=[WEATHER, TIME], stream=stream), "chat", "7", 0)
    sent = b"".join(answer.add(0, Shown(text[i : i + size])) for i in range(0, len(text), size))
    sent += answer.finish(0, Shown(""), reason) + answer.end(usage(1, 2, 0))
    if not stream:
        return json.loads(sent)["choices"][0]
    *events, done = sent.decode().split("\n\n")[:-1]
    assert done == "data: [DONE]"
    return [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]


def test_calls_are_written_whole_in_openais_form() -> None:
    choice = written(f"{OSLO}\n{NOW}", stream=False)
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    assert choice["message"]["tool_calls"] == [
        {
            "id": "call_7_0",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
        },
        {"id": "call_7_1", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]
    text = written("It is warm.", stream=False)
    assert (text["finish_reason"], text["message"]) == ("stop", {"role": "assistant", "content": "It is warm."})
    assert written(OSLO[:-20], stream=False, reason="length")["finish_reason"] == "length"


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_calls_are_streamed_as_they_come(size: int) -> None:
    choices = written(f"{OSLO}\n{NOW}", stream=True, size=size)
    assert choices[0]["delta"]["role"] == "assistant"
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["tool_calls"]
    calls = [part for choice in choices for part in choice["delta"].get("tool_calls", [])]
    for choice in choices:  # LangChain joins those of several parts, and not two of one
        indices = [part["index"] for part in choice["delta"].get("tool_calls", [])]
        assert len(set(indices)) == len(indices)
    begun = [(part["index"], part["id"], part["function"]["name"]) for part in calls if "id" in part]
    assert begun == [(0, "call_7_0", "get_weather"), (1, "call_7_1", "time")]
    arguments = {0: "", 1: ""}
    for part in calls:
        arguments[part["index"]] += part["function"]["arguments"]
    assert arguments == {0: '{"city": "Oslo"}', 1: "{}"}
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == ""
    assert len(calls) > 3 or size == 1000
    texts = written("It is warm.", stream=True, size=size)
    assert "".join(choice["delta"].get("content") or "" for choice in texts) == "It is warm."
    assert texts[-1]["finish_reason"] == "stop"
