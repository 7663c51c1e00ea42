import math

import pytest
import torch
from torch import nn

from tests.support.training.tiny import END, EXPECTED, Tiny
from training.language.adapters import lora
from training.language.instructions import Conversation
from training.language.llama import export_weights
from training.language.recipe import LanguageHyperparameters

HP = LanguageHyperparameters(rank=4, epochs=15, batch_size=2, lr=2e-2)
TOKENS = torch.arange(10, 30)[None]


@pytest.fixture
def conversations(tiny: Tiny) -> list[Conversation]:
    prompt = tiny.tokenizer.tokenize(EXPECTED.conversation, True)
    answers = [[*tiny.tokenizer.tokenize(text, False), END] for text in ("A fox.", "A fox it is.", "A fox, yes.")]
    return [Conversation(prompt + answer, len(answer)) for answer in answers]


def test_a_change_begins_at_nothing() -> None:
    layer = nn.Linear(6, 5, bias=False)
    x = torch.randn(3, 6)
    torch.testing.assert_close(lora.Adapted(layer, 2)(x), layer(x), rtol=0, atol=0)


def test_a_merged_layer_gives_what_the_adapted_one_did() -> None:
    adapted = lora.Adapted(nn.Linear(6, 5, bias=False), 2)
    x = torch.randn(3, 6)
    with torch.no_grad():
        adapted.up.normal_()
        expected = adapted(x)
        assert not torch.allclose(expected, adapted.layer(x))
        torch.testing.assert_close(adapted.merge()(x), expected)


def test_tuning_makes_the_answers_likelier(tiny: Tiny, conversations: list[Conversation]) -> None:
    module = tiny.module
    before = lora.perplexity(module, conversations)
    told: list[str] = []
    lora.tune(module, conversations, HP, told.append)
    assert lora.perplexity(module, conversations) < 0.5 * before
    assert told[-1].startswith("step 30 of 30: loss ")


def test_only_matrices_of_attention_change_and_by_no_more_than_the_rank(
    tiny: Tiny, conversations: list[Conversation]
) -> None:
    module = tiny.module
    lora.tune(module, conversations, HP)
    after = export_weights(module, tiny.metadata)  # its layers have their names again
    assert after.keys() == tiny.weights.keys()
    changes = {name: values - tiny.weights[name] for name, values in after.items()}
    changed = {name.split(".")[2] for name, change in changes.items() if change.any()}
    assert changed == {"attn_q", "attn_k", "attn_v", "attn_output"}
    for change in changes.values():
        if change.any():
            singular = torch.linalg.svdvals(torch.from_numpy(change))
            assert (singular[HP.rank :] < 1e-4 * singular[0]).all()


def test_afterwards_it_has_its_plain_layers_and_nothing_learns(tiny: Tiny, conversations: list[Conversation]) -> None:
    module = tiny.module
    lora.tune(module, conversations, HP)
    assert not any(isinstance(part, lora.Adapted) for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_a_seed_repeats_it(tiny: Tiny, conversations: list[Conversation]) -> None:
    one, other = tiny.module, tiny.module
    for module in (one, other):
        lora.tune(module, conversations, LanguageHyperparameters(epochs=2, lr=1e-2))
    with torch.inference_mode():
        torch.testing.assert_close(one(TOKENS), other(TOKENS))


def test_only_the_answer_counts_each_token_given_those_before(tiny: Tiny, conversations: list[Conversation]) -> None:
    one = conversations[1]
    with torch.inference_mode():
        (row,) = lora.answer_logprobs(tiny.module, [one])
        logprobs = tiny.module(torch.tensor([one.tokens]))[0].log_softmax(-1)
    places = range(len(one.tokens) - one.answer, len(one.tokens))
    torch.testing.assert_close(row, torch.stack([logprobs[at - 1, one.tokens[at]] for at in places]))


def test_conversations_of_different_lengths_are_measured_as_each_alone(
    tiny: Tiny, conversations: list[Conversation]
) -> None:
    with torch.inference_mode():
        together = lora.answer_logprobs(tiny.module, conversations)
        for row, one in zip(together, conversations, strict=True):
            torch.testing.assert_close(row, lora.answer_logprobs(tiny.module, [one])[0], rtol=0, atol=1e-4)
    mean = -torch.cat(together).mean().item()
    assert lora.perplexity(tiny.module, conversations) == pytest.approx(math.exp(mean), rel=1e-4)
