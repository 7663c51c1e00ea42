"""JSON in: what is wrong with a text, and where."""

import json
import subprocess
import sys
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.json_io import (
    attempt,
    check_unique_keys,
    check_utf8,
    decode,
    decode_strictly,
    is_too_short,
    refused_value,
    whole_number,
)
from handlers.message import InputError


class Row(msgspec.Struct, forbid_unknown_fields=True):
    """A row, and rows within."""

    x: float
    rows: list["Row"] = []


DECODER = msgspec.json.Decoder(Row)
DEEP = 100_000


def refused(body: bytes) -> InputError:
    with pytest.raises(InputError) as raised:
        decode(DECODER, body)
    return raised.value


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (b"", "invalid_json", "$"),
        (b" \n", "invalid_json", "$"),
        (b"{", "invalid_json", "$"),
        (b'{"x": 1}}', "invalid_json", "$"),
        (b'{"x": 1,}', "invalid_json", "$"),
        (b"{'x': 1}", "invalid_json", "$"),
        (b'\xef\xbb\xbf{"x": 1}', "invalid_json", "$"),
        (b'{"x": "\\ud800"}', "invalid_json", "$"),
        (b'{"x": 1, "rows": ' + b"[" * DEEP + b"]" * DEEP + b"}", "wrong_type", "$.rows[0]"),
        (b'{"x": NaN}', "not_finite", "$"),
        (b'{"x": Infinity}', "not_finite", "$"),
        (b'{"x": -Infinity}', "not_finite", "$"),
        (b'{"x": nan}', "invalid_json", "$"),
        (b'{"x": 1e400}', "out_of_range", "$.x"),
        (b'{"x": ' + b"9" * 5000 + b"}", "out_of_range", "$.x"),
        (b"[]", "wrong_type", "$"),
        (b"null", "wrong_type", "$"),
        (b'{"x": null}', "wrong_type", "$.x"),
        (b'{"x": "1"}', "wrong_type", "$.x"),
        (b'{"x": true}', "wrong_type", "$.x"),
        (b'{"x": [1]}', "wrong_type", "$.x"),
        (b"{}", "missing_field", "$.x"),
        (b'{"x": 1, "rows": [{"x": 1}, {}]}', "missing_field", "$.rows[1].x"),
        (b'{"x": 1, "rows": [{"x": 1, "y": 2}]}', "unknown_field", "$.rows[0].y"),
        (b'{"x": 1, "a\\nb": 2}', "unknown_field", "$.a\nb"),
        (b'{"x": "\xff"}', "wrong_type", "$.x"),
        (b'{"\xff": 1}', "invalid_utf8", "$"),
    ],
)
def test_a_fault_has_its_code_and_path(body: bytes, code: str, path: str) -> None:
    error = refused(body)
    assert (error.code, error.path) == (code, path)


def test_nesting_without_end_is_refused() -> None:
    deep = b'{"x": 1, "rows": [' * DEEP
    assert refused(deep).code == "invalid_json"
    assert "nested too deeply" in refused(deep).message


def test_the_description_is_asked_for_the_path_of_the_fault() -> None:
    with pytest.raises(InputError) as raised:
        decode(DECODER, b'{"x": []}', lambda path: f"what belongs at {path}")
    assert raised.value.expected == "what belongs at $.x"


def test_a_text_of_the_type_is_decoded() -> None:
    assert decode(DECODER, b'{"rows": [], "x": -1}') == Row(-1)


SHORT = Annotated[list[int], msgspec.Meta(min_length=1, max_length=2)]


@pytest.mark.parametrize(
    ("kind", "body", "sentence", "code"),
    [
        (Row, b"{}", "Object missing required field `x`", "missing_field"),
        (Row, b'{"x": 1, "y": 2}', "Object contains unknown field `y`", "unknown_field"),
        (SHORT, b"[]", "Expected `array` of length >= 1", "wrong_shape"),
        (SHORT, b"[1, 2, 3]", "Expected `array` of length <= 2", "wrong_shape"),
        (Annotated[float, msgspec.Meta(ge=1)], b"0.5", "Expected `float` >= 1.0", "out_of_range"),
        (Annotated[int, msgspec.Meta(le=1)], b"2", "Expected `int` <= 1", "out_of_range"),
        (float, b"1e400", "Number out of range", "out_of_range"),
        (int, b"9" * 5000, "Integer value out of range", "out_of_range"),
        (Literal["UA"], b'"UB"', "Invalid enum value 'UB'", "unknown_category"),
        (whole_number(0, 9), b'"1"', "Expected `int | float`, got `str`", "wrong_type"),
        (whole_number(0, 9), b"0.5", "Expected `float` that's a multiple of 1.0", "wrong_type"),
        (Row, b"[1]", "Expected `object`, got `array`", "wrong_type"),
    ],
)
def test_msgspec_says_what_is_wrong_in_the_words_that_are_matched(
    kind: Any, body: bytes, sentence: str, code: str
) -> None:
    decoder = msgspec.json.Decoder(kind)
    with pytest.raises(msgspec.ValidationError) as raised:
        decoder.decode(body)
    assert str(raised.value).partition(" - at `")[0] == sentence
    with pytest.raises(InputError) as refused:
        decode(decoder, body)
    assert refused.value.code == code
    assert is_too_short(refused.value) == (body == b"[]" or sentence.endswith(">= 1.0"))
    if code == "unknown_category":
        assert refused_value(refused.value) == "UB"


