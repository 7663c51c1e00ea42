from collections.abc import Iterator
from dataclasses import replace

import pytest

from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.template import ChatTemplate
from tests.support.training.tiny import END, EXPECTED, HEADS, SENTENCE, TEMPLATE, Tiny, TorchDecoder
from training.data import DataError
from training.language import checks, gguf_file
from training.language.checks import SelfCheckError
from training.language.evaluation import perplexity
from training.language.llama import llama
from training.language.tokenizer import LanguageTokenizer

DAMAGED = "the weights or what reads them is damaged, and nothing is packaged"


@pytest.fixture
def engine(taught: Tiny) -> Iterator[ContinuousBatching]:
    engine = ContinuousBatching(TorchDecoder(taught))
    yield engine
    engine.close()


def test_right_ones_pass(taught: Tiny, engine: ContinuousBatching) -> None:
    tokenizer = taught.tokenizer
    checks.check_tokenizer(tokenizer)
    checks.check_template(TEMPLATE, tokenizer, EXPECTED)
    checks.check_reference(taught.module, tokenizer, END, EXPECTED)
    foreseen = perplexity.by_reference(taught.module, tokenizer.tokenize(SENTENCE, False))
    checks.check_perplexity("the weights", foreseen.perplexity, EXPECTED.perplexity)
    checks.check_engine(engine, tokenizer)
    checks.check_answer(engine, tokenizer, ChatTemplate(TEMPLATE, tokenizer.tokenize), EXPECTED)


def test_a_failed_check_is_reported_like_bad_data() -> None:
    assert issubclass(SelfCheckError, DataError)


def test_a_tokenizer_that_loses_a_byte_is_an_error_that_shows_the_text(tiny: Tiny) -> None:
    tokens = list(tiny.metadata.tokens)
    first, second = tokens.index("x"), tokens.index("y")
    tokens[first], tokens[second] = "y", "x"
    swapped = LanguageTokenizer(replace(tiny.metadata, tokens=tuple(tokens)))
    swapped.tokenize = tiny.tokenizer.tokenize  # type: ignore[method-assign]
    with pytest.raises(SelfCheckError, match=f"the tokenizer turns '.*' into '.*': {DAMAGED}"):
        checks.check_tokenizer(swapped)


@pytest.mark.parametrize("part", ["<|im_start|>system\nBe brief<|im_end|>\n", "<|im_start|>assistant\n", "<|im_end|>"])
def test_a_template_that_lacks_a_part_is_an_error_that_shows_what_it_writes(tiny: Tiny, part: str) -> None:
    lacking = TEMPLATE.replace(part, "")
    assert lacking != TEMPLATE
    with pytest.raises(SelfCheckError, match=f"(?s)the template writes '.*', not '.*assistant.*': {DAMAGED}"):
        checks.check_template(lacking, tiny.tokenizer, EXPECTED)


def test_untaught_weights_are_an_error_that_shows_what_they_say(tiny: Tiny) -> None:
    with pytest.raises(SelfCheckError, match=f"'The tide turns' goes on with '.*', not ' at noon': {DAMAGED}"):
        checks.check_reference(tiny.module, tiny.tokenizer, END, EXPECTED)


def test_rows_of_queries_and_keys_in_the_wrong_order_are_found_by_perplexity(taught: Tiny) -> None:
    weights = dict(taught.weights)
    for name, values in taught.weights.items():
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            weights[name] = gguf_file.interleaved(values, HEADS if "attn_q" in name else 1)
    module = llama(taught.metadata, weights)
    found = perplexity.by_reference(module, taught.tokenizer.tokenize(SENTENCE, False)).perplexity
    with pytest.raises(SelfCheckError, match=rf"perplexity of the weights is \d.* it should be at most 5: {DAMAGED}"):
        checks.check_perplexity("the weights", found, EXPECTED.perplexity)


def test_a_perplexity_that_is_no_number_is_an_error() -> None:
    with pytest.raises(SelfCheckError, match="the perplexity of the weights is nan"):
        checks.check_perplexity("the weights", float("nan"), 5.0)


def test_an_engine_that_splits_otherwise_is_an_error_that_shows_the_text(
    tiny: Tiny, engine: ContinuousBatching
) -> None:
    other = LanguageTokenizer(replace(tiny.metadata, merges=tiny.metadata.merges[1:]))
    with pytest.raises(SelfCheckError, match=f"the engine splits .* otherwise than the tokenizer: {DAMAGED}"):
        checks.check_engine(engine, other)


def test_an_engine_that_answers_otherwise_is_an_error_that_shows_its_answer(
    taught: Tiny, engine: ContinuousBatching
) -> None:
    template = ChatTemplate(TEMPLATE, taught.tokenizer.tokenize)
    expected = replace(EXPECTED, answer="A dog")
    with pytest.raises(SelfCheckError, match=f"'Who.' is answered with 'It is a .*'; .* begin with 'A dog': {DAMAGED}"):
        checks.check_answer(engine, taught.tokenizer, template, expected)
