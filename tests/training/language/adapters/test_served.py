"""Adapters in OpenVINO's graph: each answer is token by token that of the network into which its changes are merged."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handlers.language.decoders.adapters import Adapter, Change, layer_names
from handlers.language.decoders.openvino import OpenVinoDecoder, convert
from handlers.language.generation import Generate
from handlers.language.scheduling.batching import ContinuousBatching
from tests.support.handlers.generating import GREEDY, Answer, run
from tests.support.training import tiny as making
from tests.support.training.tiny import LAYERS, Tiny, random_adapter, stored
from training.language.gguf_file import write_gguf
from training.language.llama import continue_prompt, llama

pytest.importorskip("openvino_genai", reason="openvino-genai is not installed: pip install -e '.[chat]'")

PROMPTS = ("The tide turns", "abc abc abc abc", "What is it")
TOKENS = 30
NAMES = [*layer_names(LAYERS)]


@pytest.fixture(scope="module")
def quantized(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The network with the numbers that OpenVINO gets."""
    path = tmp_path_factory.mktemp("adapters") / "tiny.gguf"
    write_gguf(tiny.path, tiny.metadata, tiny.weights, path, "Q8_0")
    return making.load(path)


@pytest.fixture(scope="module")
def directory(quantized: Tiny) -> Path:
    convert(quantized.path, quantized.path.parent / "openvino")
    return quantized.path.parent / "openvino"


@pytest.fixture(scope="module")
def adapters(quantized: Tiny) -> dict[str, Adapter]:
    return {
        "all": random_adapter(quantized, 1, 4, NAMES),
        "attention": random_adapter(quantized, 2, 8, [name for name in NAMES if "attn" in name]),
        "one": random_adapter(quantized, 3, 2, NAMES[-1:]),
    }


@pytest.fixture(scope="module")
def decoder(directory: Path, adapters: Mapping[str, Adapter]) -> OpenVinoDecoder:
    return OpenVinoDecoder(directory, 12, 128, threads=1, adapters=adapters)


@pytest.fixture(scope="module")
def requests(quantized: Tiny, adapters: Mapping[str, Adapter]) -> list[Generate]:
    greedy = replace(GREEDY, ignore_eos=True)
    return [
        Generate(f"{name}: {prompt}", quantized.tokenizer.tokenize(prompt, False), TOKENS, greedy, adapter=name)
        for prompt in PROMPTS
        for name in ("", *adapters)
    ]


@pytest.fixture(scope="module")
def merged(quantized: Tiny, adapters: Mapping[str, Adapter], requests: list[Generate]) -> dict[str, list[int]]:
    """The answers of a network of its own for each adapter, in float32."""
    changes = {name: {stored(layer): up @ down for layer, (down, up) in adapters[name].items()} for name in adapters}
    networks = {
        name: {weight: values + changes.get(name, {}).get(weight, 0) for weight, values in quantized.weights.items()}
        for name in ("", *adapters)
    }
    modules = {name: llama(quantized.metadata, weights) for name, weights in networks.items()}
    answers = {one.id: continue_prompt(modules[one.adapter], one.prompt, TOKENS, -1) for one in requests}
    assert len({tuple(answer) for answer in answers.values()}) == len(requests)  # each adapter has its own
    return answers


def numbers(answers: Mapping[str, Answer]) -> dict[str, list[int]]:
    return {id: answer.numbers for id, answer in answers.items()}


def test_each_answer_alone_is_that_of_the_merged_weights(
    decoder: OpenVinoDecoder, requests: list[Generate], merged: Mapping[str, list[int]]
) -> None:
    for request in requests:
        assert numbers(run(ContinuousBatching(decoder, worth_copying=1), request)) == {request.id: merged[request.id]}


def test_each_answer_beside_those_of_other_adapters_is_that_of_the_merged_weights(
    decoder: OpenVinoDecoder, requests: list[Generate], merged: Mapping[str, list[int]]
) -> None:
    engine = ContinuousBatching(decoder, worth_copying=1)
    assert numbers(run(engine, *requests)) == merged
    again = run(engine, *requests)  # with what the cache holds by now
    assert numbers(again) == merged
    assert any(answer.end.cached_tokens for answer in again.values())


def test_drafted_tokens_change_no_answer(
    decoder: OpenVinoDecoder, requests: list[Generate], merged: Mapping[str, list[int]]
) -> None:
    engine = ContinuousBatching(decoder, worth_copying=1, speculative_tokens=3)
    answers = {request.id: run(engine, request)[request.id] for request in requests}
    assert numbers(answers) == merged
    assert sum(answer.end.drafts.accepted for answer in answers.values())


@pytest.mark.parametrize(
    ("layer", "shapes", "fault"),
    [
        ("layers.2.mlp.up_proj", ((2, 64), (96, 2)), "changes layers.2.mlp.up_proj; the model has 2 layers"),
        (NAMES[0], ((2, 32), (64, 2)), "the adapter x is of another model: in layers.0.*made for 32 inputs and 64"),
        (NAMES[1], ((2, 64), (64, 2)), "the adapter x is of another model: in layers.0.*model has 64 and 32"),
    ],
)
def test_an_adapter_of_another_model_is_refused(
    directory: Path, layer: str, shapes: tuple[tuple[int, int], tuple[int, int]], fault: str
) -> None:
    down, up = (np.zeros(shape, np.float32) for shape in shapes)
    with pytest.raises(ValueError, match=fault):
        OpenVinoDecoder(directory, 1, 32, threads=1, adapters={"x": {layer: Change(down, up)}})
