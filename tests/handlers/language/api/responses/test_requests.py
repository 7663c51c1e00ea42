"""Requests of the Responses API ask what chat completions ask; what is not offered is refused with its place."""

from typing import Any

import pytest

from handlers.language.api import requests
from handlers.language.api.responses.requests import ResponseTextRequest, parse_response_request
from handlers.language.generation import Constraint, Sampling
from handlers.message import InputError
from tests.support.handlers.wire import dumps

HI = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
FLAT: dict[str, Any] = {"type": "function", "name": "f", "description": "Do it.", "parameters": PARAMETERS}
NESTED: dict[str, Any] = {"type": "function", "function": {key: FLAT[key] for key in FLAT if key != "type"}}


def response(**members: Any) -> ResponseTextRequest:
    return parse_response_request(dumps({"input": "Hi"} | members))


def chat(**members: Any) -> requests.TextRequest:
    return requests.chat(dumps({"messages": HI} | members))


def test_a_bare_request_has_the_apis_defaults() -> None:
    asked = response()
    assert (asked.kind, asked.prompts, asked.max_tokens, asked.stop) == ("response", [HI], None, [])
    assert (asked.sampling, asked.stream, asked.tools, asked.n) == (Sampling(), False, False, 1)
    assert asked.path() == "$.input"


def test_every_parameter_is_understood() -> None:
    asked = response(
        model="gpt-4o",
        user="me",
        safety_identifier="me",
        prompt_cache_key="me",
        metadata={"a": "b"},
        store=True,
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.9,
        top_logprobs=3,
        include=["message.output_text.logprobs", "reasoning.encrypted_content"],
        stream=True,
        stream_options={"include_obfuscation": False},
        text={"format": {"type": "text"}, "verbosity": "medium"},
        truncation="disabled",
        reasoning={"effort": None, "summary": None},
    )
    assert (asked.max_tokens, asked.stream) == (9, True)
    assert asked.sampling == Sampling(0.5, 0.9, logprobs=3)
    assert response(include=["message.output_text.logprobs"]).sampling.logprobs == 0


CALL: dict[str, Any] = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"}
ITEMS = [
    {"role": "developer", "content": "Be brief."},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Call"}]},
    {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Now.", "annotations": [], "logprobs": []}],
    },
    CALL | {"status": "completed"},
    CALL | {"call_id": "call_2", "caller": None, "namespace": None, "async_": None},
    {"type": "function_call_output", "call_id": "call_1", "output": "5"},
    {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "6"}]},
    {"role": "assistant", "content": "It is 5 and 6."},
    {"role": "user", "content": "Thanks"},
]
CALLS = [{"id": ident, "type": "function", "function": {"name": "f", "arguments": "{}"}} for ident in "ab"]
MESSAGES = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "Call"},
    {"role": "assistant", "content": "Now.", "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "a", "content": "5"},
    {"role": "tool", "tool_call_id": "b", "content": "6"},
    {"role": "assistant", "content": "It is 5 and 6."},
    {"role": "user", "content": "Thanks"},
]


def test_items_are_the_conversation_that_messages_are() -> None:
    assert response(input=ITEMS).prompts == chat(messages=MESSAGES).prompts
    alone: list[dict[str, Any]] = [*HI, {"role": "assistant", "content": "", "tool_calls": CALLS[:1]}]
    assert response(input=[*HI, CALL]).prompts == chat(messages=alone).prompts


def test_instructions_are_the_beginning_of_the_system_message() -> None:
    system = {"role": "system", "content": "Be kind."}
    assert response(instructions="Be kind.").prompts == [[system, *HI]]
    both = response(instructions="Be kind.", input=[{"role": "system", "content": "Be brief."}, *HI])
    assert both.prompts == [[{"role": "system", "content": "Be kind.\n\nBe brief."}, *HI]]


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"tool_choice": "auto"},
        {"tool_choice": "required", "parallel_tool_calls": False},
        {"tool_choice": "none"},
    ],
)
@pytest.mark.parametrize("strict", [None, True, False])
def test_tools_are_told_and_held_to_as_in_a_chat_completion(members: dict[str, Any], strict: bool | None) -> None:
    flat, nested = FLAT | {"strict": strict}, {**NESTED, "function": NESTED["function"] | {"strict": strict}}
    mine, other = response(tools=[flat], **members), chat(tools=[nested], **members)
    assert (mine.prompts, mine.sampling, mine.tools) == (other.prompts, other.sampling, other.tools)


