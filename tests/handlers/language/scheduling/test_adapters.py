"""Requests of several adapters in one batch: each answer is its own adapter's, whatever the cache holds of others."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from handlers.language.generation import Generate
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.scheduling.prefix_cache import Placement, PrefixCache
from tests.support.handlers.generating import GREEDY, CyclingDecoder, PagedDecoder, ToyDecoder, run

NAMES = ("", "pirate", "poet")
PROMPT = np.random.default_rng(0).integers(1, 40, 20).tolist()


def asked(rounds: int = 1, prompt: Sequence[int] = PROMPT) -> list[Generate]:
    """The same prompt with each adapter and with none, some times."""
    return [Generate(f"{i}{name}", prompt, 8, GREEDY, adapter=name) for i in range(rounds) for name in NAMES]


def alone(request: Generate) -> list[int]:
    return run(ContinuousBatching(ToyDecoder()), request)[request.id].numbers


def test_each_answer_of_a_batch_is_its_own_adapters() -> None:
    answers = run(ContinuousBatching(ToyDecoder()), *asked())
    assert {request.id: alone(request) for request in asked()} == {id: answer.numbers for id, answer in answers.items()}
    assert len({tuple(answer.numbers) for answer in answers.values()}) == len(NAMES)


@pytest.mark.parametrize("decoder", [ToyDecoder(slots=2), PagedDecoder(slots=2)], ids=["own caches", "one cache"])
def test_a_known_beginning_is_shared_with_requests_of_the_same_adapter_alone(decoder: ToyDecoder) -> None:
    engine = ContinuousBatching(decoder, worth_copying=1)
    cached = [run(engine, request)[request.id].end.cached_tokens for request in asked(2)]
    assert cached == [0] * 6  # of three in turn, two slots hold none
    again = [run(engine, replace(request, id="x"))["x"] for request in [asked()[2], asked()[2], asked()[1]]]
    assert [answer.end.cached_tokens for answer in again] == [19, 19, 19]
    assert [answer.numbers for answer in again] == [alone(request) for request in [asked()[2], asked()[2], asked()[1]]]


def test_another_adapters_slot_is_neither_copied_nor_continued() -> None:
    cache = PrefixCache(2, worth_copying=1)
    cache.place([5, 6, 7, 8], free=[0], adapter="pirate")
    cache.tokens[0] = [5, 6, 7, 8]
    assert cache.cached([5, 6, 7, 8, 9], "poet") == cache.cached([5, 6, 7, 8, 9]) == 0
    assert cache.cached([5, 6, 7, 8, 9], "pirate") == 4
    assert cache.place([5, 6, 7, 8, 9], free=[0, 1], adapter="poet") == Placement(1, 1, 0)
    assert cache.place([5, 6, 7, 8, 9], free=[0, 1], adapter="pirate") == Placement(0, 0, 4)


def test_a_request_that_had_to_give_up_its_slot_goes_on_with_its_adapter() -> None:
    engine = ContinuousBatching(PagedDecoder(slots=4, cells=64), worth_copying=1)
    requests = [replace(request, max_tokens=30) for request in asked(2)]
    answers = run(engine, *requests)
    assert engine.usage.preemptions
    assert {id: answer.numbers for id, answer in answers.items()} == {one.id: alone(one) for one in requests}


def test_drafts_change_no_answer_of_an_adapter() -> None:
    requests = [replace(request, max_tokens=24) for request in asked(3, [3, 1, 4, 1, 5])]
    plain, drafting = (ContinuousBatching(CyclingDecoder(), speculative_tokens=drafts) for drafts in (0, 7))
    expected = {request.id: run(plain, request)[request.id].numbers for request in requests}
    alone, together = {request.id: run(drafting, request)[request.id] for request in requests}, run(drafting, *requests)
    for answers in (alone, together):
        assert {id: answer.numbers for id, answer in answers.items()} == expected
    assert sum(answer.end.drafts.accepted for answer in alone.values())


def test_an_unknown_adapter_is_refused_and_no_request_waits() -> None:
    engine = ContinuousBatching(ToyDecoder())
    with pytest.raises(ValueError, match="there is no adapter 'parrot'; there are pirate, poet"):
        engine.add(Generate("a", [1], 1, GREEDY, adapter="parrot"))
    assert engine.usage.waiting == 0