def test_msgspec_says_where_a_text_is_no_json_and_of_what_a_fault_is() -> None:
    with pytest.raises(msgspec.DecodeError, match=r"^JSON is malformed: invalid character \(byte 6\)$"):
        DECODER.decode(b'{"x": NaN}')
    with pytest.raises(msgspec.ValidationError, match=r"^Expected `float`, got `str` - at `\$\.rows\[0\]\.x`$"):
        DECODER.decode(b'{"x": 1, "rows": [{"x": ""}]}')


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'\xef\xbb\xbf{"x": 1}', "the body begins with a byte order mark"),
        (rb'"a\ud800"', "a text has half of a surrogate pair"),
        (rb'"\udc00 a"', "a text has half of a surrogate pair"),
        (b'"a', "Input data was truncated"),
        (b"  ", "the body is empty"),
    ],
)
def test_what_no_editor_shows_is_told_in_words_of_its_own(body: bytes, message: str) -> None:
    with pytest.raises(InputError) as raised:
        decode(msgspec.json.Decoder(str), body)
    assert (raised.value.code, raised.value.message) == ("invalid_json", message)


def count(row: Row) -> int:
    """Members of a row and of those within."""
    return 1 + sum(map(count, row.rows))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"x": "\xff"}', "invalid_utf8"),
        (b'{"x": 1, "x": 2}', "duplicate_key"),
        (b'{"x": 1, "y": 2}', "unknown_field"),
        (b'{"x": 1', "invalid_json"),
    ],
)
def test_strict_decoding_tells_utf8_json_and_type_and_keys_that_stand_twice(body: bytes, code: str) -> None:
    with pytest.raises(InputError) as raised:
        decode_strictly(DECODER, body, members=count)
    assert raised.value.code == code


def test_an_attempt_gives_what_strict_decoding_gives_or_nothing() -> None:
    assert attempt(DECODER, b'{"x": 1}', count) == decode_strictly(DECODER, b'{"x": 1}', members=count) == Row(1)
    assert attempt(DECODER, b'{"x": "1"}', count) is None
    assert attempt(DECODER, b'{"x": 1', count) is None
    with pytest.raises(InputError, match="appears twice"):
        attempt(DECODER, b'{"x": 1, "x": 2}', count)


@given(st.binary(max_size=20))
def test_exactly_what_python_takes_for_utf8_passes(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        with pytest.raises(InputError, match=f"byte {error.start} ") as raised:
            check_utf8(body)
        assert raised.value.code == "invalid_utf8"
    else:
        check_utf8(body)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a:"\\{é', max_size=4),
    lambda child: (
        st.lists(child, max_size=3) | st.dictionaries(st.text(alphabet="ab:.", max_size=2), child, max_size=3)
    ),
    max_leaves=8,
)


def members(value: Any) -> int:
    """How many members the objects of a value have."""
    if isinstance(value, dict):
        return len(value) + sum(members(child) for child in value.values())
    return sum(members(child) for child in value) if isinstance(value, list) else 0


@given(JSON_VALUES)
def test_keys_that_stand_once_pass_even_where_strings_hold_colons(value: Any) -> None:
    check_unique_keys(json.dumps(value).encode(), members(value))


@given(JSON_VALUES, JSON_VALUES, st.sampled_from(["a", "é", ":", ""]))
def test_a_key_that_stands_twice_is_found_wherever_it_is(before: Any, value: Any, key: str) -> None:
    twice = f"{{{json.dumps(key)}: 0, {json.dumps(key, ensure_ascii=False)}: {json.dumps(value)}}}"
    body = f'{{"first": {json.dumps(before)}, "list": [1, {twice}]}}'
    decoded = json.loads(body)
    with pytest.raises(InputError) as raised:
        check_unique_keys(body.encode(), members(decoded))
    assert (raised.value.code, raised.value.path) == ("duplicate_key", f"$.list[1].{key}")


def test_a_text_too_deep_to_be_searched_for_twins_is_refused() -> None:
    depth = 900  # the decoder still reads this
    body = b'{"a":' * depth + b"1" + b"}" * depth
    with pytest.raises(InputError, match="nested too deeply") as raised:
        check_unique_keys(body, 1)
    assert raised.value.code == "invalid_json"


def test_the_search_for_twins_converts_no_number() -> None:
    check_unique_keys(b'{"a": ' + b"9" * 5000 + b', "b": -1e-5, "c": 1E400}', 0)


FIRST = """
import msgspec, sys, threading, typing
sys.setswitchinterval(1e-6)
body = msgspec.json.encode({f"f{i}": {"a": [1, None]} for i in range(30)})
for number in range(60):
    kind = msgspec.defstruct(f"Kind{number}", [(f"f{i}", dict[str, list[typing.Optional[int]]], {}) for i in range(30)])
    together = threading.Barrier(4)
    decode = lambda: (together.wait(), msgspec.json.decode(body, type=kind))
    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_may_be_the_first_to_decode_a_type() -> None:
    # msgspec 0.22 showed a type to other threads before it was whole, which ended the process. Commands ask models in
    # threads, and so does the direct host.
    assert subprocess.run([sys.executable, "-c", FIRST], timeout=120, check=False).returncode == 0
