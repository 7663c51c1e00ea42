"""The running batch, on a decoder whose logits depend on every token of a slot."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from handlers.language.generation import Finished, Generate, PromptTooLong, QueueFull, Sampling, Token, Usage
from handlers.language.sampling import log_softmax
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.scheduling.chunks import Beside
from tests.support.handlers.generating import GREEDY, Answer, ToyDecoder, run


def request(
    id: str, prompt: Sequence[int] | None = None, max_tokens: int = 10, sampling: Sampling = GREEDY
) -> Generate:
    if prompt is None:
        prompt = np.random.default_rng(list(id.encode())).integers(1, 40, 12).tolist()
    return Generate(id, prompt, max_tokens, sampling)


def alone(asked: Generate) -> Answer:
    return run(ContinuousBatching(ToyDecoder()), asked)[asked.id]


def check_each_answer_is_the_one_alone_of(answers: dict[str, Answer], asked: Sequence[Generate], context: int) -> None:
    for one in asked:
        lone = run(ContinuousBatching(ToyDecoder(context=context)), one)[one.id]
        assert answers[one.id].numbers == lone.numbers


def check_each_answer_is_the_one_alone(answers: dict[str, Answer], asked: Sequence[Generate]) -> None:
    for one in asked:
        assert answers[one.id].numbers == alone(one).numbers
        assert answers[one.id].end.reason == alone(one).end.reason


def test_greedy_answers_are_the_likeliest_tokens_up_to_max_tokens() -> None:
    decoder, asked = ToyDecoder(), request("a", [3, 1, 4], max_tokens=5)
    tokens = [3, 1, 4]
    for _ in range(5):
        tokens.append(int(decoder.logits(tokens).argmax()))
    answer = alone(asked)
    assert answer.numbers == tokens[3:]
    assert answer.tokens[0] == Token("a", tokens[3], bytes([tokens[3]]))
    assert answer.end == Finished("a", "length", 3, 0, 5)


def test_the_models_own_end_gives_no_token() -> None:
    ends = [one for one in (alone(request(f"{i}", max_tokens=50)) for i in range(30)) if one.end.reason == "stop"]
    assert ends
    for answer in ends:
        assert 0 not in answer.numbers
        assert answer.end.generated_tokens == len(answer.numbers)


def test_the_models_own_end_is_told_with_its_log_probability_where_these_are_wanted() -> None:
    told = [alone(request(f"{i}", max_tokens=50, sampling=Sampling(temperature=0, logprobs=2))) for i in range(30)]
    ends = [answer.end for answer in told if answer.end.reason == "stop"]
    assert ends
    for end in ends:
        assert end.end
        assert (end.end.token, end.end.logprob) == (0, end.end.top[0][2])
    assert all(answer.end.end is None for answer in told if answer.end.reason == "length")


def test_more_requests_than_slots_all_get_the_answer_that_each_gets_alone() -> None:
    asked = [request(f"{i}", max_tokens=3 + 5 * (i % 4)) for i in range(23)]
    answers = run(ContinuousBatching(ToyDecoder()), *asked)
    check_each_answer_is_the_one_alone(answers, asked)


def test_requests_join_and_leave_a_running_batch_at_any_step() -> None:
    engine = ContinuousBatching(ToyDecoder())
    asked = [request(f"{i}", max_tokens=4 + 3 * i) for i in range(8)]
    answers = run(engine, asked[0], later={2 * i: lambda one=asked[i]: engine.add(one) for i in range(1, 8)})  # type: ignore[misc]
    check_each_answer_is_the_one_alone(answers, asked)


def test_sampled_answers_do_not_depend_on_the_rest_of_the_batch() -> None:
    asked = [request(f"{i}", sampling=Sampling(temperature=1.3, top_p=0.9, seed=i)) for i in range(9)]
    check_each_answer_is_the_one_alone(run(ContinuousBatching(ToyDecoder()), *asked), asked)


def test_a_prompts_log_probabilities_are_those_of_each_token_after_those_before_it() -> None:
    decoder = ToyDecoder()
    engine = ContinuousBatching(decoder, beside=Beside(4, 512))
    prompt = [7, 8, 9, *range(1, 31)]
    asked = replace(request("a", prompt, 3, Sampling(temperature=0, logprobs=2)), scored=True)
    other = request("b", prompt, 20)
    answers = run(engine, other, later={4: lambda: engine.add(asked)})
    check_each_answer_is_the_one_alone(answers, [other, replace(asked, scored=False)])
    scored = answers["a"].scored
    assert scored
    assert [token.token for token in scored.tokens] == prompt
    assert (scored.tokens[0].logprob, answers["a"].end.cached_tokens) == (None, 0)
    for i, token in enumerate(scored.tokens[1:], 1):
        logprobs = log_softmax(decoder.logits(prompt[:i]))
        assert token.logprob == pytest.approx(logprobs[token.token])
        assert [one for one, _, _ in token.top] == np.argsort(-logprobs)[:2].tolist()


def test_a_prompt_may_be_scored_without_an_answer() -> None:
    answer = alone(replace(request("a", [3, 1, 4], 0), scored=True))
    assert (answer.numbers, answer.end.reason, answer.end.generated_tokens) == ([], "length", 0)
    assert answer.scored
    assert len(answer.scored.tokens) == 3
    with pytest.raises(ValueError, match="must be 1 or more"):
        alone(request("a", [3, 1, 4], 0))


def test_first_come_is_first_served() -> None:
    answers = run(ContinuousBatching(ToyDecoder(slots=2)), *(request(f"{i}", max_tokens=4) for i in range(6)))
    starts = [answers[f"{i}"].steps[0] for i in range(6)]
    assert starts == sorted(starts)
    assert starts[0] == 0


def test_a_long_prompt_is_taken_in_chunks_between_which_others_get_their_tokens() -> None:
    decoder = ToyDecoder()
    engine = ContinuousBatching(decoder, beside=Beside(4, 512))
    long = request("long", [2] * 50, max_tokens=2)
    first, second = request("first", [5, 6], max_tokens=20), request("second", [7, 8], max_tokens=20)
    answers = run(engine, first, second, later={3: lambda: engine.add(long)})
    check_each_answer_is_the_one_alone(answers, [first, second, long])
    assert max(sum(load.values()) for load in decoder.loads) == 2 + 2 * 4 - 1
    for answer in (answers["first"], answers["second"]):
        assert answer.steps == list(range(answer.steps[0], answer.steps[0] + len(answer.steps)))


def test_a_prompt_alone_takes_whole_batches() -> None:
    decoder = ToyDecoder()
    run(ContinuousBatching(decoder, beside=Beside(4, 512)), request("long", [2] * 50, max_tokens=1))
    assert [sum(load.values()) for load in decoder.loads] == [32, 18]


def test_a_short_prompt_starts_at_once_while_a_long_one_is_read() -> None:
    engine = ContinuousBatching(ToyDecoder(batch=8))
    long, short = request("long", [2] * 50, max_tokens=3), request("short", [5, 6, 7], max_tokens=4)
    answers = run(engine, long, later={2: lambda: engine.add(short)})
    check_each_answer_is_the_one_alone(answers, [long, short])
    assert answers["short"].steps[0] == 2  # the step after it came
    assert answers["long"].steps[0] > answers["short"].steps[-1] - 4


def test_a_short_prompt_starts_while_a_long_one_is_read_beside_streams_whose_tokens_keep_coming() -> None:
    decoder = ToyDecoder(slots=8, context=2048, batch=512)
    engine = ContinuousBatching(decoder)
    streams = [request(f"{i}", [5 + i, 6], max_tokens=2000) for i in range(3)]
    long, short = request("long", [2] * 900, max_tokens=2), request("short", [5, 6, 7, 8, 9], max_tokens=2)
    for one in streams:
        engine.add(one)
    for _ in range(4):
        engine.step()
    engine.add(long)
    for _ in range(3):
        engine.step()
    before = len(decoder.loads)
    engine.add(short)
    said = [one for _ in range(3) for one in engine.step() if isinstance(one, Token)]
    assert any(one.id == "short" for one in said)
    # Nobody's gap is longer than beside the long prompt alone, and that goes on too.
    assert max(sum(load.values()) for load in decoder.loads[before:]) <= 3 + 2.5 * 3
    assert all(load[3] >= 1 for load in decoder.loads[before:])


def test_many_short_prompts_do_not_keep_a_long_one_from_being_read() -> None:
    engine = ContinuousBatching(ToyDecoder(context=256, batch=8))
    long = request("long", [2] * 100, max_tokens=2)
    shorts = [request(f"{i}", [5, 6, 7 + i % 20], max_tokens=1) for i in range(200)]
    later = {i: lambda one=one: engine.add(one) for i, one in enumerate(shorts, 1)}
    answers = run(engine, long, later=later)  # type: ignore[arg-type]
    assert answers["long"].steps[0] <= 101
    assert all(answers[f"{i}"].steps[0] <= i + 3 for i in range(100))


def test_of_two_long_prompts_the_first_is_read_first_and_a_third_does_not_overtake_the_second() -> None:
    engine = ContinuousBatching(ToyDecoder(context=256, batch=16))
    asked = [request(f"{i}", [2 + i] * size, max_tokens=2) for i, size in enumerate((100, 90, 80))]
    answers = run(engine, *asked)
    check_each_answer_is_the_one_alone_of(answers, asked, 256)
    starts = [answers[f"{i}"].steps[0] for i in range(3)]
    assert starts == sorted(starts)


def test_a_conversation_that_is_known_but_for_its_last_turn_is_short() -> None:
    engine = ContinuousBatching(ToyDecoder(context=256, batch=16))
    first = run(engine, request("first", [9] * 60, max_tokens=1))["first"]
    turn = request("turn", [*[9] * 60, *first.numbers, 7], max_tokens=2)
    answers = run(engine, request("long", [2] * 100, max_tokens=2), later={2: lambda: engine.add(turn)})
    assert answers["turn"].steps[0] == 2


def test_a_prompt_that_is_read_alone_lets_others_in_every_so_many_tokens() -> None:
    decoder = ToyDecoder(context=2048, batch=512)
    run(ContinuousBatching(decoder), request("long", [2] * 300, max_tokens=1))
    assert [sum(load.values()) for load in decoder.loads] == [64, 64, 64, 64, 44]


def test_cancelling_frees_the_slot_for_a_waiting_request() -> None:
    engine = ContinuousBatching(ToyDecoder(slots=1))
    endless, waiting = request("endless", [1, 2], max_tokens=50), request("waiting", max_tokens=3)
    answers = run(engine, endless, waiting, later={2: lambda: engine.cancel("endless")})
    assert answers["endless"].steps == [0, 1]
    assert answers["endless"].finished is None
    assert answers["waiting"].steps[0] == 2
    check_each_answer_is_the_one_alone(answers, [waiting])


def test_a_waiting_request_can_be_cancelled_and_an_unknown_id_is_ignored() -> None:
    engine = ContinuousBatching(ToyDecoder(slots=1))
    engine.add(request("a"))
    engine.add(request("b"))
    engine.cancel("b")
    engine.cancel("nobody")
    assert set(run(engine)) == {"a"}


def test_a_prompt_that_is_cancelled_between_its_chunks_leaves_a_usable_slot() -> None:
    engine = ContinuousBatching(ToyDecoder(), beside=Beside(4, 512))
    long, other = request("long", [2] * 40), request("other", [5, 6], max_tokens=20)
    again = request("again", [2] * 41)
    later = {4: lambda: engine.cancel("long"), 5: lambda: engine.add(again)}
    answers = run(engine, other, long, later=later)
    check_each_answer_is_the_one_alone(answers, [other, again])
    assert answers["again"].end.cached_tokens > 0


def test_the_beginning_that_a_finished_request_left_is_reused_and_the_answer_is_the_same() -> None:
    engine = ContinuousBatching(ToyDecoder())
    first = run(engine, request("first", [9] * 20))["first"]
    prompt = [*[9] * 20, *first.numbers, 7, 8]
    next_turn = request("next", prompt)
    answers = run(engine, next_turn)
    check_each_answer_is_the_one_alone(answers, [next_turn])
    # The last token that was generated had not been computed on.
    assert answers["next"].end.cached_tokens == 20 + len(first.numbers) - 1


def test_the_same_prompt_again_computes_its_last_token_only() -> None:
    decoder = ToyDecoder()
    engine = ContinuousBatching(decoder)
    run(engine, request("one", [9] * 20, max_tokens=1))
    again = run(engine, request("two", [9] * 20, max_tokens=1))["two"]
    assert again.end.cached_tokens == 19
    assert sum(decoder.loads[-1].values()) == 1
    assert again.numbers == alone(request("two", [9] * 20, max_tokens=1)).numbers


def test_the_beginning_of_a_running_request_is_copied() -> None:
    decoder = ToyDecoder()
    engine = ContinuousBatching(decoder)
    asked = [request(f"{i}", [*[9] * 20, i + 1], max_tokens=8) for i in range(4)]
    answers = run(engine, *asked)
    check_each_answer_is_the_one_alone(answers, asked)
    assert [answers[f"{i}"].end.cached_tokens for i in range(4)] == [0, 20, 20, 20]
    assert decoder.copies == 3


def test_a_prompt_without_room_for_an_answer_is_refused() -> None:
    engine = ContinuousBatching(ToyDecoder(context=16))
    with pytest.raises(PromptTooLong, match="has 16 tokens; the context is 16"):
        engine.add(request("a", [1] * 16))
    assert len(run(engine, request("b", [1] * 15))["b"].numbers) <= 1


def test_the_end_of_the_context_ends_the_answer() -> None:
    answer = run(ContinuousBatching(ToyDecoder(context=16)), request("a", [1] * 10, max_tokens=10**9))["a"]
    assert (answer.end.reason, len(answer.numbers)) == ("length", 6)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Generate("a", [], 5), "has no tokens"),
        (Generate("a", [1], 0), "max_tokens is 0"),
        (Generate("a", [1, 40], 5), "outside the vocabulary, 0 to 39"),
        (Generate("a", [-1], 5), "outside the vocabulary"),
        (Generate("taken", [1], 5), "taken is there already"),
    ],
)
def test_a_wrong_request_is_refused_with_its_fault(asked: Generate, message: str) -> None:
    engine = ContinuousBatching(ToyDecoder())
    engine.add(request("taken"))
    with pytest.raises(ValueError, match=message):
        engine.add(asked)


def test_a_full_queue_refuses_and_takes_again_when_there_is_room() -> None:
    engine = ContinuousBatching(ToyDecoder(slots=2), queue=1)
    for i in range(3):
        engine.add(request(f"{i}"))
    with pytest.raises(QueueFull, match="2 requests run and 1 wait"):
        engine.add(request("3"))
    run(engine)
    engine.add(request("3"))


def test_a_request_whose_sampling_fails_is_the_only_one_that_does() -> None:
    broken = Sampling(temperature=1)
    object.__setattr__(broken, "temperature", "hot")
    good = [request("good"), request("fine")]
    answers = run(ContinuousBatching(ToyDecoder()), good[0], request("broken", sampling=broken), good[1])
    assert answers["broken"].end.reason == "error"
    assert "str" in answers["broken"].end.error
    check_each_answer_is_the_one_alone(answers, good)


def test_after_a_batch_that_could_not_be_computed_the_next_requests_are_answered() -> None:
    decoder = ToyDecoder()
    engine = ContinuousBatching(decoder)
    decoder.fail = True
    assert run(engine, request("a"))["a"].end.error == "no memory"
    decoder.fail = False
    check_each_answer_is_the_one_alone(run(engine, request("b")), [request("b")])


def test_usage_counts_what_runs_waits_and_is_held() -> None:
    engine = ContinuousBatching(ToyDecoder(slots=2, context=64))
    assert engine.usage == Usage(0, 0, 0, 128)
    for i in range(3):
        engine.add(request(f"{i}", [1, 2, 3 + i], max_tokens=40))
    engine.step()
    assert engine.usage == Usage(1, 2, 3, 128)
    engine.step()
    assert engine.usage == Usage(2, 1, 4 + 3, 128)
    for i in range(3):
        engine.cancel(f"{i}")
    assert engine.usage == Usage(0, 0, 0, 128)


def test_an_idle_step_computes_nothing() -> None:
    decoder = ToyDecoder()
    assert ContinuousBatching(decoder).step() == []
    assert decoder.loads == []


def test_closing_frees_the_decoder() -> None:
    decoder = ToyDecoder()
    ContinuousBatching(decoder).close()
    assert decoder.closed


def test_an_answer_may_go_on_after_the_models_own_end() -> None:
    asked = Generate("a", [1], 12, Sampling(temperature=0, logit_bias=((0, 100.0),)))
    ended = run(ContinuousBatching(ToyDecoder()), asked)["a"]
    assert (ended.end.reason, ended.end.generated_tokens) == ("stop", 0)
    on = replace(asked, sampling=replace(asked.sampling, ignore_eos=True))
    answer = run(ContinuousBatching(ToyDecoder()), on)["a"]
    assert (answer.end.reason, answer.end.generated_tokens) == ("length", 12)


def test_a_bias_of_a_token_outside_the_vocabulary_is_refused() -> None:
    engine = ContinuousBatching(ToyDecoder())
    with pytest.raises(ValueError, match="logit_bias names the token 99999; the vocabulary has 0 to"):
        engine.add(Generate("a", [1], 1, Sampling(logit_bias=((99999, 1.0),))))
