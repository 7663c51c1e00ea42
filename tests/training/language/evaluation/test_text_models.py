import numpy as np
import pytest
import torch

from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.template import ChatTemplate
from tests.support.training.tiny import SENTENCE, TEMPLATE, Tiny, TorchDecoder
from training.language.evaluation.text_models import EngineTextModel, NetworkTextModel, TextModel, first_token

TEXTS = [SENTENCE, "Then the tide turns.", "Größe 😀", "12 the boats"]


@pytest.fixture
def network(taught: Tiny) -> NetworkTextModel:
    return NetworkTextModel(taught.module, taught.tokenizer, taught.metadata, 256)


@pytest.fixture
def engine(taught: Tiny) -> EngineTextModel:
    batching = ContinuousBatching(TorchDecoder(taught))
    return EngineTextModel(batching, ChatTemplate(TEMPLATE, batching.tokenize))


@pytest.fixture(params=["network", "engine"])
def model(request: pytest.FixtureRequest) -> TextModel:
    chosen: TextModel = request.getfixturevalue(request.param)
    return chosen


def test_each_token_has_the_networks_log_probability(model: TextModel, taught: Tiny) -> None:
    sequences = [model.tokenize(text) for text in TEXTS]
    for tokens, scores in zip(sequences, model.score(sequences), strict=True):
        with torch.inference_mode():
            logprobs = taught.module(torch.tensor([tokens]))[0, :-1].log_softmax(-1)
        expected = logprobs[torch.arange(len(tokens) - 1), torch.tensor(tokens[1:])]
        np.testing.assert_allclose(scores.logprobs, expected, atol=1e-4)
        assert scores.greedy.tolist() == (logprobs.argmax(1) == torch.tensor(tokens[1:])).tolist()


def test_an_answer_goes_on_greedily_to_its_end_or_to_a_string_that_ends_it(model: TextModel) -> None:
    prompts = [model.tokenize("The tide turns"), model.tokenize("The tide turns at noon, then the")]
    assert model.generate(prompts, 100, []) == [SENTENCE[14:], " boats go out."]
    assert model.generate(prompts, 100, [",", " out"]) == [" at noon", " boats go"]
    assert [len(model.tokenize(text)) for text in model.generate(prompts, 3, [])] == [3, 3]


def test_more_sequences_than_slots_are_all_answered_in_order(
    engine: EngineTextModel, network: NetworkTextModel
) -> None:
    prompts = [engine.tokenize(SENTENCE[: 5 + 3 * i]) for i in range(9)]
    assert engine.generate(prompts, 4, []) == network.generate(prompts, 4, [])
    mine, theirs = engine.score(prompts), network.score(prompts)
    for own, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(own.logprobs, other.logprobs, atol=1e-4)


def test_as_much_fits_as_is_said(model: TextModel) -> None:
    tokens = (model.tokenize(SENTENCE) * 20)[: model.context]
    (scores,) = model.score([tokens])
    assert len(scores.logprobs) == model.context - 1 == 254
    assert len(model.generate([tokens[: model.context - 4]], 4, [])) == 1


def test_before_a_text_stands_what_a_conversation_begins_with(model: TextModel) -> None:
    assert first_token(model) == 1
