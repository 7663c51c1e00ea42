"""What is OpenVINO's own; what it has in common with other engines is in test_language_engines.py."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handlers.language.decoders.decoder import Interrupted, Part
from handlers.language.decoders.openvino import (
    NUMERICS,
    EngineError,
    OpenVinoDecoder,
    compile_model,
    openvino_engine,
    reason,
)
from handlers.language.generation import Generate
from handlers.language.scheduling.batching import ContinuousBatching
from loadtests.bench.language.speculation import KINDS
from serving.settings import ROOT
from tests.support.handlers.generating import GREEDY, run
from tests.support.handlers.smollm2 import openvino_model

openvino = pytest.importorskip("openvino", reason="openvino is not installed")

# What the plugin can be told beside NUMERICS: how it uses cores, what it reports. None changes what it computes.
WITHOUT_NUMBERS = {
    "SUPPORTED_PROPERTIES", "NETWORK_NAME", "OPTIMAL_NUMBER_OF_INFER_REQUESTS", "NUM_STREAMS", "INFERENCE_NUM_THREADS",
    "PERF_COUNT", "PERFORMANCE_HINT", "PERFORMANCE_HINT_NUM_REQUESTS", "ENABLE_CPU_PINNING", "ENABLE_CPU_RESERVATION",
    "SCHEDULING_CORE_TYPE", "MODEL_DISTRIBUTION_POLICY", "ENABLE_HYPER_THREADING", "EXECUTION_DEVICES", "LOG_LEVEL",
    "TBB_PARTITIONER", "RUNTIME_REQUIREMENTS",
    # Of a cache of 8 bits, which is not used.
    "KEY_CACHE_GROUP_SIZE", "VALUE_CACHE_GROUP_SIZE",
}  # fmt: skip
# Asks questions alone, again, after others and at once; with a seed too. Says whether all answers are the same.
ASK = """
import json, sys
from pathlib import Path
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.generation import Generate, Sampling
from handlers.language.decoders.openvino import OpenVinoDecoder
from tests.support.handlers.generating import GREEDY, run

decoder = OpenVinoDecoder(Path(sys.argv[1]), 8, 128, threads=int(sys.argv[2]))
PROMPTS = ["What is gravity?", "Count from one to ten.", "Write a sentence about the sea.", "What colour is the sky?",
           "Say hello in German.", "Why do birds sing?", "Name three primary colours.", "How is bread made?"]
answers = {}
for sampling in (Sampling(temperature=0), Sampling(temperature=1.2, seed=7)):
    engine = ContinuousBatching(decoder)
    asked = [Generate(text, engine.tokenize(text, False), 12, sampling) for text in PROMPTS]
    alone = [run(engine, one)[one.id].numbers for one in asked]
    again = [run(engine, one)[one.id].numbers for one in asked]
    together = run(ContinuousBatching(decoder), *asked)
    answers[sampling.temperature] = [alone, again, [together[text].numbers for text in PROMPTS]]
