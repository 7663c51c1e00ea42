"""Text from tokens: whole characters only, and never a part of a string that ends the answer."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.language.generation import Token
from handlers.language.text import Shown, StoppedText

SCRIPTS = "Grüße, 世界 😀 здравствуй नमस्ते"


def tokens(*pieces: bytes) -> list[Token]:
    return [Token("r", number, piece) for number, piece in enumerate(pieces)]


def split(text: bytes, size: int) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def shown(stop: Sequence[str], *pieces: bytes) -> tuple[list[Shown], StoppedText]:
    """What each token lets be shown, until a string stops the answer or there are no more."""
    text = StoppedText(stop)
    parts: list[Shown] = []
    for token in tokens(*pieces):
        parts.append(text.add(token))
        if text.stopped:
            return parts, text
    return [*parts, text.end()], text


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_character_is_shown_once_its_last_byte_is_there(size: int) -> None:
    parts, _ = shown([], *split(SCRIPTS.encode(), size))
    assert "".join(part.text for part in parts) == SCRIPTS
    assert "\ufffd" not in "".join(part.text for part in parts)


def test_without_stops_each_whole_character_is_shown_at_once() -> None:
    parts, _ = shown(["zz"], b"a", b"b", "é".encode()[:1], "é".encode()[1:])
    assert [part.text for part in parts] == ["a", "b", "", "é", ""]


def test_bytes_that_are_no_character_are_shown_as_the_replacement() -> None:
    parts, _ = shown([], b"a\xff", b"\xe4\xb8")
    assert [part.text for part in parts] == ["a\ufffd", "", "\ufffd"]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_nothing_of_a_stop_leaks_however_tokens_cut_it(size: int) -> None:
    parts, text = shown(["</end>"], *split(b"one</en two</end>three", size))
    assert text.stopped
    assert "".join(part.text for part in parts) == "one</en two"


def test_the_first_of_several_stops_ends_the_text() -> None:
    parts, _ = shown(["cd", "b"], b"x", b"abcd")
    assert "".join(part.text for part in parts) == "xa"


def test_the_beginning_of_a_stop_is_shown_when_no_token_follows() -> None:
    parts, text = shown(["stop"], b"a st", b"o")
    assert [part.text for part in parts] == ["a ", "", "sto"]
    assert not text.stopped


def test_a_token_is_shown_with_the_text_that_it_ends_in_and_those_of_a_stop_never() -> None:
    parts, _ = shown(["STOP"], b"ab", b"cS", b"T", b"OP", b"no")
    assert [(part.text, [token.token for token in part.tokens]) for part in parts] == [
        ("ab", [0]),
        ("c", []),
        ("", []),
        ("", []),
    ]
    kept, _ = shown(["STOP"], b"ab", b"cS", b"ue")
    assert [(part.text, [token.token for token in part.tokens]) for part in kept[:3]] == [
        ("ab", [0]),
        ("c", []),
        ("Sue", [1, 2]),
    ]


def test_a_token_without_bytes_is_shown_too() -> None:
    parts, _ = shown([], b"a", b"", b"b")
    assert [[token.token for token in part.tokens] for part in parts] == [[0], [1], [2], []]


@given(st.lists(st.binary(max_size=4), max_size=12), st.lists(st.text("abé", min_size=1, max_size=3), max_size=3))
def test_it_shows_what_the_whole_text_has_before_the_first_stop(pieces: list[bytes], stop: list[str]) -> None:
    pieces = [bytes(b"ab\xc3\xa9"[byte % 4] for byte in piece) for piece in pieces]
    parts, text = shown(stop, *pieces)
    whole = b"".join(pieces)
    # The earliest token at which any stop is complete decides, and of those that are then, the leftmost.
    ends = [sum(map(len, pieces[: i + 1])) for i in range(len(pieces))]
    cuts = [[at for one in stop if (at := whole[:end].find(one.encode())) >= 0] for end in ends]
    cut = next((min(found) for found in cuts if found), None)
    assert text.stopped == (cut is not None)
    assert "".join(part.text for part in parts) == whole[:cut].decode("utf-8", "replace")
