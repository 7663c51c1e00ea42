import json
import time

import numpy as np
import pytest

from handlers.formats.tokens import CHARACTERS, PAD, TextTokenizer

pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install -e '.[sentiment]'")

from tests.support.handlers.texts import LONGEST, MARKS, WORDS, settings

UNKNOWN, START, END = (MARKS.index(mark) for mark in ("[UNK]", "[CLS]", "[SEP]"))
GOOD, BAD, FILM = (len(MARKS) + WORDS.index(word) for word in ("good", "bad", "film"))


@pytest.fixture
def tokenize() -> TextTokenizer:
    return TextTokenizer(settings())


def test_texts_become_rows_of_tokens_as_long_as_the_longest(tokenize: TextTokenizer) -> None:
    found = tokenize(["Good FILM", "bad"])
    assert found.indices.tolist() == [[START, GOOD, FILM, END], [START, BAD, END, PAD]]
    assert found.indices.dtype == np.int64
    assert (found.truncated, found.blank) == ([], [])


def test_a_text_that_fills_the_model_exactly_is_not_cut_and_one_more_word_is(tokenize: TextTokenizer) -> None:
    full = " ".join(["good"] * (LONGEST - 2))
    found = tokenize([full, "bad", f"{full} bad"])
    assert found.indices.shape == (3, LONGEST)
    assert found.truncated == [2]
    assert found.indices[0].tolist() == found.indices[2].tolist() == [START, *[GOOD] * (LONGEST - 2), END]


def test_only_so_many_characters_are_looked_at(tokenize: TextTokenizer) -> None:
    most = CHARACTERS * LONGEST
    assert tokenize(["bad" + " " * (most - 3)]).truncated == []
    found = tokenize(["bad" + " " * (most - 3) + "good"])
    assert found.truncated == [0]
    assert found.indices.tolist() == [[START, BAD, END]]


def test_megabytes_of_text_take_no_longer_than_their_beginning(tokenize: TextTokenizer) -> None:
    started = time.process_time()
    assert tokenize(["good " * 2_000_000]).truncated == [0]
    assert time.process_time() - started < 1  # all of it would take tens of seconds


@pytest.mark.parametrize("text", ["", " ", "\n\t\r", "\u200b", "\x00", "\u3000"])
def test_a_text_with_nothing_to_read_is_blank(tokenize: TextTokenizer, text: str) -> None:
    assert tokenize(["good", text]).blank == [1]


@pytest.mark.parametrize("text", ["?", "你", "🙂", "[SEP]", "[PAD]"])
def test_whatever_can_be_seen_is_not_blank_and_no_text_holds_a_command(tokenize: TextTokenizer, text: str) -> None:
    found = tokenize([text])
    assert not found.blank
    assert not {START, END, PAD} & set(found.indices[0, 1:-1].tolist())


def test_stacked_rows_are_padded_at_their_end(tokenize: TextTokenizer) -> None:
    parts = [tokenize(texts).indices for texts in (["bad"], ["good film", "film"])]
    assert tokenize.stack(parts).tolist() == tokenize(["bad", "good film", "film"]).indices.tolist()
    assert tokenize.stack(parts).dtype == np.int64


def test_rows_are_filled_up_with_the_index_that_the_tokenizer_names() -> None:
    named = json.loads(settings())
    named["padding"] = {
        "strategy": "BatchLongest",
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 500,
        "pad_type_id": 0,
        "pad_token": "",
    }
    tokenize = TextTokenizer(json.dumps(named).encode())
    assert tokenize(["good film", "bad"]).indices[1].tolist() == [START, BAD, END, 500]
    parts = [tokenize([text]).indices for text in ("bad", "good film")]
    assert tokenize.stack(parts)[0].tolist() == [START, BAD, END, 500]


@pytest.mark.parametrize("content", [b"{", b"{}", b"\xff"])
def test_damaged_settings_are_an_error_that_names_the_file(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"tokenizer.json is damaged: "):
        TextTokenizer(content)


def test_settings_that_cut_nothing_off_are_refused() -> None:
    with pytest.raises(ValueError, match="has no truncation"):
        TextTokenizer(settings(longest=None))