def test_a_function_is_chosen_by_its_name() -> None:
    flat = response(tools=[FLAT, FLAT | {"name": "g"}], tool_choice={"type": "function", "name": "f"})
    nested = chat(tools=[NESTED], tool_choice={"type": "function", "function": {"name": "f"}})
    assert (flat.prompts, flat.sampling) == (nested.prompts, nested.sampling)


def test_an_answer_can_be_held_to_json_or_a_schema() -> None:
    form = {"type": "json_schema", "name": "x", "description": "y", "schema": SCHEMA, "strict": True}
    held = response(text={"format": form}).sampling.constraint
    assert held == Constraint("json_schema", dumps(SCHEMA).decode())
    assert held.path == "$.text.format.schema"
    assert (
        response(text={"format": {"type": "json_object"}}).sampling.constraint
        == chat(response_format={"type": "json_object"}).sampling.constraint
    )
    for free in ({}, {"format": None}, {"format": {"type": "text"}}):
        assert response(text=free).sampling.constraint is None


# Every parameter of "Create a model response" that may be null.
NULLS = [
    "background", "conversation", "include", "instructions", "max_output_tokens", "max_tool_calls", "metadata",
    "moderation", "parallel_tool_calls", "previous_response_id", "prompt", "prompt_cache_key", "prompt_cache_retention",
    "reasoning", "safety_identifier", "service_tier", "store", "stream", "stream_options", "temperature", "text",
    "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user",
]  # fmt: skip


@pytest.mark.parametrize("name", NULLS)
def test_null_is_as_if_it_were_not_there(name: str) -> None:
    assert response(**{name: None}) == response()


