"""Times: clients write texts with a zone, the graph gets seconds since 1970."""

from typing import Any

import numpy as np
import orjson
import pytest

from handlers.batch import Batch, Observers
from handlers.contract import TensorSpec
from handlers.formats.codec import Codec
from handlers.message import NPY, InputError
from handlers.observe.events import Answered, Events
from tests.support.handlers import wire
from tests.support.handlers.models import MAX_ROWS, contract, serve

ORDER = contract(
    TensorSpec("at", "INT64", timestamp=True),
    TensorSpec("due", "FP64", range=(0, 2e9), nullable=True, timestamp=True),
    name="order",
)
AT = 1362132000  # 2013-03-01T10:00:00Z


def decoded(body: Any, content_type: str = "application/json", **headers: Any) -> dict[str, list[Any]]:
    """What the graph gets; None for NaN."""
    tensors = Codec(ORDER, MAX_ROWS).decode(wire.request(body, content_type, **headers)).tensors
    assert (tensors["at"].dtype.str, tensors["due"].dtype.str) == ("<i8", "<f8")
    return {name: [None if value != value else value for value in tensors[name].tolist()] for name in ("at", "due")}


def v2(**columns: Any) -> dict[str, Any]:
    kinds = {
        name: "BYTES" if any(isinstance(value, str) for value in data) else "FP64" for name, data in columns.items()
    }
    return {
        "inputs": [
            {"name": name, "shape": [len(data)], "datatype": kinds[name], "data": data}
            for name, data in columns.items()
        ]
    }


@pytest.mark.parametrize(
    "text",
    [
        "2013-03-01T10:00:00Z",
        "2013-03-01T11:00:00+01:00",
        "2013-03-01 04:30:00.75-05:30",
        "2013-03-01T10:00:00.999Z",
        AT,
        float(AT),
    ],
)
def test_a_time_is_whole_seconds_in_utc_in_every_format(text: Any) -> None:
    assert decoded({"at": text}) == {"at": [AT], "due": [None]}
    assert decoded({"instances": [{"at": text}] * 2}) == {"at": [AT] * 2, "due": [None] * 2}
    assert decoded(v2(at=[text])) == {"at": [AT], "due": [None]}


def test_floats_keep_fractions_and_may_be_missing() -> None:
    due = {"due": "1970-01-01T00:00:00.25Z"}
    assert decoded({"at": 0} | due) == {"at": [0], "due": [0.25]}
    assert decoded({"at": "1969-12-31T23:59:59.5Z", "due": None}) == {"at": [-1], "due": [None]}
    assert decoded(v2(at=[0, 0, 0], due=["1970-01-01T00:00:00.25Z", None, ""]))["due"] == [0.25, None, None]


def test_binary_tensors_and_arrays_of_numpy_hold_texts_or_seconds() -> None:
    texts = np.array(["2013-03-01T10:00:00Z", ""], object)
    rows = np.array([(AT, "2013-03-01T10:00:00Z"), (AT, "")], [("at", "i8"), ("due", "U20")])
    assert decoded(wire.save(rows), NPY) == {"at": [AT, AT], "due": [AT, None]}
    blobs = [np.array([AT, AT]).tobytes(), wire.to_binary(texts)]
    inputs = [
        {"name": name, "shape": [2], "datatype": kind, "parameters": {"binary_data_size": len(blob)}}
        for name, kind, blob in zip(("at", "due"), ("INT64", "BYTES"), blobs, strict=True)
    ]
    head = wire.dumps({"inputs": inputs})
    length = {"inference_header_content_length": str(len(head))}
    assert decoded(head + b"".join(blobs), "application/octet-stream", **length) == {"at": [AT, AT], "due": [AT, None]}


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        ({"at": "2013-03-01T10:00:00"}, "wrong_type", "$.at"),
        ({"at": "2013-03-01"}, "wrong_type", "$.at"),
        ({"at": "noon"}, "wrong_type", "$.at"),
        ({"at": True}, "wrong_type", "$.at"),
        ({"at": None}, "wrong_type", "$.at"),
        ({"at": 10**12}, "out_of_range", "$.at"),
        ({"at": 0, "due": "2040-01-01T00:00:00Z"}, "out_of_range", "$.due"),
        ({"instances": [{"at": 0}, {"at": 0, "due": "1960-01-01T00:00:00Z"}]}, "out_of_range", "$.instances[1].due"),
        (v2(at=["2013-03-01T10:00:00Z", "2013-03-01T10:00:00"]), "wrong_type", "$.inputs[0].data[1]"),
        (v2(at=[1e12]), "out_of_range", "$.inputs[0].data[0]"),
    ],
)
def test_a_time_without_a_zone_and_what_is_no_time_are_refused(body: Any, code: str, path: str) -> None:
    with pytest.raises(InputError) as raised:
        decoded(body)
    assert (raised.value.code, raised.value.path) == (code, path)
    assert (raised.value.expected or "").startswith("time with its zone, such as 2013-03-01T10:00:00Z")


def test_seconds_are_captured_which_can_be_sent_again() -> None:
    batches: list[Batch] = []
    handler = serve(ORDER)
    handler.observers = Observers(ORDER.name, [batches.append])
    (first,) = handler.handle([wire.request({"at": "2013-03-01T10:00:00Z"})])
    decoded, outputs = batches[0].answered[0]
    (event,) = Events(ORDER).of(Answered("r-1", 0.0, [0], decoded.data, outputs))
    told = orjson.loads(orjson.dumps(event["data"]["features"]))
    assert told == {"at": AT, "due": None}
    (again,) = handler.handle([wire.request(told)])
    assert (again.status, again.body) == (200, first.body)
