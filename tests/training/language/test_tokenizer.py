from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.language.template import ChatTemplate
from tests.support.training.tiny import CONTROL, END, Tiny
from training.data import DataError
from training.language.checks import ROUND_TRIPS
from training.language.tokenizer import write_tokenizer


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


def test_a_tokens_bytes_are_those_of_the_text(tiny: Tiny) -> None:
    for text in ROUND_TRIPS:
        tokens = tiny.tokenizer.tokenize(text, False)
        assert b"".join(map(tiny.tokenizer.piece, tokens)) == text.encode()
    assert tiny.tokenizer.piece(END) == b""


def test_transformers_reads_the_folder_and_splits_as_the_file_does(tiny: Tiny, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    write_tokenizer(tiny.metadata, tmp_path / "tokenizer")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    for text in (*ROUND_TRIPS[:-1], "the too the 12,120"):
        assert theirs(text).input_ids == tiny.tokenizer.tokenize(text, False)
    assert (theirs.bos_token_id, theirs.eos_token_id) == (1, END)
    messages = [{"role": "user", "content": "Hi"}]
    rendered = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    own = ChatTemplate(tiny.metadata.template, tiny.tokenizer.tokenize).tokens(messages)
    assert theirs(rendered).input_ids == own


def test_a_file_whose_texts_are_split_in_another_way_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its texts are split as llama-bpe, and only smollm is known here"):
        write_tokenizer(replace(tiny.metadata, split="llama-bpe"), tmp_path)
    assert not list(tmp_path.iterdir())
