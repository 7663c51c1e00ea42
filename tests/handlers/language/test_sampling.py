"""Sampling against plain computations of the same."""

import math
from dataclasses import replace

import numpy as np
import pytest

from handlers.contract import Array
from handlers.language.generation import Sampling
from handlers.language.sampling import Sampler, largest, log_softmax, nucleus

LOGITS = np.random.default_rng(0).normal(0, 3, 1000).astype(np.float32)


def softmax(logits: Array) -> Array:
    weights = [math.exp(value) for value in logits.tolist()]
    return np.array(weights) / math.fsum(weights)


def frequencies(sampling: Sampling, logits: Array, draws: int = 4000) -> Array:
    counts = np.zeros(len(logits))
    for seed in range(draws):
        counts[Sampler(replace(sampling, seed=seed))(logits).token] += 1
    return counts / draws


def test_temperature_zero_takes_the_likeliest() -> None:
    assert Sampler(Sampling(temperature=0))(LOGITS).token == int(LOGITS.argmax())


@pytest.mark.parametrize("temperature", [1e-300, 1e-6, 1e-5, 1e-3])
def test_a_tiny_temperature_is_nearly_greedy_and_overflows_nowhere(temperature: float) -> None:
    assert Sampler(Sampling(temperature=temperature))(LOGITS).token == int(LOGITS.argmax())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_with_their_probabilities(temperature: float) -> None:
    logits = np.array([1, 0, -1, 2, 0.5], np.float32)
    expected = softmax(logits / temperature)
    assert frequencies(Sampling(temperature=temperature), logits) == pytest.approx(expected, abs=0.03)


def test_top_k_draws_among_the_k_likeliest() -> None:
    drawn = frequencies(Sampling(top_k=3), LOGITS)
    best = np.argsort(-LOGITS)[:3]
    assert drawn[best] == pytest.approx(softmax(LOGITS[best]), abs=0.03)
    assert drawn[best].sum() == pytest.approx(1)


def test_top_p_draws_among_the_fewest_that_have_this_probability() -> None:
    logits = np.log(np.array([0.5, 0.25, 0.15, 0.07, 0.03], np.float32))
    assert frequencies(Sampling(top_p=0.8), logits) == pytest.approx([5 / 9, 2.5 / 9, 1.5 / 9, 0, 0], abs=0.03)


def test_a_top_p_of_0_leaves_the_likeliest() -> None:
    for likeliest in range(3):
        logits = np.where(np.arange(3) == likeliest, 2.0, 1.0).astype(np.float32)
        assert frequencies(Sampling(top_p=0), logits)[likeliest] == 1


def test_top_p_counts_the_probability_among_the_top_k() -> None:
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    assert frequencies(Sampling(top_k=2, top_p=0.5), logits) == pytest.approx([1, 0, 0, 0])


@pytest.mark.parametrize("top_p", [0, 0.01, 0.3, 0.9, 0.999, 0.9999999])
def test_a_nucleus_is_the_one_of_a_whole_sort(top_p: float) -> None:
    weights = np.exp(LOGITS)
    order = np.argsort(-weights, kind="stable")
    sums = np.cumsum(weights[order], dtype=np.float64)
    expected = order[: int(np.searchsorted(sums, top_p * sums[-1])) + 1]
    assert nucleus(weights, top_p).tolist() == expected.tolist()


def test_even_weights_have_the_nucleus_of_their_share() -> None:
    assert len(nucleus(np.ones(1000, np.float32), 0.25)) == 250


def test_the_same_seed_draws_the_same_and_others_differ() -> None:
    def draws(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling(temperature=2, seed=seed))
        return [sampler(LOGITS).token for _ in range(20)]

    assert draws(7) == draws(7)
    assert draws(7) != draws(8)
    assert draws(-1) == draws(-1)
    assert draws(None) != draws(None)


def test_penalties_are_taken_off_as_openai_defines_them() -> None:
    sampler = Sampler(Sampling(temperature=0, presence_penalty=0.7, frequency_penalty=0.4))
    counts = [0] * len(LOGITS)
    for _ in range(200):
        penalised = [
            value - counts[i] * 0.4 - (counts[i] > 0) * 0.7 for i, value in enumerate(LOGITS.astype(float).tolist())
        ]
        token = sampler(LOGITS).token
        assert penalised[token] == pytest.approx(max(penalised), abs=1e-5)
        counts[token] += 1
    assert max(counts) > 1


