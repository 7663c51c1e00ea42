"""What a captured prediction says."""

import json
from typing import Any

import numpy as np
import orjson
import pytest

from handlers.batch import Batch, Observers
from handlers.contract import ModelContract, TensorSpec
from handlers.message import JSON, Request
from handlers.observe.events import LONGEST_TEXT, Answered, Events, request_id
from tests.support.handlers import wire
from tests.support.handlers.models import COLOURS, FLIGHTS, MIXED, PICTURES, SIZE, contract, pixels, serve

FLIGHT = {"distance": 1400.5, "hour": 8, "carrier": "UA"}
ARRAYS = {
    "distance": np.array([17, 1400.5], np.float32),
    "hour": np.array([3, 8]),
    "carrier": np.array(["WN", "UA"], object),
}


def events(model: ModelContract, asked: Request, rows: list[int]) -> tuple[list[dict[str, Any]], Any]:
    """The events of some rows of a request as they leave, and the answer that the client got."""
    batches: list[Batch] = []
    handler = serve(model)
    handler.observers = Observers(model.name, [batches.append])
    answer = orjson.loads(handler.handle([asked])[0].body)
    (batch,) = batches
    decoded, outputs = batch.answered[0]
    answered = Answered("r-1", 1361102400.25, rows, decoded.sent or decoded.data, outputs)
    told = orjson.dumps(list(Events(model).of(answered)), option=orjson.OPT_SERIALIZE_NUMPY)
    found: list[dict[str, Any]] = json.loads(told)
    return found, answer


def test_an_event_is_a_cloudevent_with_the_features_and_the_number_that_was_answered() -> None:
    (event,), answer = events(FLIGHTS, wire.request(FLIGHT), [0])
    data = event.pop("data")
    assert event == {
        "specversion": "1.0",
        "type": "marloop.prediction",
        "source": "/models/flights/versions/1.2",
        "id": "r-1/0",
        "time": "2013-02-17T12:00:00.250000+00:00",
        "datacontenttype": "application/json",
    }
    names = {"request_id": "r-1", "row": 0, "model": "flights", "version": "1.2"}
    assert data == names | {"features": FLIGHT, "output": answer["prediction"]}


@pytest.mark.parametrize("name", ["v1", "v2", "v2 nested", "v2 binary", "npy"])
def test_the_features_are_the_same_in_every_format(name: str) -> None:
    found, _ = events(FLIGHTS, wire.WRITERS[name](FLIGHTS, ARRAYS), [1])
    assert [(event["id"], event["data"]["row"], event["data"]["features"]) for event in found] == [("r-1/1", 1, FLIGHT)]


def test_a_classification_tells_the_label_and_every_probability() -> None:
    (event,), answer = events(COLOURS, wire.request({"inputs": np.ones((SIZE, SIZE, 3), np.uint8)}), [0])
    output = event["data"]["output"]
    assert output["label"] == answer["prediction"]["label"]
    assert max(output["probabilities"]) == answer["prediction"]["probability"]
    assert len(output["probabilities"]) == 2


def test_of_a_small_tensor_every_value_is_told_and_of_a_large_one_the_mean() -> None:
    small, large = pixels()[0], np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    (event,), _ = events(PICTURES, wire.request({"inputs": small}), [0])
    assert event["data"]["features"] == {"pixels": small.tolist()}
    (event,), _ = events(COLOURS, wire.request({"inputs": large}), [0])
    assert event["data"]["features"] == {"pixels": pytest.approx(large.mean())}


def test_inputs_of_every_datatype_are_told() -> None:
    row = {"words": ["a", "b"], "serial": 2**64 - 1, "flags": [True, False, True], "tensor": [[1, 2], [3, 4]]}
    (event,), _ = events(MIXED, wire.request({"instances": [row]}), [0])
    assert event["data"]["features"] == row


def test_a_long_text_is_cut() -> None:
    model = contract(TensorSpec("text", "BYTES"), TensorSpec("x", "FP32"))
    (event,), _ = events(model, wire.request({"text": "ä" * (LONGEST_TEXT + 1), "x": 1}), [0])
    assert event["data"]["features"] == {"text": "ä" * LONGEST_TEXT, "x": 1}


@pytest.mark.parametrize(
    ("sent", "known_as"),
    [("order-7", "order-7"), ("", "ours"), ("x" * 200, "x" * 200), ("x" * 201, "ours"), ("a b", "ours"), ("ä", "ours")],
)
def test_the_clients_id_is_taken_if_it_can_be_given_back(sent: str, known_as: str) -> None:
    assert request_id(Request(b"", {"content-type": JSON, "x-request-id": sent}, id="ours")) == known_as


def test_a_request_without_any_id_gets_one_of_its_own() -> None:
    nameless = Request(b"", {})
    assert request_id(nameless) != request_id(nameless)


def event_of(events: Events, told: str) -> dict[str, Any]:
    """One event of a request that says when it happened."""
    answered = Answered("r-1", 1361102400.25, [0], {"x": np.ones(1)}, {"y": np.ones(1)}, told)
    return next(events.of(answered))


def test_the_client_may_tell_when_it_happened() -> None:
    events = Events(contract(TensorSpec("x", "FP32")))
    assert event_of(events, "2013-02-01T10:00:00Z")["time"] == "2013-02-01T10:00:00.000000+00:00"
    assert event_of(events, "2013-02-01T10:00:00.5-05:00")["time"] == "2013-02-01T15:00:00.500000+00:00"


@pytest.mark.parametrize(
    "told", ["yesterday", "2013-02-01T10:00:00", "2013-02-17T12:00:01Z", "0001-01-01T00:00:00+14:00", "9" * 5000]
)
def test_a_time_that_is_none_of_the_past_is_ignored_and_logged_once(
    told: str, caplog: pytest.LogCaptureFixture
) -> None:
    events = Events(contract(TensorSpec("x", "FP32")))
    for _ in range(2):
        assert event_of(events, told)["time"] == "2013-02-17T12:00:00.250000+00:00"
    (record,) = caplog.records
    assert "the request r-1 says" in record.getMessage()
    assert len(record.getMessage()) < 300