print(json.dumps(list(answers.values())))
"""


def model(size: int = 64) -> Any:
    from openvino import opset13 as ops

    x = ops.parameter([-1, size], np.float32, name="x")
    weights = ops.constant(np.eye(size, dtype=np.float32))
    return openvino.Model([ops.matmul(x, weights, False, False)], [x], "small")


def test_whatever_the_plugin_could_choose_by_the_processor_is_set() -> None:
    compiled = compile_model(model(), NUMERICS)
    assert set(compiled.get_property("SUPPORTED_PROPERTIES")) == WITHOUT_NUMBERS | NUMERICS.keys()
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert compiled.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE") == 0
    assert {compiled.get_property(f"{of}_CACHE_PRECISION") for of in ("KV", "KEY", "VALUE")} == {openvino.Type.f32}


def test_a_batch_that_another_thread_interrupts_ends_without_a_trace() -> None:
    prompt = [100 + i % 900 for i in range(400)]
    decoder = OpenVinoDecoder(openvino_model(), 2, 512, threads=2)
    try:
        expected = decoder.decode([Part(0, 0, prompt, is_last=True)]).copy()
        with ThreadPoolExecutor(1) as thread:
            future = thread.submit(decoder.decode, [Part(1, 0, prompt, is_last=True)])
            while not future.done():
                decoder.interrupt()
        with pytest.raises(Interrupted):
            future.result()
        decoder.truncate(1, 0)
        assert np.array_equal(decoder.decode([Part(1, 0, prompt, is_last=True)]), expected)
        decoder.interrupt()  # without a batch
        assert np.array_equal(decoder.decode([Part(1, 0, prompt, is_last=True)]), expected)
    finally:
        decoder.close()


def test_a_row_of_a_float32_model_is_computed_in_float32() -> None:
    x = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    assert np.array_equal(compile_model(model(), NUMERICS)(x)[0], x)  # bfloat16 would cut the last 16 bits off


def test_what_the_plugin_refuses_is_one_sentence() -> None:
    with pytest.raises(EngineError, match=r"^OpenVINO cannot compile the model for this processor: [^\n]*$"):
        compile_model(model(), {"INFERENCE_PRECISION_HINT": "f3"})


def test_the_reason_is_the_last_line_of_a_page() -> None:
    page = (
        "Exception from src/infer.cpp:97:\nCheck 'a == b' failed at executor.cpp:2847:\nexpect bf16, current: f32.\n\n"
    )
    assert reason(RuntimeError(page)) == "expect bf16, current: f32"
    assert reason(RuntimeError()) == "RuntimeError"


@pytest.fixture(scope="module")
def converted() -> Path:
    pytest.importorskip("openvino_genai", reason="openvino-genai is not installed")
    return openvino_model()


@pytest.mark.parametrize(("instructions", "threads"), [("DEFAULT", 2), ("AVX2", 1)])
def test_an_answer_is_the_same_again_and_beside_others_whatever_the_processor_has(
    converted: Path, instructions: str, threads: int
) -> None:
    environ = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions}
    command = [sys.executable, "-c", ASK, str(converted), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environ)
    assert done.returncode == 0, done.stderr
    for alone, again, together in json.loads(done.stdout):
        assert again == alone
        assert together == alone


def test_a_long_prompt_does_not_wait_for_the_end_of_a_stream(converted: Path) -> None:
    engine = openvino_engine(converted, 2, 640)
    try:
        stream = Generate("stream", [100], 120, replace(GREEDY, ignore_eos=True))
        long = Generate("long", [100 + i % 900 for i in range(200)], 1, GREEDY)
        answers = run(engine, stream, later={3: lambda: engine.add(long)})
        assert answers["long"].steps[0] < answers["stream"].steps[-1]
    finally:
        engine.close()


def test_drafts_change_no_answer_of_an_edited_program_or_a_free_text(converted: Path) -> None:
    decoder = OpenVinoDecoder(converted, 4, 640, threads=1)
    accepted: dict[str, int] = {}
    for kind in KINDS:
        for slots in (1, 2):  # alone, and beside another
            engines = [ContinuousBatching(decoder, speculative_tokens=drafts) for drafts in (3, 0)]
            asked = [Generate(text, decoder.tokenize(text, False), 60, kind.sampling) for text in kind.prompts[:slots]]
            given, expected = (run(engine, *asked) for engine in engines)
            for text, answer in given.items():
                assert answer.numbers == expected[text].numbers
                accepted[kind.title] = accepted.get(kind.title, 0) + answer.end.drafts.accepted
    decoder.close()
    assert accepted[KINDS[0].title] > 10


def test_a_signal_after_the_engine_has_ended_ends_nothing(tmp_path: Path) -> None:
    """In a process of its own: the plugin left the thread a signal stack that it had freed."""
    program = f"""
import signal
from pathlib import Path
from handlers.language.decoders.openvino import OpenVinoDecoder, convert
from tests.support.training import tiny
from training.language.gguf_file import requantize

folder = Path({str(tmp_path)!r})
requantize(tiny.write(folder / "tiny.gguf"), folder / "bytes.gguf", ("Q8_0",))
convert(folder / "bytes.gguf", folder / "openvino")
first, second = (OpenVinoDecoder(folder / "openvino", 1, 64) for _ in range(2))
first.close()
second.close()
del first, second
caught = []
signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
signal.raise_signal(signal.SIGINT)
print(caught)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, f"[{signal.SIGINT.value}]\n"), done.stderr


def test_answers_that_outgrow_a_shared_cache_are_those_that_each_gets_alone() -> None:
    decoder = OpenVinoDecoder(openvino_model(), 8, 256, threads=1, cells=256)
    try:
        lone, together = (ContinuousBatching(decoder, worth_copying=1) for _ in range(2))
        story = "The ferry left the harbour before the fog had lifted from the water. "
        texts = [f"{story}Then the {name}" for name in ("captain", "baker", "teacher", "doctor", "children")]
        asked = [Generate(text, lone.tokenize(text, False), 90, GREEDY) for text in texts]
        alone = [run(lone, one)[one.id] for one in asked]
        for slot in range(decoder.slots):
            decoder.truncate(slot, 0)
        answers = run(together, *asked)
        assert together.usage.preemptions
        assert [answers[one.id].text for one in asked] == [answer.text for answer in alone]
    finally:
        decoder.close()