NEUTRAL: list[dict[str, Any]] = [
    {"background": False, "service_tier": "auto", "truncation": "disabled"},
    {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
    {"reasoning": {}, "include": [], "metadata": {}, "stream": False, "store": False},
    {"n": 1, "stop": []},
]


@pytest.mark.parametrize("members", NEUTRAL, ids=str)
def test_what_asks_for_nothing_passes(members: dict[str, Any]) -> None:
    asked, bare = response(**members), response()
    assert (asked.prompts, asked.sampling, asked.tools) == (bare.prompts, bare.sampling, bare.tools)


PART = {"type": "input_image", "image_url": "data:"}
BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"input": ""}, "empty", "$.input"),
    ({"input": []}, "empty", "$.input"),
    ({"input": None}, "wrong_type", "$.input"),
    ({"input": 5}, "wrong_type", "$.input"),
    ({"input": ["Hi"]}, "wrong_type", "$.input[0]"),
    ({"input": [{}]}, "missing_field", "$.input[0].role"),
    ({"input": [{"role": "tool", "content": "x"}]}, "unknown_category", "$.input[0].role"),
    ({"input": [{"role": "user", "content": None}]}, "wrong_type", "$.input[0].content"),
    ({"input": [{"role": "user", "content": [PART]}]}, "unknown_category", "$.input[0].content[0].type"),
    ({"input": [{"role": "user", "content": "x", "nonsense": 1}]}, "unknown_field", "$.input[0].nonsense"),
    ({"input": [{"role": "user", "content": "x", "caller": {"type": "program"}}]}, "unsupported_value", "[0].caller"),
    ({"input": [{"type": "reasoning", "summary": []}]}, "unsupported_value", "$.input[0]"),
    ({"input": [{"type": ["message"]}]}, "unsupported_value", "$.input[0]"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "unsupported_value", "$.input[0]"),
    ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "missing_field", "$.input[0].call_id"),
    ({"input": [{"type": "function_call_output", "call_id": "a"}]}, "missing_field", "$.input[0].output"),
    ({"previous_response_id": "resp_1"}, "unsupported_value", "$.previous_response_id"),
    ({"conversation": {"id": "conv_1"}}, "unsupported_value", "$.conversation"),
    ({"background": True}, "unsupported_value", "$.background"),
    ({"truncation": "auto"}, "unsupported_value", "$.truncation"),
    ({"reasoning": {"effort": "high"}}, "unsupported_value", "$.reasoning"),
    ({"service_tier": "flex"}, "unsupported_value", "$.service_tier"),
    ({"include": ["file_search_call.results"]}, "unknown_category", "$.include[0]"),
    ({"metadata": {"a": 1}}, "wrong_type", "$.metadata[...]"),
    ({"max_output_tokens": 0}, "out_of_range", "$.max_output_tokens"),
    ({"temperature": 2.1}, "out_of_range", "$.temperature"),
    ({"top_p": 0}, "out_of_range", "$.top_p"),
    ({"top_logprobs": 21}, "out_of_range", "$.top_logprobs"),
    ({"text": {"format": {"type": "grammar"}}}, "unknown_category", "$.text.format.type"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "missing_field", "$.text.format.schema"),
    (
        {"text": {"format": {"type": "json_schema", "schema": {"description": "x" * 70_000}}}},
        "out_of_range",
        "$.text.format.schema",
    ),
    ({"text": {"verbosity": "high"}}, "unknown_category", "$.text.verbosity"),
    ({"tools": [{"type": "web_search"}]}, "unknown_category", "$.tools[0].type"),
    ({"tools": [NESTED]}, "unknown_field", "$.tools[0].function"),
    ({"tools": [FLAT | {"name": "a b"}]}, "wrong_type", "$.tools[0].name"),
    ({"tools": [FLAT, FLAT]}, "invalid_parameter", "$.tools"),
    ({"tools": [FLAT], "text": {"format": {"type": "json_object"}}}, "invalid_parameter", "$.tools"),
    ({"tools": [FLAT], "tool_choice": "any"}, "unknown_category", "$.tool_choice"),
    ({"tools": [FLAT], "tool_choice": {"type": "function", "name": "g"}}, "invalid_parameter", "$.tool_choice.name"),
    ({"tool_choice": "required"}, "invalid_parameter", "$.tool_choice"),
    ({"stop": ["a"]}, "unsupported_value", "$.stop"),
    ({"max_tokens": 5}, "unknown_field", "$.max_tokens"),
    ({"messages": HI}, "unknown_field", "$.messages"),
]


@pytest.mark.parametrize(("members", "code", "path"), BAD, ids=[str(bad[0])[:60] for bad in BAD])
def test_what_is_not_offered_is_refused_with_its_place(members: dict[str, Any], code: str, path: str) -> None:
    with pytest.raises(InputError) as caught:
        response(**members)
    assert (caught.value.code, caught.value.path[-len(path) :]) == (code, path)


def test_a_request_without_input_is_told_so() -> None:
    with pytest.raises(InputError) as caught:
        parse_response_request(b"{}")
    assert (caught.value.code, caught.value.path) == ("missing_field", "$.input")


@pytest.mark.parametrize(
    ("members", "right"),
    [
        ({"nonsense": 1}, "max_output_tokens"),
        ({"previous_response_id": "resp_1"}, "the whole conversation"),
        ({"input": [{"type": "item_reference", "id": "a"}]}, "store: false"),
        ({"input": [{"role": "user", "content": [PART]}]}, "input_text"),
        ({"tools": [{"type": "web_search"}]}, "function"),
        ({"text": {"format": {"type": "xml"}}}, "json_schema"),
        ({"input": [{"role": "tool", "content": "x"}]}, "user or assistant"),
    ],
    ids=str,
)
def test_an_error_says_what_would_have_been_right(members: dict[str, Any], right: str) -> None:
    with pytest.raises(InputError) as caught:
        response(**members)
    assert right in caught.value.expected
