import numpy as np
import pytest
import torch

from tests.support.training.tiny import ANSWER, EXPECTED, Tiny
from training.data import DataError
from training.language.evaluation.pairwise import answer_logprobs, fits, win_rate
from training.language.evaluation.text_models import NetworkTextModel

TALK = [{"role": "user", "content": EXPECTED.question}, {"role": "assistant", "content": ANSWER}]


def network(tiny: Tiny, context: int = 256) -> NetworkTextModel:
    return NetworkTextModel(tiny.module, tiny.tokenizer, tiny.metadata, context)


def test_what_counts_is_the_answer_given_the_conversation_before_it(taught: Tiny) -> None:
    prompt, answer = taught.tokenizer.tokenize(EXPECTED.conversation, True), taught.tokenizer.tokenize(ANSWER, False)
    with torch.inference_mode():
        logprobs = taught.module(torch.tensor([[*prompt, *answer]]))[0].log_softmax(-1)
    expected = sum(logprobs[len(prompt) + i - 1, token].item() for i, token in enumerate(answer))
    assert answer_logprobs(network(taught), [TALK]) == pytest.approx([expected], rel=1e-4)


def test_who_knows_the_answers_wins(tiny: Tiny, taught: Tiny) -> None:
    talks = [TALK] * 12
    won = win_rate(answer_logprobs(network(tiny), talks), answer_logprobs(network(taught), talks))
    assert (won.rows, won.share, won.high) == (12, 1, 1)
    assert 0.7 < won.low < 0.8
    lost = win_rate(answer_logprobs(network(taught), talks), answer_logprobs(network(tiny), talks))
    assert lost.share == 0
    assert lost.high == pytest.approx(1 - won.low)


def test_ties_are_half_a_win_each_and_decide_nothing() -> None:
    logprobs = np.linspace(-90, -10, 30)
    won = win_rate(logprobs, logprobs * (1 + 1e-7))
    assert won.share == 0.5
    assert won.low < 0.5 < won.high


def test_an_interval_holds_the_true_share_nineteen_times_in_twenty() -> None:
    random, inside = np.random.default_rng(0), 0
    for _ in range(500):
        won = win_rate(np.zeros(40), random.choice([1.0, -1.0], 40, p=[0.7, 0.3]))
        inside += won.low <= 0.7 <= won.high
    assert 0.92 * 500 < inside < 0.99 * 500


def test_a_sentence_tells_the_share_and_its_interval() -> None:
    assert str(win_rate(np.zeros(10), np.ones(10))) == (
        "it finds the given answer likelier in 100% of 10 conversations (95 % from 72% to 100%)"
    )


def test_whether_a_model_takes_a_conversation_is_told_before(taught: Tiny) -> None:
    long = [TALK[0], {"role": "assistant", "content": ANSWER * 20}]
    assert [fits(network(taught, 100), talk) for talk in (TALK, long)] == [True, False]


def test_a_conversation_that_is_too_long_is_named(taught: Tiny) -> None:
    with pytest.raises(DataError, match="conversation 2 has [0-9]+ tokens; the model takes 99"):
        answer_logprobs(network(taught, 100), [TALK, [TALK[0], {"role": "assistant", "content": ANSWER * 20}]])
