"""What a client would rather have is read as RFC 9110 has it, and never breaks an answer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.http.accept import choose
from handlers.message import JSON, NPY
from tests.support.handlers import wire
from tests.support.handlers.models import LINE, serve

OFFERED = (JSON, NPY)


@pytest.mark.parametrize(
    "header",
    [
        NPY,
        "Application/X-NPY",
        f" {NPY} ; q=0.5",
        f"{NPY};q=1.000",
        f"{NPY}, */*",
        f"{NPY}, {JSON}",
        f"{JSON}, {NPY}",
        f"{JSON};q=0.5, {NPY};Q=0.9",
        f"{JSON};q=0, */*",
        f"{JSON};q=0.1, application/*;q=0.2",
        f"text/html, {NPY};q=0.1",
        f"{NPY};level=1",
        f'text/plain;a="x, {JSON}", {NPY};q=0.3',
        f"nonsense, {NPY}",
        f"/, ;;, {NPY}, ,",
        f"{JSON};q=0.9, {NPY} ;q=0.9, */*;q=0.1",
    ],
)
def test_numpy_is_what_the_client_would_rather_have(header: str) -> None:
    assert choose(header, OFFERED) == NPY


@pytest.mark.parametrize(
    "header",
    [
        "",
        "*/*",
        "application/*",
        JSON,
        f"{NPY};q=0",
        f"{NPY};q=0.000, */*",
        f"{NPY};q=0.3, {JSON};q=0.4",
        f"{NPY};q=0.3, application/*;q=0.4",
        f"{NPY};q=2",
        f"{NPY};q=-1",
        f"{NPY};q=abc",
        f"{NPY};q=0.1234",
        f"{NPY};q=",
        "text/html",
        "image/*, text/*",
        f"{JSON};q=0, {NPY};q=0",
        "application/x-npyx",
        "x-application/x-npy-not",
        f'text/plain;a="{NPY}"',
        "\x80",
        ",",
        "*",
        f"{NPY}" + " " * 5000,
    ],
)
def test_json_is_sent_where_the_client_would_rather_have_it_or_wants_nothing_that_there_is(header: str) -> None:
    assert choose(header, OFFERED) == JSON


@given(st.text(max_size=60) | st.lists(st.sampled_from([*';,=/*"\\ q0.1', NPY, JSON])).map("".join))
def test_no_header_breaks_the_choice(header: str) -> None:
    assert choose(header, OFFERED) in OFFERED


@pytest.mark.parametrize(("accept", "expected"), [("Application/X-Npy", NPY), (f"{NPY};q=0", JSON), ("*/*", JSON)])
def test_an_answer_in_numpy_is_negotiated(accept: str, expected: str) -> None:
    asked = wire.npy(LINE, {"x": np.array([6], "f4")})
    asked = asked._replace(headers={**asked.headers, "accept": accept})
    assert serve(LINE).handle([asked])[0].content_type == expected
