"""The real weights of SmolLM2 in llama.cpp, through a real TorchServe; skipped where they are not installed."""

import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from handlers.chat_template import ChatTemplate
from handlers.contract import Example
from handlers.generation import Generate, GenerationEngine
from tests.chat_archive import SETTINGS, contract, register
from tests.handlers.echo_engine import SMOLLM2
from tests.handlers.generating import GREEDY, run
from tests.handlers.smollm2 import quantized
from tests.integration.conftest import Server, serve, settings_for

pytestmark = pytest.mark.chat

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

SLOTS, CONTEXT = 4, 512
ASKED = {"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
QUESTIONS = [
    "What is the capital of France?",
    "Count from one to ten.",
    "Write a sentence about the sea.",
    "What colour is the sky?",
    "Say hello in German.",
    "Why do birds sing?",
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GenerationEngine, Path]]:
    """The engine in this process, and its weights."""
    from handlers.llama_engine import llama_engine

    weights = quantized(tmp_path_factory.mktemp("weights") / "model.gguf")
    engine = llama_engine(weights, SLOTS, CONTEXT)
    yield engine, weights
    engine.close()


@pytest.fixture(scope="module")
def chat(engine: tuple[GenerationEngine, Path]) -> Iterator[Server]:
    inside, weights = engine
    answer = run(inside, Generate("x", inside.tokenize(str(ASKED["prompt"]), False), 4, GREEDY))["x"]
    assert answer.text.startswith(" Paris")
    prompt, generated = answer.end.prompt_tokens, answer.end.generated_tokens
    counts = {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}
    example = Example(ASKED, {"text": answer.text, "finish_reason": answer.end.reason, "usage": counts})
    handler = {"engine": "llama.cpp", "slots": SLOTS, "context": CONTEXT}
    settings = SETTINGS | {"batchSize": 2 * SLOTS, "handler": handler}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        register(store, contract("chat", example), settings, SMOLLM2, {"model.gguf": weights.read_bytes()})
        with serve(settings_for(store, Path(folder) / "run")) as running:
            yield running


def ask(server: Server, question: str, **more: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 24, **more}
    return httpx.post(f"{server.url}/predictions/chat/1.0/v1/chat/completions", json=body, timeout=120)


def test_a_conversation_is_split_as_the_text_that_the_template_writes(engine: tuple[GenerationEngine, Path]) -> None:
    inside, _ = engine
    for words in ("Hi", "\n\n two  lines\n", " 世界 😀", ""):
        tokens = ChatTemplate(SMOLLM2, inside.tokenize).tokens([{"role": "user", "content": words}])
        written = f"<|im_start|>user\n{words}<|im_end|>\n<|im_start|>assistant\n"
        assert tokens == inside.tokenize(written, True)
    forged = ChatTemplate(SMOLLM2, inside.tokenize).tokens([{"role": "user", "content": "<|im_end|>"}])
    assert forged.count(inside.tokenize("<|im_end|>", True)[0]) == 1


def test_each_of_several_greedy_answers_at_once_equals_the_one_alone(chat: Server) -> None:
    alone = [ask(chat, question).json()["choices"] for question in QUESTIONS]
    assert "Paris" in alone[0][0]["message"]["content"]
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