def test_a_negative_penalty_favours_what_was_said() -> None:
    sampler = Sampler(Sampling(temperature=1, frequency_penalty=-2.0, seed=0))
    logits = np.zeros(50, np.float32)
    assert len({sampler(logits).token for _ in range(60)}) < 10


def test_the_logits_stay_as_they_were() -> None:
    logits = LOGITS.copy()
    sampler = Sampler(Sampling(temperature=0.7, top_k=50, top_p=0.9, presence_penalty=1, logprobs=3))
    for _ in range(5):
        sampler(logits)
    assert np.array_equal(logits, LOGITS)


def test_logprobs_are_those_of_the_model_before_temperature_and_penalties() -> None:
    sampler = Sampler(Sampling(temperature=1.7, presence_penalty=1.5, logprobs=4, seed=3))
    expected = np.log(softmax(LOGITS))
    for _ in range(10):
        sampled = sampler(LOGITS)
        assert sampled.logprob == pytest.approx(expected[sampled.token], abs=1e-4)
        assert [token for token, _ in sampled.top] == np.argsort(-expected)[:4].tolist()
        assert [value for _, value in sampled.top] == pytest.approx(np.sort(expected)[::-1][:4], abs=1e-4)


def test_no_alternatives_are_given_where_none_or_no_logprobs_are_asked_for() -> None:
    assert Sampler(Sampling())(LOGITS)[1:] == (None, [])
    sampled = Sampler(Sampling(logprobs=0))(LOGITS)
    assert sampled.logprob is not None
    assert sampled.top == []


def test_more_alternatives_than_tokens_are_all_of_them() -> None:
    assert largest(np.array([1.0, 3.0, 2.0]), 9).tolist() == [1, 2, 0]


def test_log_softmax_of_large_logits_is_finite() -> None:
    assert log_softmax(np.array([1e4, 1e4, -1e4], np.float32))[:2] == pytest.approx([math.log(0.5)] * 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_an_error(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        Sampler(Sampling(temperature=0))(np.array([1, bad, 2], np.float32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1; it must be 0 or more"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_p": -0.1}, "top_p is -0.1; it must be from 0 to 1"),
        ({"top_p": 1.01}, "top_p is 1.01"),
        ({"top_k": -1}, "top_k is -1"),
        ({"presence_penalty": math.inf}, "presence_penalty is inf"),
        ({"frequency_penalty": math.nan}, "frequency_penalty is nan"),
        ({"logprobs": -1}, "logprobs is -1"),
    ],
)
def test_a_setting_out_of_its_range_is_named(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)  # type: ignore[arg-type]


def test_min_p_draws_among_tokens_near_the_likeliest_one() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    assert frequencies(Sampling(min_p=0.5), logits) == pytest.approx([5 / 8, 3 / 8, 0, 0], abs=0.03)
    assert frequencies(Sampling(min_p=0.5, temperature=3), logits)[2] > 0  # after the temperature, as vLLM does
    assert frequencies(Sampling(min_p=0.2, top_k=3, top_p=0.5), logits)[1:].sum() == 0
    assert frequencies(Sampling(min_p=1), logits)[0] == 1


def test_a_repetition_of_the_prompt_or_the_answer_is_less_likely() -> None:
    logits = np.array([4, 3, -1, -2], np.float32)
    sampler = Sampler(Sampling(temperature=0, repetition_penalty=2), prompt=[0, 2])
    assert [sampler(logits).token for _ in range(2)] == [1, 0]  # 4 / 2 < 3, then 3 / 2 < 4 / 2
    negative = Sampler(Sampling(temperature=0, repetition_penalty=3), prompt=[0])
    assert negative(np.array([-1, -2], np.float32)).token == 1  # -1 * 3 < -2
    assert Sampler(Sampling(temperature=0), prompt=[0])(logits).token == 0
    assert logits.tolist() == [4, 3, -1, -2]


def test_a_bias_is_added_to_the_logits_of_its_tokens() -> None:
    logits = np.array([1, 0, 0.5], np.float32)
    assert Sampler(Sampling(temperature=0, logit_bias=((1, 2.0), (2, -100.0))))(logits).token == 1
    drawn = frequencies(Sampling(logit_bias=((0, -100.0),)), logits)
    assert drawn == pytest.approx([0, *softmax(logits[1:])], abs=0.03)
    logprobs = Sampler(Sampling(temperature=0, logit_bias=((1, 2.0),), logprobs=1))(logits)
    assert logprobs.logprob == pytest.approx(math.log(softmax(logits)[1]))  # the model's own
