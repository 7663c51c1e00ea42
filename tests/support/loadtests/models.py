"""Models for the load tests' own tests: contracts with example and reference, and handlers that serve them."""

from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from handlers.contract import DTYPES, Array, Example, ModelContract, TensorSpec
from handlers.formats.codec import Codec
from handlers.formats.requests import native_request, rows_of, to_json
from handlers.handler import ModelHandler
from handlers.message import Request, Response
from loadtests.requests.payloads import Answer, Payload
from tests.support.documents import replaced
from tests.support.handlers.models import Formula, contract
from tests.support.handlers.strategies import NAMES, TEXT, nullable

MAX_ROWS = 1024
RANGES = ((0.1, 0.3), (-5, 7), (1, 12000))
LABELS = ("bag", "boot", "coat")


@st.composite
def specs(draw: st.DrawFn, name: str) -> TensorSpec:
    """A tensor of any datatype, with a range or without, of categories or not, with up to two inner dimensions."""
    datatype = draw(st.sampled_from(tuple(DTYPES)))
    if datatype == "BYTES" and draw(st.booleans()):
        return TensorSpec(name, datatype, categories=tuple(draw(st.lists(TEXT, min_size=1, max_size=4, unique=True))))
    bounds = draw(st.sampled_from(RANGES)) if datatype.startswith("FP") and draw(st.booleans()) else None
    bounds = (3, 100) if datatype.startswith(("INT", "UINT")) and draw(st.booleans()) else bounds
    return TensorSpec(name, datatype, (-1, *draw(st.lists(st.integers(1, 3), max_size=2))), range=bounds)


@st.composite
def contracts(draw: st.DrawFn) -> ModelContract:
    """A regression or a classification of one to three inputs, whose example and reference fit it."""
    inputs = [draw(nullable(draw(specs(name)))) for name in NAMES[: draw(st.integers(1, 3))]]
    inputs += [TensorSpec("at", "INT64", timestamp=True)] if draw(st.booleans()) else []
    tensors = {spec.name: draw(_arrays(spec, rows=5)) for spec in inputs}
    bare = contract(*inputs, labels=draw(st.sampled_from([(), LABELS])))
    request = msgspec.json.decode(to_json(native_request(bare, rows_of(bare, tensors)[0])))
    request |= {spec.name: None for spec in inputs if spec.nullable and draw(st.booleans())}
    summaries = {spec.name: _summary(spec, tensors[spec.name]) for spec in inputs if draw(st.booleans())}
    return complete(bare, request, {"inputs": summaries})


def complete(bare: ModelContract, request: dict[str, Any], reference: dict[str, Any]) -> ModelContract:
    """A contract with an example, answered as the model answers it, and a reference."""
    response = respond(serve(bare), Payload("example", "native", to_json(request), Answer(1)))
    assert response.status == 200, response.body
    example = Example(request, msgspec.json.decode(response.body))
    return replaced(bare, example=example, reference=reference)


def serve(model: ModelContract) -> ModelHandler:
    """The handlers as a worker runs them."""
    return ModelHandler(model, Formula(model), Codec(model, MAX_ROWS))


def respond(handler: ModelHandler, payload: Payload) -> Response:
    """The answer to one request, with the headers as TorchServe hands them on."""
    headers = {name.lower(): value for name, value in payload.headers.items()}
    return handler.handle([Request(payload.body, headers)])[0]


def flights() -> ModelContract:
    """Two numbers and a category, with a reference whose values are few."""
    bare = contract(
        TensorSpec("distance", "FP32", range=(1, 12000)),
        TensorSpec("hour", "INT64", range=(0, 23)),
        TensorSpec("carrier", "BYTES", categories=("AA", "B6", "UA")),
        name="flights",
    )
    reference = {
        "distance": {"quantiles": [100.0, 200.0, 400.0]},
        "hour": {"quantiles": [5.0, 12.0]},
        "carrier": {"counts": {"AA": 0, "B6": 1, "UA": 9}},
    }
    return complete(bare, {"distance": 150.0, "hour": 6, "carrier": "UA"}, {"inputs": reference})


def pictures() -> ModelContract:
    """A classifier of grey pictures."""
    bare = contract(TensorSpec("pixels", "UINT8", (-1, 3, 4)), name="pictures", labels=LABELS)
    shown = (np.arange(12).reshape(3, 4) * 10).tolist()
    return complete(bare, {"inputs": shown}, {"inputs": {"pixels": {"quantiles": [20.0, 80.0]}}})


def reviews() -> ModelContract:
    """A classifier of texts, of which training saw short and long ones."""
    bare = contract(TensorSpec("text", "BYTES"), name="reviews", labels=LABELS)
    return complete(
        bare, {"text": "A fine film, all in all."}, {"inputs": {"text": {"quantiles": [3.0, 19.0, 20.0, 21.0, 400.0]}}}
    )


def _arrays(spec: TensorSpec, rows: int) -> st.SearchStrategy[Array]:
    shape = (rows, *spec.shape[1:])
    if spec.datatype == "BYTES":
        values = st.sampled_from(spec.categories) if spec.categories else TEXT
        return hnp.arrays(object, shape, elements=values, fill=st.nothing())
    if spec.datatype == "BOOL":
        return hnp.arrays(bool, shape)
    low, high = spec.range or ((-100, 100) if spec.datatype[0] in "FI" else (0, 100))
    if spec.datatype.startswith("FP"):
        low, high = low + 0.1 * (high - low), high - 0.1 * (high - low)  # an FP16 of 0.1 is less than 0.1
        return hnp.arrays(np.float64, shape, elements=st.floats(low, high)).map(lambda array: array.astype(spec.dtype))
    return hnp.arrays(spec.dtype, shape, elements=st.integers(int(low), int(high)))


def _summary(spec: TensorSpec, values: Array) -> dict[str, Any]:
    if spec.categories:
        return {"counts": {name: int((values == name).sum()) for name in spec.categories}}
    if spec.datatype == "BYTES":
        return {}
    means = values.reshape(len(values), -1).astype(np.float64).mean(1)
    return {"quantiles": np.quantile(means, np.linspace(0, 1, 9)).tolist()}
