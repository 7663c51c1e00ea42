"""What is llama.cpp's own; what it has in common with other engines is in test_language_engines.py."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from handlers.language.decoders.decoder import Interrupted, Part
from handlers.language.decoders.llama import LlamaDecoder
from tests.support.handlers.smollm2 import weights

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")


def test_what_is_no_model_is_refused_and_says_which_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.gguf is missing"):
        LlamaDecoder(tmp_path / "nothing.gguf", 1, 64)
    (tmp_path / "text.gguf").write_text("not a model")
    with pytest.raises(ValueError, match=r"text\.gguf is no model that llama\.cpp can read"):
        LlamaDecoder(tmp_path / "text.gguf", 1, 64)


def test_a_context_that_the_model_was_not_trained_for_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the context is 100000 tokens; .* was trained for 8192 at most"):
        LlamaDecoder(weights(), 1, 100_000)


def test_logits_do_not_depend_on_how_a_prompt_was_cut() -> None:
    decoder = LlamaDecoder(weights(), 2, 256, threads=1)
    prompt = decoder.tokenize("The old lighthouse keeper counted the ships that passed. " * 10, False)[:100]
    whole = decoder.decode([Part(0, 0, prompt, True)]).copy()
    for start in range(0, 100, 20):
        cut = decoder.decode([Part(1, start, prompt[start : start + 20], start == 80)])
    assert np.array_equal(cut, whole)
    decoder.close()


def test_a_batch_that_another_thread_interrupts_ends_without_a_trace() -> None:
    prompt = [100 + i % 900 for i in range(400)]
    decoder = LlamaDecoder(weights(), 2, 512, threads=2)
    expected = decoder.decode([Part(0, 0, prompt, is_last=True)]).copy()
    decoder.decode([Part(1, 0, prompt[:9], is_last=False)])
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(decoder.decode, [Part(1, 9, prompt[9:], is_last=True)])
        while not future.done():
            decoder.interrupt()
    with pytest.raises(Interrupted):
        future.result()
    decoder.truncate(1, 9)
    assert decoder.held({1}) == 9
    assert np.array_equal(decoder.decode([Part(1, 9, prompt[9:], is_last=True)]), expected)
    decoder.interrupt()  # without a batch
    decoder.truncate(1, 9)
    assert np.array_equal(decoder.decode([Part(1, 9, prompt[9:], is_last=True)]), expected)
    decoder.close()
