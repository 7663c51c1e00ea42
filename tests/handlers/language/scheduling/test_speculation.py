"""Speculative decoding in the running batch: answers are those without drafts, in fewer steps."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from handlers.language.generation import Constraint, Generate, Sampling
from handlers.language.handler import ChatHandler
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.scheduling.chunks import Beside
from handlers.language.template import ChatTemplate
from handlers.message import JSON, NEXT, Request
from tests.support.chat_archive import contract, echoed
from tests.support.handlers.echo_engine import SMOLLM2
from tests.support.handlers.generating import GREEDY, Answer, CyclingDecoder, ToyDecoder, run

DRAFTS = 7  # more than an engine has by itself, so that more than two requests draft
SEEDED = Sampling(temperature=0.3, seed=5, top_p=0.95)
SAMPLINGS = {
    "greedy": GREEDY,
    "seeded": SEEDED,
    "penalised": Sampling(temperature=0.3, seed=5, frequency_penalty=0.2, repetition_penalty=1.05),
    "scored": Sampling(temperature=0, logprobs=3),
}


def requests(count: int, sampling: Sampling, max_tokens: int = 24) -> list[Generate]:
    """Requests with random prompts of a few tokens."""
    chance = np.random.default_rng(3)
    return [
        Generate(f"{i}", chance.integers(1, 40, 2 + i % 9).tolist(), max_tokens, replace(sampling, seed=i))
        for i in range(count)
    ]


def answers(asked: Sequence[Generate], drafts: int, slots: int = 4, together: bool = True) -> dict[str, Answer]:
    engine = ContinuousBatching(CyclingDecoder(slots), speculative_tokens=drafts)
    if together:
        return run(engine, *asked)
    return {request.id: run(engine, request)[request.id] for request in asked}


def check_equal(given: dict[str, Answer], expected: dict[str, Answer]) -> None:
    assert given.keys() == expected.keys()
    for ident, answer in given.items():
        other = expected[ident]
        assert answer.numbers == other.numbers
        assert [token.logprob for token in answer.tokens] == [token.logprob for token in other.tokens]
        assert [token.top for token in answer.tokens] == [token.top for token in other.tokens]
        assert (answer.end.reason, answer.end.generated_tokens) == (other.end.reason, other.end.generated_tokens)
        assert (answer.end.prompt_tokens, answer.end.error) == (other.end.prompt_tokens, "")


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in a batch"])
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_two_hundred_answers_are_the_same_with_drafts_and_without(sampling: Sampling, together: bool) -> None:
    asked = requests(200, sampling)
    given = answers(asked, DRAFTS, together=together)
    check_equal(given, answers(asked, 0, together=together))
    # Else nothing was tried.
    assert sum(answer.end.drafts.accepted for answer in given.values()) > 20
    assert any(answer.end.drafts.drafted > answer.end.drafts.accepted for answer in given.values())


def test_what_goes_round_takes_fewer_steps() -> None:
    asked = requests(10, GREEDY, max_tokens=50)
    given, expected = answers(asked, DRAFTS, together=False), answers(asked, 0, together=False)
    steps, before = (sum(answer.steps[-1] for answer in some.values()) for some in (given, expected))
    assert steps < 0.7 * before
    assert all(answer.end.drafts == (0, 0) for answer in expected.values())
    assert all(answer.tokens[-1].drafts == answer.end.drafts for answer in given.values())


def test_an_answer_ends_at_its_limit_and_at_the_end_of_the_context_with_nothing_drafted_beyond() -> None:
    for most in (*range(1, 30), 10**9):
        (asked,) = requests(1, GREEDY, max_tokens=most)  # the decoder refuses more tokens than its context
        given, expected = answers([asked], DRAFTS), answers([asked], 0)
        check_equal(given, expected)
        assert given["0"].end.reason == "length"


def test_the_models_own_end_ends_a_draft() -> None:
    class Ends(CyclingDecoder):
        def ends(self, token: int) -> bool:
            return token % 10 == 0

    asked = requests(60, Sampling(temperature=0.5))
    given, expected = (run(ContinuousBatching(Ends(), speculative_tokens=drafts), *asked) for drafts in (DRAFTS, 0))
    check_equal(given, expected)
    assert {answer.end.reason for answer in given.values()} == {"stop", "length"}


def test_the_slot_holds_what_was_answered_and_no_draft_so_that_a_next_turn_knows_it() -> None:
    for asked in requests(30, SEEDED, max_tokens=30):
        decoder = CyclingDecoder()
        engine = ContinuousBatching(decoder, speculative_tokens=DRAFTS)
        first = run(engine, asked)[asked.id]
        spoken = [*asked.prompt, *first.numbers]
        turn = Generate("next", [*spoken, 7], 5, GREEDY)
        answer = run(engine, turn)["next"]
        assert answer.numbers == run(ContinuousBatching(CyclingDecoder()), turn)["next"].numbers
        assert answer.end.cached_tokens == len(spoken) - 1


def test_a_request_that_is_cancelled_amid_its_drafts_leaves_a_usable_slot_and_harms_no_other() -> None:
    asked = requests(6, GREEDY)
    for step in range(2, 14):
        engine = ContinuousBatching(CyclingDecoder(2), speculative_tokens=DRAFTS)
        given = run(engine, *asked, later={step: partial(engine.cancel, "0")})
        others = asked[1:]
        check_equal({one.id: given[one.id] for one in others}, answers(others, 0))


def test_requests_that_join_and_leave_get_the_same_answers() -> None:
    asked = requests(12, SEEDED)
    engine = ContinuousBatching(CyclingDecoder(), speculative_tokens=DRAFTS)
    later = {3 * i: lambda i=i: engine.add(asked[i]) for i in range(1, 12)}
    check_equal(run(engine, asked[0], later=later), answers(asked, 0))  # type: ignore[arg-type]


def test_the_more_requests_run_the_less_each_drafts_and_nothing_while_a_prompt_is_read() -> None:
    most: dict[int, int] = {}
    for running in range(1, 9):
        decoder = CyclingDecoder(slots=8)
        run(ContinuousBatching(decoder, speculative_tokens=DRAFTS), *requests(running, GREEDY))
        loads = [load for load in decoder.loads[running + 10 :] if len(load) == running]
        most[running] = max((max(load.values()) for load in loads), default=1) - 1
    assert most == {1: 7, 2: 3, 3: 1, 4: 1, 5: 0, 6: 0, 7: 0, 8: 0}
    decoder = CyclingDecoder(context=256, batch=256)
    engine = ContinuousBatching(decoder, beside=Beside(4, 512), speculative_tokens=DRAFTS)
    stream, long = requests(2, GREEDY, max_tokens=200)
    run(engine, stream, later={20: lambda: engine.add(replace(long, prompt=[2] * 40, max_tokens=1))})
    reading = [load for load in decoder.loads[20:] if len(load) == 2 and max(load.values()) > 1]
    assert reading
    assert all(min(load.values()) == 1 for load in reading)


def test_drafts_never_exceed_the_decoders_batch() -> None:
    asked = requests(3, GREEDY)
    decoder = CyclingDecoder(batch=5)  # which refuses more
    check_equal(run(ContinuousBatching(decoder, speculative_tokens=100), *asked), answers(asked, 0))


def test_a_right_prediction_saves_steps_and_a_wrong_one_changes_nothing() -> None:
    (asked,) = requests(1, GREEDY)

    def answer(prediction: Sequence[int]) -> Answer:
        engine = ContinuousBatching(ToyDecoder(), speculative_tokens=DRAFTS)
        return run(engine, replace(asked, prediction=prediction))["0"]

    plain = answer([])
    right, wrong = answer(plain.numbers), answer([39, 38, 37, 36])
    assert right.numbers == wrong.numbers == plain.numbers
    assert right.steps[-1] < 0.5 * plain.steps[-1]
    assert right.end.drafts.accepted > 0.8 * len(plain.numbers)
    assert wrong.end.drafts.accepted == 0
    with pytest.raises(ValueError, match="the prediction has tokens outside the vocabulary"):
        answer([40])


class Spoken(CyclingDecoder):
    """All bytes, of which 0 is the end."""

    def __init__(self) -> None:
        super().__init__(context=400, vocabulary=256)

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token else b""

    def tokenize(self, text: str, special: bool) -> list[int]:
        return list(text.encode())


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("regex", "(the tide, |a fox; ){3,12}"),
        Constraint("json_schema", '{"type": "array", "items": {"enum": ["fox", "tide"]}, "minItems": 6}'),
        Constraint("choice", '["the tide the tide the tide", "the tide the tide the fox"]'),
        Constraint("lark", 'start: ("ab" | "cd" | "ef")+'),
    ],
    ids=lambda constraint: constraint.kind,
)
def test_an_answer_held_to_a_grammar_is_the_same_and_no_draft_breaks_it(constraint: Constraint) -> None:
    pytest.importorskip("llguidance", reason="llguidance is not installed")
    accepted = 0
    for seed in range(10):
        sampling = Sampling(temperature=seed / 5, seed=seed, logprobs=1, constraint=constraint)
        asked = Generate("a", list(b"Say the tide, the tide, the tide: "), 80, sampling)
        engines = [ContinuousBatching(Spoken(), speculative_tokens=drafts) for drafts in (DRAFTS, 0)]
        given, expected = (run(engine, asked) for engine in engines)
        check_equal(given, expected)
        accepted += given["a"].end.drafts.accepted
    assert accepted


def complete(engine: ContinuousBatching, **parameters: Any) -> dict[str, Any]:
    """The whole answer to a request for a completion."""
    handler = ChatHandler(contract("chat", echoed("Hello")), engine, ChatTemplate(SMOLLM2, engine.tokenize))
    body = json.dumps({"prompt": [5, 6, 7], "temperature": 0.5, "seed": 4} | parameters).encode()
    parts = handler.handle([Request(body, {"content-type": JSON, "url_path": "v1/completions"}, {}, "a")])
    while parts[-1] is None or parts[-1].headers.get(NEXT) == "true":
        parts += handler.handle([Request(b"", {}, {}, "a")])
    answer: dict[str, Any] = json.loads(b"".join(part.body for part in parts if part))
    return answer


def test_several_answers_of_a_request_stop_at_their_strings_as_without_drafts_and_their_drafts_are_counted() -> None:
    def both(**parameters: Any) -> list[dict[str, Any]]:
        decoder = CyclingDecoder(context=200)
        engines = [ContinuousBatching(decoder, speculative_tokens=drafts) for drafts in (DRAFTS, 0)]
        return [complete(engine, **parameters) for engine in engines]

    whole = both(n=3, max_tokens=150, logprobs=2)
    stops = [choice["text"][at : at + 2] for choice in whole[0]["choices"] for at in (40, 90)][:4]
    for given, expected in (whole, both(n=3, max_tokens=150, logprobs=2, stop=stops)):
        assert given["choices"] == expected["choices"]
        counts, other = given["usage"], expected["usage"]
        assert other["completion_tokens_details"] == {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
        assert 0 < counts["completion_tokens_details"]["accepted_prediction_tokens"] < counts["completion_tokens"]
        assert counts["completion_tokens"] == other["completion_tokens"]
    assert any(len(choice["text"]) < 150 for choice in given["choices"])
