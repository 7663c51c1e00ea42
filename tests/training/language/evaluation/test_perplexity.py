import math

import numpy as np
import pytest
import torch

from tests.support.training.tiny import SENTENCE, Tiny, TorchDecoder
from training.language.evaluation import perplexity
from training.language.evaluation.perplexity import TextPrediction


@pytest.fixture
def tokens(tiny: Tiny) -> list[int]:
    return tiny.tokenizer.tokenize(SENTENCE, False)


def test_one_who_guesses_has_the_perplexity_of_the_vocabularys_size(tiny: Tiny, tokens: list[int]) -> None:
    module = tiny.module
    with torch.inference_mode():
        module.norm.weight.zero_()
    assert perplexity.by_reference(module, tokens).perplexity == pytest.approx(len(tiny.metadata.tokens))


def test_it_is_that_of_the_mean_cross_entropy(tiny: Tiny, tokens: list[int]) -> None:
    found = perplexity.by_reference(tiny.module, tokens)
    with torch.inference_mode():
        logits = tiny.module(torch.tensor([tokens]))[0]
    loss = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(tokens[1:]))
    assert found.perplexity == pytest.approx(math.exp(loss), rel=1e-4)
    assert found.logprobs.shape == found.likeliest.shape == (len(tokens) - 1,)


def test_large_logits_are_no_overflow(tiny: Tiny, tokens: list[int]) -> None:
    module = tiny.module
    with torch.inference_mode():
        module.norm.weight.mul_(10_000)
    assert np.isfinite(perplexity.by_reference(module, tokens).logprobs).all()


def test_what_is_learned_by_heart_is_foreseen(taught: Tiny, tokens: list[int]) -> None:
    found = perplexity.by_reference(taught.module, tokens)
    assert 1 <= found.perplexity < 1.2
    assert found.likeliest.tolist() == tokens[1:]


def test_an_engine_token_by_token_foresees_what_the_reference_does_at_once(tiny: Tiny, tokens: list[int]) -> None:
    decoder = TorchDecoder(tiny)
    reference = perplexity.by_reference(tiny.module, tokens)
    for _ in range(2):  # nothing of the first is left
        engine = perplexity.by_engine(decoder, tokens)
        np.testing.assert_allclose(engine.logprobs, reference.logprobs, atol=1e-4)
        assert engine.perplexity == pytest.approx(reference.perplexity, rel=1e-5)


def test_equals_have_no_difference_and_others_are_compared() -> None:
    one = TextPrediction(np.log([0.5, 0.5]), np.array([1, 2]))
    other = TextPrediction(np.log([0.5, 0.125]), np.array([1, 3]))
    assert perplexity.compare(one, one) == {"rows": 2, "perplexity": 0, "logprob": 0, "likeliest": 0}
    found = perplexity.compare(other, one)
    assert found["perplexity"] == pytest.approx(1.0)  # 4 instead of 2
    assert found["logprob"] == pytest.approx(math.log(4) / 2)
    assert found["likeliest"] == 0.5
