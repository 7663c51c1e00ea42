"""Requests drawn from contracts: the real handlers answer every valid one and refuse every other as expected."""

from collections import Counter
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.contract import ModelContract
from handlers.formats.codec import Codec
from handlers.message import STATUS, Request, error_detail
from loadtests.requests import draws, payloads
from loadtests.requests.answers import complaint
from loadtests.requests.faults import faults
from loadtests.requests.payloads import FORMATS, MANY_ROWS, Answer, Payload, Refusal
from tests.support.loadtests.models import MAX_ROWS, contracts, flights, pictures, respond, reviews, serve

SEEDS = st.integers(0, 2**32 - 1)


def answered(model: ModelContract, payload: Payload) -> str:
    response = respond(serve(model), payload)
    return complaint(model, payload, response.status, response.body)


@pytest.mark.parametrize("protocol", FORMATS)
@pytest.mark.parametrize("make", [payloads.valid, payloads.edge])
@settings(max_examples=60)
@given(model=contracts(), seed=SEEDS)
def test_every_valid_and_every_edge_request_is_answered_rightly(
    make: Callable[..., Payload], protocol: str, model: ModelContract, seed: int
) -> None:
    payload = make(model, np.random.default_rng(seed), protocol)
    assert isinstance(payload.expected, Answer)
    headers = {name.lower(): value for name, value in payload.headers.items()}
    decoded = Codec(model, MAX_ROWS).decode(Request(payload.body, headers))
    assert decoded.rows == payload.expected.rows
    assert answered(model, payload) == ""


@settings(max_examples=150)
@given(model=contracts(), seed=SEEDS)
def test_every_fault_gets_exactly_its_status_and_code(model: ModelContract, seed: int) -> None:
    for payload in faults(model, np.random.default_rng(seed)):
        response = respond(serve(model), payload)
        code = error_detail(msgspec.json.decode(response.body))["code"]
        assert Refusal(response.status, code) == payload.expected, payload.body[:200]


@settings(max_examples=60)
@given(model=contracts())
def test_the_example_gets_the_contracts_answer(model: ModelContract) -> None:
    assert answered(model, payloads.example(model)) == ""


def test_the_faults_cover_every_code_that_a_request_without_a_picture_can_get() -> None:
    rng = np.random.default_rng(0)
    found = {
        p.expected.code for m in (flights(), pictures()) for p in faults(m, rng) if isinstance(p.expected, Refusal)
    }
    # Asked of a language model.
    of_text = {"unsupported_value", "context_length_exceeded", "not_found", "model_not_found", "overloaded"}
    others = {
        "invalid_image",
        "image_too_large",
        "invalid_form",
        "not_finite_output",
        "internal",
        "not_supported",
        "stopping",
    }
    of_connections = {"too_large", "head_too_large", "invalid_http", "timeout"}  # the direct host answers them itself
    of_connections |= {"invalid_api_key", "forbidden", "rate_limited"}
    assert found == set(STATUS) - of_text - others - of_connections


def test_plausible_values_are_distributed_as_in_training() -> None:
    drawn = draws.plausible(flights(), np.random.default_rng(0), 4000)
    assert 100 <= drawn["distance"].min() < 105
    assert 395 < drawn["distance"].max() <= 400
    assert np.median(drawn["distance"]) == pytest.approx(200, abs=10)
    counts = Counter(drawn["carrier"])
    assert counts["AA"] == 0
    assert counts["UA"] / 4000 == pytest.approx(0.9, abs=0.03)
    means = draws.plausible(pictures(), np.random.default_rng(0), 4000)["pixels"].reshape(4000, -1).mean(1)
    assert np.median(means) == pytest.approx(50, abs=3)


def test_texts_are_words_of_the_example_as_long_as_those_of_training() -> None:
    rng = np.random.default_rng(0)
    texts = draws.plausible(reviews(), rng, 1000)["text"].tolist()
    lengths = [len(text) for text in texts]
    assert np.median(lengths) == pytest.approx(20, abs=3)
    assert 1 <= min(lengths) <= 4
    assert 300 <= max(lengths) <= 400
    assert {word for text in texts for word in text.split()[:-1]} == {"A", "fine", "film,", "all", "in", "all."}
    assert len(set(texts)) > 900
    ends = [len(text) for text in draws.extreme(reviews(), rng, 50)["text"]]
    assert all(length <= 3 or length >= 250 for length in ends)
    assert min(ends) <= 3 < max(ends)


@pytest.mark.parametrize("protocol", FORMATS)
def test_every_request_of_texts_is_answered_rightly(protocol: str) -> None:
    for make in (payloads.valid, payloads.edge):
        assert answered(reviews(), make(reviews(), np.random.default_rng(0), protocol)) == ""


def test_extreme_values_are_the_ends_of_the_range() -> None:
    drawn = draws.extreme(flights(), np.random.default_rng(0), 50)
    assert set(drawn["distance"]) == {1, 12000}
    assert set(drawn["hour"]) == {0, 23}
    assert set(drawn["carrier"]) == {"AA", "B6", "UA"}


def test_edges_have_one_row_or_many_in_every_format_and_ask_for_every_class() -> None:
    rng = np.random.default_rng(0)
    drawn = [payloads.edge(pictures(), rng) for _ in range(300)]
    assert {payload.protocol for payload in drawn} == set(FORMATS)
    expected = {payload.expected for payload in drawn if isinstance(payload.expected, Answer)}
    assert {(answer.rows, answer.top_k) for answer in expected} == {(1, 1), (1, 3), (MANY_ROWS, 1), (MANY_ROWS, 3)}


def test_the_same_seed_draws_the_same_requests() -> None:
    first, second, other = (
        [payloads.valid(flights(), rng) for _ in range(20)] for rng in map(np.random.default_rng, (1, 1, 2))
    )
    assert first == second != other


def test_each_format_is_sent_to_its_route() -> None:
    rng = np.random.default_rng(0)
    routes = {protocol: payloads.valid(flights(), rng, protocol).path("flights") for protocol in FORMATS}
    assert routes == {
        "native": "/predictions/flights",
        "v1": "/v1/models/flights:predict",
        "v2": "/v2/models/flights/infer",
        "v2-binary": "/v2/models/flights/infer",
        "npy": "/predictions/flights",
    }
