"""Requests that share one cache: who starts, who must wait, and that every answer is the one alone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from handlers.language.generation import Generate, Sampling, Token
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.scheduling.chunks import Beside
from tests.support.handlers.generating import GREEDY, Answer, PagedDecoder, ToyDecoder, run

CONTEXT = 64
ON = Sampling(temperature=0, ignore_eos=True)


def request(id: str, length: int, max_tokens: int = 12, sampling: Sampling = ON, begin: Sequence[int] = ()) -> Generate:
    rest = np.random.default_rng(list(id.encode())).integers(1, 40, length - len(begin)).tolist()
    return Generate(id, [*begin, *rest], max_tokens, sampling)


def check_each_answer_is_the_one_alone(answers: dict[str, Answer], asked: Sequence[Generate]) -> None:
    for one in asked:
        alone = run(ContinuousBatching(ToyDecoder(context=CONTEXT)), one)[one.id]
        assert answers[one.id].numbers == alone.numbers
        assert answers[one.id].end.reason == alone.end.reason
        assert answers[one.id].end.generated_tokens == alone.end.generated_tokens


@pytest.mark.parametrize("seed", range(8))
def test_answers_that_outgrow_the_cache_are_those_that_each_gets_alone(seed: int) -> None:
    engine = ContinuousBatching(PagedDecoder(), worth_copying=1)
    random = np.random.default_rng(seed)
    known = [7, 8, 9, 10, 11, 12]
    asked = [
        request(
            f"{seed}-{i}",
            int(random.integers(8, 30)),
            int(random.integers(1, 40)),
            GREEDY if random.random() < 0.5 else Sampling(temperature=1.2, seed=i),
            known if random.random() < 0.5 else (),
        )
        for i in range(30)
    ]
    later = {int(step): lambda one=one: engine.add(one) for step, one in zip(range(0, 90, 3), asked, strict=True)}
    answers = run(engine, later=later)  # type: ignore[arg-type]
    check_each_answer_is_the_one_alone(answers, asked)


def test_many_short_requests_or_few_long_ones_run_in_the_same_memory() -> None:
    def most_at_once(length: int, max_tokens: int, count: int) -> int:
        engine = ContinuousBatching(PagedDecoder(slots=16, cells=128))
        for i in range(count):
            engine.add(request(f"{i}", length, max_tokens))
        most = 0
        while engine.usage.running or engine.usage.waiting:
            engine.step()
            most = max(most, engine.usage.running)
        return most

    assert most_at_once(4, 20, 16) >= 8
    assert most_at_once(50, 12, 4) == 2


def test_the_request_that_started_first_keeps_its_slot_and_the_last_one_gives_up_its_own() -> None:
    engine = ContinuousBatching(PagedDecoder(slots=4, cells=64))
    asked = [request(f"{i}", 12, 40) for i in range(3)]
    answers = run(engine, *asked)
    check_each_answer_is_the_one_alone(answers, asked)
    assert engine.usage.preemptions
    first = answers["0"].steps
    assert first == list(range(first[0], first[0] + 40))  # a token at every step
    ends = [answers[f"{i}"].steps[-1] for i in range(3)]
    assert ends == sorted(ends)


def test_a_long_prompt_that_waits_for_room_is_not_overtaken_by_short_ones() -> None:
    engine = ContinuousBatching(PagedDecoder(slots=8, cells=128))
    running = [request(f"r{i}", 20, 30) for i in range(3)]
    long = request("long", 60, 2)
    shorts = [request(f"s{i}", 4, 3) for i in range(20)]
    for one in running:
        engine.add(one)
    for _ in range(6):
        engine.step()
    engine.add(long)
    later = {2 * i: lambda one=one: engine.add(one) for i, one in enumerate(shorts)}
    answers = run(engine, later=later)  # type: ignore[arg-type]
    check_each_answer_is_the_one_alone(answers, [long, *shorts])
    began = answers["long"].steps[0] - 2  # two steps read it, beside which a short one may be read
    assert began <= min(answers[one.id].steps[0] for one in shorts)


def test_a_prompt_that_needs_the_whole_cache_runs_after_whatever_was_kept_of_others() -> None:
    engine = ContinuousBatching(PagedDecoder(slots=4, cells=CONTEXT), worth_copying=1)
    before = [request(f"{i}", 20, 6) for i in range(3)]
    check_each_answer_is_the_one_alone(run(engine, *before), before)
    whole = request("whole", 50, 100, begin=before[0].prompt[:7])
    answers = run(engine, whole)
    check_each_answer_is_the_one_alone(answers, [whole])
    assert len(answers["whole"].numbers) == CONTEXT - 50
    assert engine.usage.preemptions == 0


def test_a_beginning_that_runs_is_shared_without_room_of_its_own() -> None:
    begin = list(range(1, 33))
    engine = ContinuousBatching(PagedDecoder(slots=4, cells=96), worth_copying=1)
    asked = [request(f"{i}", 36, 8, begin=begin) for i in range(4)]
    most, answers = 0, dict[str, list[int]]()
    for one in asked:
        engine.add(one)
    while engine.usage.running or engine.usage.waiting:
        for event in engine.step():
            if isinstance(event, Token):
                answers.setdefault(event.id, []).append(event.token)
        most = max(most, engine.usage.running)
    assert most == 4  # 4 times 44 tokens are nearly twice the cache
    for one in asked:
        assert answers[one.id] == run(ContinuousBatching(ToyDecoder(context=CONTEXT)), one)[one.id].numbers


def test_a_request_that_is_cancelled_while_its_prompt_is_read_leaves_its_room() -> None:
    engine = ContinuousBatching(PagedDecoder(slots=2, cells=CONTEXT, batch=8))
    engine.add(request("long", 60, 2))
    engine.step()
    engine.cancel("long")
    assert engine.usage.kv_used == 0
    other = request("other", 60, 2)
    check_each_answer_is_the_one_alone(run(engine, other), [other])


def test_one_that_lost_its_slot_can_be_cancelled() -> None:
    engine = ContinuousBatching(PagedDecoder(slots=4, cells=64))
    for i in range(3):
        engine.add(request(f"{i}", 12, 40))
    while not engine.usage.preemptions:
        engine.step()
    engine.cancel("2")
    answers = run(engine)
    assert "2" not in answers


def test_a_prompt_whose_log_probabilities_are_wanted_may_lose_its_slot() -> None:
    decoder = PagedDecoder(slots=4, cells=64, batch=8)
    engine = ContinuousBatching(decoder, beside=Beside(2, 512))
    growing = [request(f"{i}", 8, 24) for i in range(2)]
    scored = replace(request("scored", 24, 4, Sampling(temperature=0, logprobs=1, ignore_eos=True)), scored=True)
    answers = run(engine, *growing, later={4: lambda: engine.add(scored)})
    check_each_answer_is_the_one_alone(answers, growing)
    alone = run(ContinuousBatching(ToyDecoder(context=CONTEXT)), scored)["scored"]
    assert answers["scored"].numbers == alone.numbers
    assert answers["scored"].scored == alone.scored


def test_drafts_need_no_room_that_others_have() -> None:
    prompt = [1, 2, 3, 4, 5, 6] * 4
    asked = [Generate(f"{i}", [*prompt, i + 1], 30, ON) for i in range(3)]
    engine = ContinuousBatching(PagedDecoder(slots=4, cells=96), worth_copying=1, speculative_tokens=3)
    check_each_answer_is_the_one_alone(run(engine, *asked), asked)


def test_held_cells_are_told_as_shares_of_the_whole_cache() -> None:
    engine = ContinuousBatching(PagedDecoder(slots=4, cells=128))
    assert engine.usage.kv_total == 128
    engine.add(request("a", 9, 20))
    engine.step()
    assert engine.usage.kv_used == 12  # three blocks
