"""Requests in OpenAI's form: what is read of them, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from handlers.language.api import requests
from handlers.language.api.defaults import NO_DEFAULTS, read_defaults
from handlers.language.generation import Constraint, Sampling
from handlers.message import InputError
from tests.support.handlers.wire import dumps

HI = [{"role": "user", "content": "Hi"}]


def chat(**parameters: Any) -> requests.TextRequest:
    return requests.chat(dumps({"messages": HI} | parameters))


def completion(**parameters: Any) -> requests.TextRequest:
    return requests.completion(dumps({"prompt": "Hi"} | parameters))


def test_a_bare_request_has_the_apis_defaults() -> None:
    assert chat() == requests.TextRequest("chat", [HI], None, [], Sampling())
    assert completion() == requests.TextRequest("completion", ["Hi"], 16, [], Sampling())
    assert requests.native(b'{"prompt": "Hi"}') == requests.TextRequest("native", ["Hi"], None, [], Sampling())


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
    assert asked == requests.TextRequest(
        "chat", [HI], 9, ["a", "b"], sampling, stream=True, include_usage=True, model="gpt-4o"
    )


def test_parts_of_text_a_name_and_the_newer_word_for_system_are_read() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    asked = chat(messages=[{"role": "developer", "content": "x", "name": "n"}, {"role": "user", "content": parts}])
    assert asked.prompts[0] == [{"role": "system", "content": "x"}, {"role": "user", "content": "one\ntwo"}]


def test_an_answer_can_be_held_to_json() -> None:
    held = chat(response_format={"type": "json_object"}).sampling.constraint
    assert held == Constraint("json_schema", '{"type":"object"}')
    assert chat(response_format={"type": "text"}).sampling.constraint is None
    assert chat().sampling.constraint is None


def test_sampling_may_be_biased_and_go_on() -> None:
    sampling = chat(logit_bias={"5": -100, "7": 1.5}, min_p=0.1, repetition_penalty=1.2, ignore_eos=True).sampling
    assert sampling.logit_bias == ((5, -100), (7, 1.5))
    assert (sampling.min_p, sampling.repetition_penalty, sampling.ignore_eos) == (0.1, 1.2, True)


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("parameters", "kind", "path"),
    [
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": SCHEMA, "strict": True},
                }
            },
            "json_schema",
            "$.response_format.json_schema.schema",
        ),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, "json_schema", "$.response_format.schema"),
        ({"guided_json": SCHEMA}, "json_schema", "$.guided_json"),
        ({"guided_json": dumps(SCHEMA).decode()}, "json_schema", "$.guided_json"),
        ({"structured_outputs": {"json": SCHEMA}}, "json_schema", "$.structured_outputs.json"),
        ({"guided_regex": r"\d+"}, "regex", "$.guided_regex"),
        ({"structured_outputs": {"regex": r"\d+"}}, "regex", "$.structured_outputs.regex"),
        ({"guided_choice": ["a", "b"]}, "choice", "$.guided_choice"),
        ({"structured_outputs": {"choice": ["a", "b"]}}, "choice", "$.structured_outputs.choice"),
    ],
)
def test_an_answer_is_held_to_a_schema_an_expression_or_a_choice(
    parameters: dict[str, Any], kind: str, path: str
) -> None:
    texts = {"json_schema": dumps(SCHEMA).decode(), "regex": r"\d+", "choice": '["a","b"]'}
    for ask in (chat, completion):
        if ask is completion and "response_format" in parameters:
            continue
        held = ask(**parameters).sampling.constraint
        assert held is not None
        assert (held.kind, held.text, held.path) == (kind, texts[kind], path)


def test_an_answer_can_be_sent_back_as_it_came() -> None:
    bare = {"role": "assistant", "content": "x"}
    carried: list[dict[str, Any]] = [
        {"refusal": None, "tool_calls": None},
        {"refusal": None, "annotations": None, "audio": None, "function_call": None, "tool_calls": []},
        {"parsed": None, "tool_calls": []},
        {"annotations": [], "reasoning_content": None, "provider_specific_fields": {"refusal": None}},
        {"type": "message", "refusal": None},  # as items of the Responses API
        {"type": "text"},  # as lm-eval writes each message
    ]
    for more in carried:
        assert chat(messages=[*HI, bare | more]).prompts[0] == [*HI, bare]


@pytest.mark.parametrize("answer", [{"content": None}, {}, {"content": None, "tool_calls": []}, {"content": []}])
def test_an_answer_without_a_text_is_an_empty_one(answer: dict[str, Any]) -> None:
    assert chat(messages=[*HI, {"role": "assistant", **answer}]).prompts[0] == [
        *HI,
        {"role": "assistant", "content": ""},
    ]


def test_a_part_of_a_text_may_carry_what_says_nothing() -> None:
    part: dict[str, Any] = {"type": "text", "text": "one", "annotations": [], "cache_control": None}
    assert chat(messages=[{"role": "user", "content": [part]}]).prompts[0] == [{"role": "user", "content": "one"}]


NEUTRAL: list[dict[str, Any]] = [
    {"n": 1},
    {"presence_penalty": 0, "frequency_penalty": 0.0},
    {"stop": []},
    {"stream": False, "stream_options": {}},
    {"stream": False, "stream_options": {"include_usage": False, "include_obfuscation": False}},
    {"response_format": {"type": "text"}},
    {"tools": [], "tool_choice": "none", "parallel_tool_calls": True},
    {"tool_choice": "auto", "parallel_tool_calls": False},
    {"functions": [], "function_call": "none"},
    {"logit_bias": {}, "store": False, "metadata": {}},
    {"modalities": ["text"], "service_tier": "auto"},
    {"user": "me", "safety_identifier": "me", "prompt_cache_key": "me"},
    {"metadata": {"project": "a"}},
    {"logprobs": False, "top_logprobs": 0},
    {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "ignore_eos": False, "min_tokens": 0},
    {"top_k": 0, "best_of": 1, "verbosity": "medium", "reasoning_effort": "none"},
]


@pytest.mark.parametrize("parameters", NEUTRAL, ids=str)
def test_what_asks_for_nothing_passes(parameters: dict[str, Any]) -> None:
    assert chat(**parameters) == chat()


# Every parameter of "Create chat completion" and of "Create completion" that may be null.
NULLS = [
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
    "max_tokens", "metadata", "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty",
    "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier", "seed",
    "service_tier", "stop", "store", "stream", "stream_options", "temperature", "tool_choice", "tools", "top_logprobs",
    "top_p", "user", "verbosity", "web_search_options",
]  # fmt: skip


@pytest.mark.parametrize("name", NULLS)
def test_null_is_as_if_it_were_not_there(name: str) -> None:
    assert chat(**{name: None}) == chat()


@pytest.mark.parametrize(
    "parameters",
    [
        {"best_of": 1, "echo": False, "suffix": "", "logprobs": False},
        {"best_of": None, "echo": None, "suffix": None, "logprobs": None, "logit_bias": None, "n": None},
        {"logit_bias": {}, "n": 1, "stop": None, "stream_options": None, "user": "me", "seed": None},
    ],
)
def test_what_asks_for_nothing_passes_in_the_older_form_too(parameters: dict[str, Any]) -> None:
    assert completion(**parameters) == completion()


def test_logprobs_of_the_older_form_are_a_number() -> None:
    assert completion(logprobs=2).sampling.logprobs == 2
    assert chat(logprobs=True).sampling.logprobs == 0
    assert chat(logprobs=False).sampling.logprobs is None


F: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": []}, "empty", "$.messages"),
    ({"messages": "Hi"}, "wrong_type", "$.messages"),
    ({"messages": [{"role": "user"}]}, "missing_field", "$.messages[0].content"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "unknown_category", "$.messages[0].role"),
    ({"messages": [{"role": "user", "content": None}]}, "wrong_type", "$.messages[0].content"),
    (
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]},
        "missing_field",
        "tool_calls[0].function",
    ),
    ({"messages": [{"role": "user", "content": "x", "audio": {"id": "a"}}]}, "unsupported_value", "[0].audio"),
    ({"messages": [{"role": "user", "content": "x", "nonsense": 1}]}, "unknown_field", "$.messages[0].nonsense"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "text": ""}]}]}, "unknown_category", "type"),
    ({"temperature": 2.1}, "out_of_range", "$.temperature"),
    ({"temperature": -0.1}, "out_of_range", "$.temperature"),
    ({"temperature": "hot"}, "wrong_type", "$.temperature"),
    ({"top_p": -0.1}, "out_of_range", "$.top_p"),
    ({"top_p": 1.5}, "out_of_range", "$.top_p"),
    ({"top_k": -2}, "out_of_range", "$.top_k"),
    ({"max_tokens": 0}, "out_of_range", "$.max_tokens"),
    ({"max_tokens": 3, "max_completion_tokens": 4}, "invalid_parameter", "$.max_completion_tokens"),
    ({"presence_penalty": 2.5}, "out_of_range", "$.presence_penalty"),
    ({"frequency_penalty": -2.5}, "out_of_range", "$.frequency_penalty"),
    ({"n": 0}, "out_of_range", "$.n"),
    ({"n": 129}, "out_of_range", "$.n"),
    ({"stop": [str(i) for i in range(33)]}, "out_of_range", "$.stop"),
    ({"stop": ["a", ""]}, "empty", "$.stop"),
    ({"stop": ""}, "empty", "$.stop"),
    ({"top_logprobs": 2}, "invalid_parameter", "$.top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "out_of_range", "$.top_logprobs"),
    ({"stream_options": {"include_usage": True}}, "invalid_parameter", "$.stream_options"),
    ({"response_format": {"type": "grammar"}}, "unsupported_value", "$.response_format"),
    ({"response_format": {"type": "json_schema"}}, "missing_field", "$.response_format.json_schema.schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
        "missing_field",
        "$.response_format.json_schema.schema",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": [1]}}},
        "wrong_type",
        "$.response_format.json_schema.schema",
    ),
    ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "invalid_parameter", "$.response_format"),
    ({"guided_json": "[1]"}, "wrong_type", "$.guided_json"),
    ({"guided_choice": []}, "empty", "$.guided_choice"),
    ({"guided_choice": ["a", 1]}, "wrong_type", "$.guided_choice[1]"),
    ({"guided_regex": "a" * 70_000}, "out_of_range", "$.guided_regex"),
    ({"guided_grammar": "start: x"}, "unsupported_value", "$.guided_grammar"),
    ({"structured_outputs": {"grammar": "start: x"}}, "unknown_field", "$.structured_outputs.grammar"),
    ({"tools": [{"type": "function"}]}, "missing_field", "$.tools[0].function"),
    ({"tools": [{"type": "retrieval", "function": {"name": "f"}}]}, "unknown_category", "$.tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "wrong_type", "$.tools[0].function.name"),
    ({"tools": [F, F]}, "invalid_parameter", "$.tools"),
    ({"tools": [F | {"function": {"name": f"f{i}"}} for i in range(129)]}, "out_of_range", "$.tools"),
    ({"tools": [F], "response_format": {"type": "json_object"}}, "invalid_parameter", "$.tools"),
    ({"tools": [F], "tool_choice": "any"}, "unknown_category", "$.tool_choice"),
    (
        {"tools": [F], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "invalid_parameter",
        "$.tool_choice.function.name",
    ),
    ({"tool_choice": "required"}, "invalid_parameter", "$.tool_choice"),
    ({"functions": [{"name": "f"}]}, "unsupported_value", "$.functions"),
    ({"function_call": {"name": "f"}}, "unsupported_value", "$.function_call"),
    ({"logit_bias": {"the": 5}}, "invalid_parameter", "$.logit_bias"),
    ({"logit_bias": {"-1": 5}}, "invalid_parameter", "$.logit_bias"),
    ({"logit_bias": {"1": 101}}, "out_of_range", "$.logit_bias[...]"),
    ({"logit_bias": {str(token): 1 for token in range(301)}}, "out_of_range", "$.logit_bias"),
    ({"store": 0}, "wrong_type", "$.store"),
    ({"metadata": {"a": 1}}, "wrong_type", "$.metadata[...]"),
    ({"min_p": 1.1}, "out_of_range", "$.min_p"),
    ({"modalities": ["text", "audio"]}, "unsupported_value", "$.modalities"),
    ({"audio": {"voice": "x"}}, "unsupported_value", "$.audio"),
    ({"prediction": {"type": "text", "content": "x"}}, "unknown_category", "$.prediction.type"),
    ({"prediction": {"type": "content"}}, "missing_field", "$.prediction.content"),
    ({"prediction": "x"}, "wrong_type", "$.prediction"),
    ({"reasoning_effort": "high"}, "unsupported_value", "$.reasoning_effort"),
    ({"service_tier": "flex"}, "unsupported_value", "$.service_tier"),
    ({"web_search_options": {}}, "unsupported_value", "$.web_search_options"),
    ({"repetition_penalty": 0}, "out_of_range", "$.repetition_penalty"),
    ({"ignore_eos": 1}, "wrong_type", "$.ignore_eos"),
    ({"stream_options": {"include_obfuscation": True}}, "unknown_category", "include_obfuscation"),
    ({"nonsense": None}, "unknown_field", "$.nonsense"),
    ({"prompt": "x"}, "unknown_field", "$.prompt"),
]


@pytest.mark.parametrize(("parameters", "code", "path"), BAD, ids=[str(one[0])[:60] for one in BAD])
def test_what_is_not_offered_is_refused_with_its_place(parameters: dict[str, Any], code: str, path: str) -> None:
    with pytest.raises(InputError) as caught:
        chat(**parameters)
    assert (caught.value.code, caught.value.path[-len(path) :]) == (code, path)


@pytest.mark.parametrize(
    ("parameters", "is_listed"),
    [({"nonsense": 1}, True), ({"stop": [None]}, False), ({"logit_bias": {"1": "x"}}, False), ({"n": "2"}, False)],
)
def test_what_there_is_is_listed_where_a_name_is_unknown(parameters: dict[str, Any], is_listed: bool) -> None:
    with pytest.raises(InputError) as caught:
        chat(**parameters)
    assert ("response_format, " in caught.value.expected) == is_listed


def test_a_prediction_is_a_text_or_its_parts() -> None:
    parts = [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]
    assert chat(prediction={"type": "content", "content": "x"}).prediction == "x"
    assert chat(prediction={"type": "content", "content": parts}).prediction == "x\ny"
    assert chat().prediction == ""
    with pytest.raises(InputError) as caught:
        completion(prediction={"type": "content", "content": "x"})
    assert (caught.value.code, caught.value.path) == ("unsupported_value", "$.prediction")


def test_an_unknown_parameter_is_told_those_that_are_known() -> None:
    with pytest.raises(InputError) as caught:
        chat(nonsense=1)
    assert "temperature" in caught.value.expected


@pytest.mark.parametrize("parameters", [{"suffix": "x"}, {"best_of": 2}, {"max_tokens": 0}, {"echo": 1}])
def test_what_a_completion_lacks_is_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        completion(**parameters)
    assert caught.value.path == f"$.{next(iter(parameters))}"


@pytest.mark.parametrize(
    ("prompt", "code", "path"),
    [
        ([], "empty", "$.prompt"),
        (["a", 1], "wrong_type", "$.prompt"),
        ([[1], 2], "wrong_type", "$.prompt"),
        ([-1], "out_of_range", "$.prompt[0]"),
        ([[1], [-1]], "out_of_range", "$.prompt[1][0]"),
        ([1.5], "wrong_type", "$.prompt[0]"),
        ([True], "wrong_type", "$.prompt[0]"),
        (["a"] * 129, "out_of_range", "$.prompt"),
    ],
)
def test_what_is_no_list_of_prompts_is_refused_with_its_place(prompt: Any, code: str, path: str) -> None:
    with pytest.raises(InputError) as caught:
        completion(prompt=prompt)
    assert (caught.value.code, caught.value.path) == (code, path)


def test_an_answer_may_begin_with_its_prompt() -> None:
    assert completion(echo=True).echo
    assert not completion(echo=False).echo
    assert not completion(echo=True).scored
    assert completion(echo=True, logprobs=0).scored
    assert completion(echo=True, max_tokens=0).scored
    assert chat(echo=False).echo is False
    with pytest.raises(InputError):
        chat(echo=True)


def test_as_many_strings_end_an_answer_as_a_task_of_an_evaluation_has() -> None:
    stops = ["\nclass", "\ndef", "\n#", "\nif", "\nprint", "<|im_end|>"]  # of one that writes programs
    assert completion(stop=stops).stop == stops


BEGUN = [*HI, {"role": "assistant", "content": "It is a "}]


@pytest.mark.parametrize("more", [{}, {"add_generation_prompt": False}, {"add_generation_prompt": None}])
def test_an_answer_may_go_on_with_the_last_message(more: dict[str, Any]) -> None:
    asked = chat(messages=BEGUN, continue_final_message=True, **more)
    assert (asked.goes_on, asked.prompts[0]) == (True, BEGUN)
    assert not chat(messages=BEGUN, add_generation_prompt=True, continue_final_message=False).goes_on


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"messages": HI, "continue_final_message": True}, "continue_final_message"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
        ({"continue_final_message": True, "response_format": {"type": "json_object"}}, "continue_final_message"),
        ({"add_generation_prompt": False}, "add_generation_prompt"),
    ],
)
def test_it_goes_on_only_where_that_makes_sense(parameters: dict[str, Any], path: str) -> None:
    with pytest.raises(InputError) as caught:
        chat(**{"messages": BEGUN} | parameters)
    assert caught.value.path == f"$.{path}"


def test_the_models_own_defaults_stand_where_a_request_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "generation_config.json"
    assert read_defaults(file) == NO_DEFAULTS
    assert NO_DEFAULTS.of(chat()).sampling == Sampling()
    file.write_text(
        '{"temperature": 0.6, "top_k": 20, "repetition_penalty": 1.1, "do_sample": true, "eos_token_id": 2}'
    )
    own = read_defaults(file)
    assert own.of(chat()).sampling == Sampling(temperature=0.6, top_k=20, repetition_penalty=1.1)
    asked = own.of(chat(temperature=0, top_k=-1, top_p=0.5)).sampling
    assert asked == Sampling(temperature=0, top_k=0, top_p=0.5, repetition_penalty=1.1)
    assert own.of(completion()).sampling.temperature == 0.6


@pytest.mark.parametrize("text", ['{"temperature": -1}', '{"top_k": "many"}', "[]", "{"])
def test_defaults_that_are_wrong_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(ValueError, match=r"generation_config\.json has a fault"):
        read_defaults(tmp_path / "generation_config.json")
