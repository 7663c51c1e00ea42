"""The real weights, packaged by the recipe, on a real TorchServe with the fastest engine that is installed."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pydantic
import pytest

from tests import readme
from tests.clients.environments import run
from tests.integration.conftest import Server, serve, settings_for
from tests.support.handlers.smollm2 import chat_store

QUESTIONS = [
    "What is gravity?",
    "Count from one to ten.",
    "Write a sentence about the sea.",
    "What colour is the sky?",
    "Say hello in German.",
    "Why do birds sing?",
]


@pytest.fixture(scope="module")
def chat() -> Iterator[Server]:
    kept = chat_store()
    with tempfile.TemporaryDirectory() as folder:
        store = shutil.copytree(kept, Path(folder) / "store")
        with serve(settings_for(store, Path(folder) / "run")) as running:
            yield running


def ask(server: Server, question: str, **more: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 24, **more}
    return httpx.post(f"{server.url}/predictions/chat/1.0/v1/chat/completions", json=body, timeout=120)


def test_each_of_several_greedy_answers_again_and_at_once_equals_the_one_alone(chat: Server) -> None:
    alone = [ask(chat, question).json()["choices"] for question in QUESTIONS]
    assert alone[0][0]["message"]["content"].startswith("Gravity is")
    assert [ask(chat, question).json()["choices"] for question in QUESTIONS] == alone  # after the others, and cached
    with ThreadPoolExecutor(len(QUESTIONS)) as threads:
        together = list(threads.map(lambda question: ask(chat, question).json()["choices"], QUESTIONS))
    assert together == alone


def test_a_stream_says_what_the_whole_answer_says(chat: Server) -> None:
    whole = ask(chat, QUESTIONS[2]).json()["choices"][0]["message"]["content"]
    *lines, done = [line for line in ask(chat, QUESTIONS[2], stream=True).text.splitlines() if line]
    deltas = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines]
    assert done == "data: [DONE]"
    assert "".join(delta.get("content", "") for delta in deltas) == whole


def test_a_seed_repeats_an_answer_and_a_prompt_that_begins_alike_is_cached(chat: Server) -> None:
    first, second = (ask(chat, QUESTIONS[5], temperature=1.5, seed=7).json() for _ in range(2))
    assert first["choices"] == second["choices"]
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_openais_client_gets_several_answers_which_are_those_of_their_seeds(chat: Server) -> None:
    client = openai.OpenAI(base_url=f"{chat.url}/predictions/chat/1.0/v1", api_key="none", max_retries=0)
    prompts = ["The capital of France is", "Birds sing because"]
    settings: Any = {"max_tokens": 8, "temperature": 1}
    several = client.completions.create(model="chat", prompt=prompts, n=2, seed=5, **settings)
    alone = [
        client.completions.create(model="chat", prompt=prompt, seed=seed, **settings).choices[0].text
        for prompt in prompts
        for seed in (5, 6)
    ]
    assert [choice.text for choice in several.choices] == alone
    assert len({*alone}) == 4
    url = f"{chat.url}/predictions/chat/1.0"
    tokens = httpx.post(f"{url}/tokenize", json={"prompt": prompts[0]}).json()["tokens"]
    answers = client.completions.create(model="chat", prompt=tokens, n=1, seed=5, **settings)
    assert (answers.choices[0].text, answers.usage and answers.usage.prompt_tokens) == (alone[0], len(tokens))
    assert httpx.post(f"{url}/detokenize", json={"tokens": tokens}).json() == {"prompt": prompts[0]}


def test_openais_client_gets_the_log_probabilities_of_a_prompt_and_they_are_those_of_its_answer(chat: Server) -> None:
    client = openai.OpenAI(base_url=f"{chat.url}/predictions/chat/1.0/v1", api_key="none", max_retries=0)
    prompt = "The capital of France is"
    said = client.completions.create(model="chat", prompt=prompt, max_tokens=6, temperature=0, logprobs=1).choices[0]
    settings: Any = {"model": "chat", "echo": True, "logprobs": 1, "max_tokens": 0, "temperature": 0}
    told = client.completions.create(prompt=prompt + said.text, **settings).choices[0]
    assert told.text == prompt + said.text
    scored, answer = (choice.model_dump()["logprobs"] for choice in (told, said))
    assert scored["token_logprobs"][0] is None
    assert scored["tokens"][-6:] == answer["tokens"]
    assert scored["token_logprobs"][-6:] == pytest.approx(answer["token_logprobs"], abs=5e-3)


ANIMAL = "Describe one animal."


class Animal(pydantic.BaseModel):
    """What the clients ask for."""

    name: str = pydantic.Field(max_length=12)
    legs: int = pydantic.Field(ge=0, le=8)
    kind: Literal["bird", "fish", "mammal"]


def test_openais_client_parses_an_object_of_a_class(chat: Server) -> None:
    client = openai.OpenAI(base_url=f"{chat.url}/predictions/chat/1.0/v1", api_key="none", max_retries=0)
    messages: Any = [{"role": "user", "content": ANIMAL}]
    settings: Any = {"model": "chat", "messages": messages, "max_tokens": 60}
    for temperature in (0, 1):
        done = client.chat.completions.parse(response_format=Animal, temperature=temperature, seed=3, **settings)
        assert isinstance(done.choices[0].message.parsed, Animal)
    with client.chat.completions.stream(response_format=Animal, temperature=0, **settings) as stream:
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Animal)
    response = client.responses.parse(
        model="chat", input=ANIMAL, text_format=Animal, temperature=0, max_output_tokens=60
    )
    assert isinstance(response.output_parsed, Animal)
    held = [{"guided_choice": ["yes", "no"]}, {"guided_regex": "[A-Z][a-z]{2,5}[.]"}]
    yes, word = (client.chat.completions.create(extra_body=body, **settings).choices[0] for body in held)
    assert yes.message.content in ("yes", "no")
    assert re.fullmatch("[A-Z][a-z]{2,5}[.]", word.message.content or "")
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "not": {}}}}
    with pytest.raises(openai.BadRequestError, match=r'Unimplemented keys: \[\\?"not'):
        client.chat.completions.create(response_format=form, **settings)


def test_langchain_and_the_ai_sdk_get_objects_of_their_schemas(chat: Server) -> None:
    base = f"{chat.url}/predictions/chat/1.0/v1"
    for answer in run("langchain", "structured.py", base, ANIMAL).values():
        Animal.model_validate(answer)
    answer = run("aisdk", "structured.mjs", base, ANIMAL)
    Animal.model_validate(answer["object"])
    assert answer["chosen"] in ("yes", "no")
    assert answer["text"] == answer["streamed"] != ""


class Weather(pydantic.BaseModel):
    """The arguments of a tool."""

    city: str = pydantic.Field(max_length=20)
    days: int = pydantic.Field(ge=1, le=9)


WEATHER = "What is the weather in Oslo for two days?"


def test_openais_client_gets_calls_of_tools_that_fit_their_schemas(chat: Server) -> None:
    client = openai.OpenAI(base_url=f"{chat.url}/predictions/chat/1.0/v1", api_key="none", max_retries=0)
    messages: Any = [{"role": "user", "content": WEATHER}]
    tools: Any = [openai.pydantic_function_tool(Weather, name="get_weather")]
    settings: Any = {"model": "chat", "tools": tools, "temperature": 0, "max_tokens": 80}
    forced = settings | {"tool_choice": "required", "parallel_tool_calls": False}
    (choice,) = client.chat.completions.parse(messages=messages, **forced).choices
    (call,) = choice.message.tool_calls or []
    assert (choice.finish_reason, call.function.name) == ("tool_calls", "get_weather")
    assert isinstance(call.function.parsed_arguments, Weather)
    with client.chat.completions.stream(messages=messages, **forced) as stream:
        parts = [event.arguments_delta for event in stream if event.type == "tool_calls.function.arguments.delta"]
        streamed = stream.get_final_completion().choices[0].message.tool_calls or []
    assert "".join(parts) == streamed[0].function.arguments == call.function.arguments
    assert len(parts) > 3
    (called,) = client.responses.parse(
        model="chat",
        input=WEATHER,
        tools=tools,
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=0,
        max_output_tokens=80,
    ).output
    assert isinstance(called, openai.types.responses.ParsedResponseFunctionToolCall)
    assert called.arguments == call.function.arguments
    messages += [
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "5"},
    ]
    answer = client.chat.completions.create(messages=messages, tool_choice="none", **settings).choices[0]
    assert answer.message.content
    assert not answer.message.tool_calls
    free = client.chat.completions.create(messages=messages, **settings).choices[0].message
    assert free.content or free.tool_calls


def test_langchain_and_the_ai_sdk_call_their_tools(chat: Server) -> None:
    base = f"{chat.url}/predictions/chat/1.0/v1"
    answer = run("langchain", "tools.py", base, WEATHER)
    assert (answer["name"], answer["streamed"]) == ("get_weather", answer["whole"])
    Weather.model_validate(answer["arguments"])
    assert answer["after"]
    answer = run("aisdk", "tools.mjs", base, WEATHER)
    assert answer["reason"] == "tool-calls"
    assert answer["streamed"] == answer["inputs"] != []
    assert " days of rain in " in answer["results"][0]


def test_the_command_on_the_page_streams_the_events_below_it(chat: Server) -> None:
    def events(text: str) -> list[Any]:
        *lines, done = [line.removeprefix("data: ") for line in text.splitlines() if line]
        return [{**json.loads(line), "id": "", "created": 0} for line in lines] + [done]

    example = readme.stream()
    assert events(example.run(chat.url)) == events(example.answer)


def test_the_program_on_the_page_gets_an_answer_like_the_one_below_it(chat: Server) -> None:
    program, printed = readme.client()
    here = program.replace("http://127.0.0.1:8080", chat.url)
    assert here != program
    done = subprocess.run([sys.executable, "-c", here], capture_output=True, text=True, check=True, timeout=120)
    # Last bits, which the engine and the processor decide, may choose another word later on.
    assert done.stdout[:40] == printed[:40]
