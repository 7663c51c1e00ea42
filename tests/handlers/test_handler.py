"""The core: one batch for many requests, where none harms another."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.batch import Decoded, Outputs
from handlers.contract import Array, Example, ModelContract
from handlers.contract.example import same_answer
from handlers.formats.codec import Codec
from handlers.handler import ModelHandler
from handlers.message import JSON, NPY, Request, Response, error_detail
from tests.support.handlers import wire
from tests.support.handlers.models import FLIGHTS, LINE, MAX_ROWS, PICTURES, Formula, pixels, serve

FLIGHT: dict[str, Array] = {
    "distance": np.array([1400, 2475, 20], "f4"),
    "hour": np.array([5, 23, 0]),
    "carrier": np.array(["UA", "B6", "WN"], object),
}
GOOD = [write(FLIGHTS, FLIGHT) for write in wire.WRITERS.values()]
BAD = [
    wire.request(b"{"),
    wire.request(b""),
    wire.request({"distance": 1400}),
    wire.request({"instances": []}),
    wire.request(b"x", "image/png"),
    wire.request(b"\x93NUMPY", NPY),
    wire.request({"inputs": [{"name": "distance"}]}),
]
SHOWN = wire.picture(pixels()[0])
PICTURE_GOOD = [
    wire.request(SHOWN, "image/png"),
    wire.request(SHOWN, "image/png", x_top_k="3"),
    wire.request({"instances": pixels(1, 3), "parameters": {"top_k": 2}}),
    wire.request(wire.save(pixels(2, 2)), NPY, accept=NPY),
    wire.v2_binary(PICTURES, {"pixels": pixels(3, 2)}, parameters={"binary_data_output": True}),
]
PICTURE_BAD = [wire.request(SHOWN[:50], "image/png"), wire.request({"inputs": [[1]]}), wire.request(SHOWN, JSON)]


class Guilty(Formula):
    """Fails where a row is 13, and gives a row too few where one is 14."""

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        outputs = super().run(tensors)
        if 13 in tensors["x"]:
            raise FloatingPointError("unlucky number")
        return {name: array[1:] if 14 in tensors["x"] else array for name, array in outputs.items()}


def line(x: float, ident: str) -> Request:
    return wire.request({"x": x})._replace(id=ident)


def error(response: Response) -> dict[str, str]:
    return dict(error_detail(msgspec.json.decode(response.body)))


@pytest.mark.parametrize(
    ("model", "good", "bad"), [(FLIGHTS, GOOD, BAD), (PICTURES, PICTURE_GOOD, PICTURE_BAD)], ids=["flights", "pictures"]
)
@settings(max_examples=60)
@given(data=st.data())
def test_in_any_mix_each_request_gets_exactly_the_answer_that_it_gets_alone(
    model: Any, good: list[Request], bad: list[Request], data: st.DataObject
) -> None:
    batch = data.draw(st.lists(st.sampled_from([*good, *bad]), max_size=12))
    handler = serve(model)
    responses = handler.handle(batch)
    assert responses == [handler.handle([one])[0] for one in batch]
    for one, response in zip(batch, responses, strict=True):
        assert response.status == 200 if one in good else 400 <= response.status < 500


def test_the_rows_of_all_good_requests_run_as_one_batch() -> None:
    engine = Formula(FLIGHTS)
    handler = serve(FLIGHTS, engine)
    handler.handle([GOOD[0], BAD[0], GOOD[1], BAD[1], GOOD[2]])
    assert engine.batches == [1 + 3 + 3]


def test_without_a_good_request_the_engine_is_not_asked() -> None:
    engine = Formula(FLIGHTS)
    assert all(response.status >= 400 for response in serve(FLIGHTS, engine).handle(BAD))
    assert serve(FLIGHTS, engine).handle([]) == []
    assert engine.batches == []


@pytest.mark.parametrize("unlucky", [13, 14])
def test_when_the_engine_fails_only_the_guilty_gets_a_500(unlucky: int, caplog: pytest.LogCaptureFixture) -> None:
    engine = Guilty(LINE)
    handler = serve(LINE, engine)
    batch = [line(1, "a"), line(unlucky, "b"), wire.request(b"{"), line(2, "c")]
    responses = handler.handle(batch)
    assert [response.status for response in responses] == [200, 500, 400, 200]
    assert engine.batches == [3, 1, 1, 1]
    alone = serve(LINE)
    assert [responses[i] for i in (0, 3)] == [alone.handle([batch[i]])[0] for i in (0, 3)]
    told = error(responses[1])
    assert (told["code"], told["request_id"]) == ("internal", "b")
    assert "the engine failed" in told["message"]


def test_a_failure_of_the_engine_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    response = serve(LINE, Guilty(LINE)).handle([line(13, "b")])[0]
    assert response.status == 500
    assert "unlucky" not in response.body.decode()  # what broke inside is the log's
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info
    assert "unlucky number" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    "outputs", [{}, {"z": np.zeros(1)}, {"y": np.float32(1)}, {"y": np.zeros(0)}, {"y": np.zeros(2)}]
)
def test_outputs_that_are_not_the_contracts_are_a_500(outputs: dict[str, Any]) -> None:
    class Odd:
        def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
            return outputs

    response = serve(LINE, Odd()).handle([line(1, "a")])[0]
    assert (response.status, error(response)["code"], error(response)["request_id"]) == (500, "internal", "a")


class Fragile(Codec):
    """Breaks while it decodes 13, and while it encodes the answer to 14."""

    def decode(self, request: Request) -> Decoded:
        decoded = super().decode(request)
        if decoded.tensors["x"][0] == 13:
            raise MemoryError

        def encode(outputs: Outputs) -> Response:
            raise UnicodeError("no text")

        return msgspec.structs.replace(decoded, encode=encode) if decoded.tensors["x"][0] == 14 else decoded


@pytest.mark.parametrize(("unlucky", "what"), [(13, "decoding failed"), (14, "encoding failed")])
def test_a_fault_of_our_own_is_a_500_and_harms_nobody_else(
    unlucky: int, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    handler = serve(LINE, codec=Fragile)
    batch = [line(1, "a"), line(unlucky, "b"), line(2, "c")]
    responses = handler.handle(batch)
    assert [response.status for response in responses] == [200, 500, 200]
    assert [responses[i] for i in (0, 2)] == [serve(LINE).handle([batch[i]])[0] for i in (0, 2)]
    assert what in error(responses[1])["message"]
    assert error(responses[1])["request_id"] == "b"
    assert "Traceback" in caplog.text


class Watched(Formula):
    """Notes how many rows it is given at a time; each run takes a while of a clock that only it moves."""

    def __init__(self, contract: ModelContract, takes: float = 0.0) -> None:
        super().__init__(contract)
        self.rows: list[int] = []
        self.now = 0.0
        self._takes = takes

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        self.rows.append(len(next(iter(tensors.values()))))
        self.now += self._takes
        return super().run(tensors)


def hurried(engine: Watched, patience: float) -> ModelHandler:
    codec = Codec(LINE, MAX_ROWS)
    return ModelHandler(LINE, engine, codec, patience=patience, timer=lambda: engine.now)


def rows(count: int, padding: int = 0) -> Request:
    return wire.request(wire.dumps({"instances": [{"x": i} for i in range(count)]}) + b" " * padding)


@pytest.mark.parametrize(
    ("counts", "runs"), [([1] * 64, [MAX_ROWS] * 8), ([8, 8, 8], [8, 8, 8]), ([5, 5, 1, 2, 8], [5, 8, 8]), ([3], [3])]
)
def test_the_graph_runs_on_no_more_rows_at_once_than_one_request_may_have(counts: list[int], runs: list[int]) -> None:
    engine = Watched(LINE)
    responses = hurried(engine, 1).handle([rows(count) for count in counts])
    assert engine.rows == runs
    assert [len(msgspec.json.decode(response.body)["predictions"]) for response in responses] == counts


def test_who_has_no_turn_in_time_is_told_to_come_back_and_the_large_have_theirs_last() -> None:
    engine = Watched(LINE, takes=0.4)
    batch = [rows(8, padding) for padding in (900_000, 0, 700_000, 800_000, 0)]
    responses = hurried(engine, 1).handle(batch)
    assert [response.status for response in responses] == [503, 200, 200, 503, 200]
    assert error(responses[0])["code"] == "overloaded"
    assert responses[0].headers == {"Retry-After": "1"}
    assert hurried(Watched(LINE, takes=0.4), 1).handle(batch[:1])[0].status == 200


def test_while_the_host_ends_what_waited_is_answered_and_what_comes_later_is_refused_in_its_protocol() -> None:
    handler = hurried(Watched(LINE), 1)
    handler.drain.begin()
    assert handler.handle([rows(1)])[0].status == 200
    native, v2 = handler.handle([rows(1), wire.v2(LINE, {"x": np.array([1.0], "f4")})])
    assert (native.status, native.headers) == (v2.status, v2.headers) == (503, {"Retry-After": "5"})
    assert error(native)["code"] == error(v2)["code"] == "stopping"
    assert isinstance(msgspec.json.decode(v2.body)["error"], str)


class Failing(Watched):
    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        super().run(tensors)
        raise FloatingPointError("unlucky number")


def test_a_batch_that_fails_has_no_more_time_than_another() -> None:
    engine = Failing(LINE, takes=0.4)
    responses = hurried(engine, 1).handle([rows(1)] * 5)
    assert [response.status for response in responses] == [500, 500, 503, 503, 503]
    assert engine.rows == [5, 1, 1]


def with_example(request: Any, response: Any) -> ModelHandler:
    contract = msgspec.structs.replace(LINE, example=Example(request, response))
    return ModelHandler(contract, Formula(contract), Codec(contract, MAX_ROWS))


def test_an_example_that_is_answered_as_training_did_passes() -> None:
    answer = wire.ask(serve(LINE), line(6, ""))
    with_example({"x": 6}, answer).check_example()
    with_example({"x": 6}, {"prediction": answer["prediction"] + 5e-4}).check_example()


@pytest.mark.parametrize(
    ("request_", "response", "message"),
    [
        ({"x": 6}, {"prediction": 7.0}, r"line 1\.2: answered .*prediction.*not .*7\.0"),
        ({"x": 6}, {}, "answered"),
        ({"x": "6"}, {"prediction": 7.0}, "answered .*wrong_type"),
    ],
)
def test_an_example_that_is_answered_otherwise_is_an_error_with_both_answers(
    request_: Any, response: Any, message: str
) -> None:
    with pytest.raises(RuntimeError, match=message):
        with_example(request_, response).check_example()


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        (1, 1, True),
        (1, 1.0, True),
        (1.0009, 1.0, True),
        (1.002, 1.0, False),
        (0.0009, 0, True),
        (0.0011, 0, False),
        (1000.9, 1000.0, True),
        (1002.0, 1000.0, False),
        (-1000.9, -1000.0, True),
        (float("nan"), 1.0, False),
        (float("inf"), 1.0, False),
        ("1", 1, False),
        (None, 1.0, False),
        (True, 1, False),
        (1, True, False),
        (True, True, True),
        (None, None, True),
        ("boot", "boot", True),
        ("boot", "Boot", False),
        ([1, 2], [1, 2.0001], True),
        ([1, 2], [2, 1], False),
        ([1], [1, 2], False),
        ([1, 2], [1], False),
        ([], [], True),
        ({}, [], False),
        ({"a": 1, "b": [0.5]}, {"b": [0.5001], "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, False),
        (1, {"a": 1}, False),
    ],
)
def test_answers_are_the_same_up_to_a_thousandth_of_each_number(found: Any, expected: Any, same: bool) -> None:
    assert same_answer(found, expected) is same


def test_an_output_that_is_no_number_is_its_requests_own_fault() -> None:
    class Overflowing:
        def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
            return {"y": np.exp(tensors["x"].astype(np.float32) * 1000)}

    with np.errstate(over="ignore"):
        responses = serve(LINE, Overflowing()).handle([wire.request({"x": x}) for x in (0.0, 6.0, -6.0)])
    assert [response.status for response in responses] == [200, 422, 200]
    assert error(responses[1])["code"] == "not_finite_output"
    assert error(responses[1])["message"] == "for these values the output y is inf in row 0"


@pytest.mark.parametrize("name", wire.WRITERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_no_number_is_refused_in_every_format(name: str, value: float) -> None:
    class Undefined:
        def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
            return {"y": np.where(tensors["x"] == 6, value, tensors["x"]).astype(np.float32)}

    rows = [6.0] if name == "native" else [1.0, 6.0]
    bad = wire.WRITERS[name](LINE, {"x": np.array(rows, "f4")})
    good = wire.WRITERS[name](LINE, {"x": np.array([1], "f4")})
    handler = serve(LINE, Undefined())
    refused = wire.refusal(handler, bad)
    assert (refused["status"], refused["code"]) == ("422", "not_finite_output")
    assert f"the output y is {np.float32(value)} in row {len(rows) - 1}" in refused["message"]
    assert [response.status for response in handler.handle([good, bad, good])] == [200, 422, 200]
