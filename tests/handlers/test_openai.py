"""Requests in OpenAI's form: what is read of them, and what is refused."""

from typing import Any

import pytest

from handlers import openai
from handlers.generation import Sampling
from handlers.message import InputError
from tests.handlers.wire import dumps

HI = [{"role": "user", "content": "Hi"}]


def chat(**parameters: Any) -> openai.Asked:
    return openai.chat(dumps({"messages": HI} | parameters))


def completion(**parameters: Any) -> openai.Asked:
    return openai.completion(dumps({"prompt": "Hi"} | parameters))


def test_a_bare_request_has_the_apis_defaults() -> None:
    assert chat() == openai.Asked("chat", HI, None, [], Sampling())
    assert completion() == openai.Asked("completion", "Hi", 16, [], Sampling())
    assert openai.native(b'{"prompt": "Hi"}') == openai.Asked("native", "Hi", None, [], Sampling())


def test_every_parameter_is_understood() -> None:
    asked = chat(
        model="gpt-4o",
        user="me",
        n=1,
        max_completion_tokens=9,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        presence_penalty=-2,
        frequency_penalty=2,
        seed=-1,
        stop=["a", "b"],
        stream=True,
        stream_options={"include_usage": True},
        logprobs=True,
        top_logprobs=3,
        response_format={"type": "text"},
    )
    sampling = Sampling(0.5, 0.9, 40, -2, 2, -1, 3)
    assert asked == openai.Asked("chat", HI, 9, ["a", "b"], sampling, stream=True, include_usage=True)


def test_parts_of_text_a_name_and_the_newer_word_for_system_are_read() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    asked = chat(messages=[{"role": "developer", "content": "x", "name": "n"}, {"role": "user", "content": parts}])
    assert asked.prompt == [{"role": "system", "content": "x"}, {"role": "user", "content": "one\ntwo"}]


def test_an_answer_can_be_held_to_json() -> None:
    assert chat(response_format={"type": "json_object"}).sampling.json
    assert not chat(response_format={"type": "text"}).sampling.json
    assert not chat().sampling.json


def test_an_answer_can_be_sent_back_as_it_came() -> None:
    answer = {"role": "assistant", "content": "x", "refusal": None, "tool_calls": None}
    assert chat(messages=[*HI, answer]).prompt == [*HI, {"role": "assistant", "content": "x"}]


@pytest.mark.parametrize("name", ["temperature", "top_p", "max_tokens", "stop", "seed", "n", "stream", "logprobs"])
def test_null_is_as_if_it_were_not_there(name: str) -> None:
    assert chat(**{name: None}) == chat()


def test_logprobs_of_the_older_form_are_a_number() -> None:
    assert completion(logprobs=2).sampling.logprobs == 2
    assert chat(logprobs=True).sampling.logprobs == 0
    assert chat(logprobs=False).sampling.logprobs is None


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": []}, "empty", "$.messages"),
    ({"messages": "Hi"}, "wrong_type", "$.messages"),
    ({"messages": [{"role": "user"}]}, "missing_field", "$.messages[0].content"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "unknown_category", "$.messages[0].role"),
    ({"messages": [{"role": "user", "content": None}]}, "wrong_type", "$.messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "text": ""}]}]}, "unknown_category", "type"),
    ({"temperature": 2.1}, "out_of_range", "$.temperature"),
    ({"temperature": -0.1}, "out_of_range", "$.temperature"),
    ({"temperature": "hot"}, "wrong_type", "$.temperature"),
    ({"top_p": 0}, "out_of_range", "$.top_p"),
    ({"top_p": 1.5}, "out_of_range", "$.top_p"),
    ({"top_k": -1}, "out_of_range", "$.top_k"),
    ({"max_tokens": 0}, "out_of_range", "$.max_tokens"),
    ({"max_tokens": 3, "max_completion_tokens": 4}, "invalid_parameter", "$.max_completion_tokens"),
    ({"presence_penalty": 2.5}, "out_of_range", "$.presence_penalty"),
    ({"frequency_penalty": -2.5}, "out_of_range", "$.frequency_penalty"),
    ({"n": 2}, "out_of_range", "$.n"),
    ({"stop": list("abcde")}, "out_of_range", "$.stop"),
    ({"stop": ["a", ""]}, "empty", "$.stop"),
    ({"stop": ""}, "empty", "$.stop"),
    ({"top_logprobs": 2}, "invalid_parameter", "$.top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "out_of_range", "$.top_logprobs"),
    ({"stream_options": {"include_usage": True}}, "invalid_parameter", "$.stream_options"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "unsupported_value", "$.response_format"),
    ({"tools": []}, "unknown_field", "$.tools"),
    ({"logit_bias": {}}, "unknown_field", "$.logit_bias"),
    ({"prompt": "x"}, "unknown_field", "$.prompt"),
]


@pytest.mark.parametrize(("parameters", "code", "path"), BAD, ids=[str(one[0])[:60] for one in BAD])
def test_what_is_not_offered_is_refused_with_its_place(parameters: dict[str, Any], code: str, path: str) -> None:
    with pytest.raises(InputError) as caught:
        chat(**parameters)
    assert (caught.value.code, caught.value.path[-len(path) :]) == (code, path)


def test_an_unknown_parameter_is_told_those_that_are_known() -> None:
    with pytest.raises(InputError) as caught:
        chat(tools=[])
    assert "temperature" in caught.value.expected


@pytest.mark.parametrize(
    "parameters", [{"prompt": ["a", "b"]}, {"prompt": []}, {"echo": True}, {"suffix": "x"}, {"best_of": 2}]
)
def test_a_completion_is_one_text_after_one_prompt(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        completion(**parameters)
    assert caught.value.path == f"$.{next(iter(parameters))}"


def test_a_list_of_one_prompt_is_that_prompt() -> None:
    assert completion(prompt=["a"]).prompt == "a"


@pytest.mark.parametrize("body", [b'{"prompt": "\\ud800"}', b'{"prompt": "\xff"}', b"{", b"[]", b'{"prompt": 1}'])
def test_no_such_body_reaches_an_engine(body: bytes) -> None:
    with pytest.raises(InputError):
        openai.native(body)
