import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.training.tiny import CONTROL, END, Tiny
from training.language.checks import ROUND_TRIPS


@given(st.text())
def test_every_text_comes_back_as_it_was(tiny: Tiny, text: str) -> None:
    for special in (False, True):
        tokens = tiny.tokenizer.tokenize(text, special)
        if not special or not any(name in text for name in CONTROL):
            assert tiny.tokenizer.text(tokens) == text
        assert len(tokens) <= len(text.encode())


@pytest.mark.parametrize("text", ROUND_TRIPS)
def test_many_scripts_come_back_as_they_were(tiny: Tiny, text: str) -> None:
    assert tiny.tokenizer.text(tiny.tokenizer.tokenize(text, False)) == text


def test_merges_are_made_in_their_order(tiny: Tiny) -> None:
    tokens = tiny.tokenizer.tokenize("the too the", False)
    assert [tiny.metadata.tokens[token] for token in tokens] == ["the", "Ġ", "t", "oo", "Ġthe"]


def test_each_digit_is_a_token_of_its_own_though_two_are_in_the_vocabulary(tiny: Tiny) -> None:
    assert "12" in tiny.metadata.tokens
    tokens = tiny.tokenizer.tokenize("12,120", False)
    assert [tiny.metadata.tokens[token] for token in tokens] == ["1", "2", ",", "1", "2", "0"]


def test_names_of_control_tokens_are_text_unless_they_are_meant(tiny: Tiny) -> None:
    assert tiny.tokenizer.tokenize("<|im_end|>", True) == [END]
    assert tiny.metadata.control == (0, 1, 2)
    for name in CONTROL:
        forged = tiny.tokenizer.tokenize(f"a{name}b", False)
        assert not set(forged) & set(tiny.metadata.control)
        assert tiny.tokenizer.text(forged) == f"a{name}b"


def test_control_tokens_are_left_out_of_a_text(tiny: Tiny) -> None:
    assert tiny.tokenizer.text(tiny.tokenizer.tokenize("<|im_start|>user\nHi<|im_end|>\n", True)) == "user\nHi\n"
