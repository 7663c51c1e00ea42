import numpy as np
import torch

from tests.support.training.tiny import END, EXPECTED, Tiny
from training.language.llama import KeyValues, continue_prompt, export_weights

TOKENS = torch.randint(3, 250, (3, 20), generator=torch.Generator().manual_seed(0))


def logits(tiny: Tiny, tokens: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return tiny.module(tokens)  # type: ignore[no-any-return]


def test_there_is_a_finite_logit_for_each_token_of_the_vocabulary(tiny: Tiny) -> None:
    found = logits(tiny, TOKENS)
    assert found.shape == (3, 20, len(tiny.metadata.tokens))
    assert found.dtype == torch.float32
    assert found.isfinite().all()


def test_later_tokens_change_no_earlier_logits_but_all_later_ones(tiny: Tiny) -> None:
    other = TOKENS.clone()
    other[:, 10] = (other[:, 10] + 1) % 250
    before, after = logits(tiny, TOKENS), logits(tiny, other)
    torch.testing.assert_close(before[:, :10], after[:, :10], rtol=0, atol=1e-5)
    assert (abs(before[:, 10:] - after[:, 10:]).amax(2) > 1e-3).all()


def test_the_order_of_earlier_tokens_matters(tiny: Tiny) -> None:
    swapped = TOKENS.clone()
    swapped[:, [3, 8]] = TOKENS[:, [8, 3]]
    assert (abs(logits(tiny, TOKENS)[:, -1] - logits(tiny, swapped)[:, -1]).amax(1) > 1e-3).all()


def test_a_batch_gives_what_each_row_gives_alone(tiny: Tiny) -> None:
    alone = torch.cat([logits(tiny, row[None]) for row in TOKENS])
    torch.testing.assert_close(logits(tiny, TOKENS), alone, rtol=0, atol=1e-4)


def test_the_output_is_tied_to_the_embedding(tiny: Tiny) -> None:
    module = tiny.module
    before = logits(tiny, TOKENS)
    with torch.inference_mode():
        module.embedding.weight[255] *= 2  # a token that is in no text
        after = module(TOKENS)
    torch.testing.assert_close(after[..., 255], 2 * before[..., 255], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after[..., :255], before[..., :255])


def test_exported_weights_are_those_that_the_network_was_made_of(tiny: Tiny) -> None:
    weights = export_weights(tiny.module, tiny.metadata)
    assert weights.keys() == tiny.weights.keys()
    for name, values in weights.items():
        np.testing.assert_array_equal(values, tiny.weights[name])


def test_a_changed_network_leaves_the_weights_that_it_was_made_of(tiny: Tiny) -> None:
    before = tiny.weights["token_embd.weight"].copy()
    with torch.inference_mode():
        tiny.module.embedding.weight += 1
    np.testing.assert_array_equal(tiny.weights["token_embd.weight"], before)


def test_a_text_goes_on_as_it_was_learned_and_stops_at_the_end_token(taught: Tiny) -> None:
    prompt = taught.tokenizer.tokenize(EXPECTED.conversation, True)
    answer = continue_prompt(taught.module, prompt, 100, END)
    assert taught.tokenizer.text(answer) == "It is a fox."
    assert answer.index(END) == len(answer) - 1 < 99
    assert continue_prompt(taught.module, prompt, 3, END) == answer[:3]


def test_a_token_after_those_that_were_read_has_the_logits_that_all_at_once_have(tiny: Tiny) -> None:
    read, module = KeyValues(), tiny.module
    with torch.inference_mode():
        parts = [module(TOKENS[:, :12], read)] + [module(TOKENS[:, i : i + 1], read) for i in range(12, 20)]
    assert read.length == 20
    torch.testing.assert_close(torch.cat(parts, 1), logits(tiny, TOKENS), rtol=0, atol=1e-4)
