"""Which format a JSON text is in, however its keys are written."""

import pytest

from handlers.formats.envelope import apparent_format, guess_format, read_format
from handlers.message import InputError

ROWS, TENSORS, NUMBERS, BOTH, NEITHER = (
    b'{"instances": [1]}',
    b'{"inputs": [ {"name": "x", "datatype": "FP32"}]}',
    b'{"inputs": [[1, 2]]}',
    b'{"inputs": [{"datatype": "FP32"}], "instances": []}',
    b'{"x": 1}',
)
TABLE = {
    "": ("v1", "v2", "native", "v1", "native"),
    "v1": ("v1", "", "", "v1", ""),
    "v2": ("", "v2", "v2", "v2", ""),
    "v1 or v2": ("v1", "v2", "v2", "v1", ""),
}
CASES = [
    (route, body, expected)
    for route, row in TABLE.items()
    for body, expected in zip((ROWS, TENSORS, NUMBERS, BOTH, NEITHER), row, strict=True)
]


@pytest.mark.parametrize("escape", [False, True])
@pytest.mark.parametrize(("route", "body", "expected"), CASES)
def test_the_url_and_the_members_tell_the_format(route: str, body: bytes, expected: str, escape: bool) -> None:
    if escape:
        body = body.replace(b'"in', b'"\\u0069n')
    if expected:
        assert read_format(body, route) == expected
        return
    with pytest.raises(InputError) as raised:
        read_format(body, route)
    assert raised.value.code == "missing_field"
    assert raised.value.message == f"the URL is one of {route}, the body is not"


@pytest.mark.parametrize(("route", "body", "expected"), [case for case in CASES if case[2]])
def test_a_guess_is_right_or_left_to_the_members(route: str, body: bytes, expected: str) -> None:
    assert guess_format(body, route) in (expected, "")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (ROWS, "v1"),
        (TENSORS, "v2"),
        (NUMBERS, "native"),
        (b'{"instances": [', "v1"),
        (b'{"datatype"', "v2"),
        (b"", "native"),
    ],
)
def test_what_was_refused_is_counted_as_the_format_that_it_seems_to_be_in(body: bytes, expected: str) -> None:
    assert apparent_format(body) == expected
