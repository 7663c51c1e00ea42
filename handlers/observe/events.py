"""Predictions as CloudEvents 1.0 (its "JSON Event Format"), one a row.

{"specversion": "1.0", "type": "marloop.prediction", "source": "/models/flights/versions/1.0", "id": "order-7/0",
 "time": "2013-02-17T12:00:00.000000+00:00", "datacontenttype": "application/json",
 "data": {"request_id": "order-7", "row": 0, "model": "flights", "version": "1.0",
          "features": {"distance": 1400.0, "carrier": "UA"}, "output": 214.81033}}
"""

import contextlib
import logging
import math
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from handlers.batch import Outputs
from handlers.contract import Array, ModelContract, TensorSpec
from handlers.features import FeatureRows, as_sent, text_or_none
from handlers.message import Request

logger = logging.getLogger(__name__)
TYPE = "marloop.prediction"
LONGEST_TEXT = 2000  # characters of a text that are sent
MOST_VALUES = 64  # of a tensor in a row; of a larger one only the mean is sent
_ID = re.compile(r"[\x21-\x7e]{1,200}")


class Answered(NamedTuple):
    """Rows of one answered request, as the worker holds them.

    Attributes:
        request_id: see the function.
        time: seconds since the epoch, when the request was received.
        rows: positions of the captured rows.
        sent: the client's values.
        outputs: of the graph, for every row of the request.
        client_time: as the client wrote it; empty for none.
    """

    request_id: str
    time: float
    rows: Sequence[int]
    sent: FeatureRows | dict[str, Array]
    outputs: Outputs
    client_time: str = ""


class EventRow(NamedTuple):
    """A row of an event: its position in the request, what the client sent, and what was answered."""

    row: int
    features: dict[str, Any]
    output: Any


class Envelopes:
    """Wraps rows of a model in CloudEvents."""

    def __init__(self, contract: ModelContract) -> None:
        self._names = {"model": contract.name, "version": contract.version}
        self._source = f"/models/{contract.name}/versions/{contract.version}"
        self._warned = False

    def wrap(
        self, request_id: str, received: float, client_time: str, rows: Iterable[EventRow]
    ) -> Iterator[dict[str, Any]]:
        """Yield an event a row.

        Args:
            request_id: see the function.
            received: seconds since the epoch.
            client_time: as the client wrote it; empty for none.
        """
        time = self._time(request_id, received, client_time).isoformat(timespec="microseconds")
        for row in rows:
            data = {"request_id": request_id, "row": row.row} | self._names
            data |= {"features": row.features, "output": row.output}
            yield {
                "specversion": "1.0",
                "type": TYPE,
                "source": self._source,
                "id": f"{request_id}/{row.row}",
                "time": time,
                "datacontenttype": "application/json",
                "data": data,
            }

    def _time(self, request_id: str, seconds: float, client_time: str) -> datetime:
        """Return the client's time if it is one in the past, else that of receipt."""
        received = datetime.fromtimestamp(seconds, UTC)
        if not client_time:
            return received
        with contextlib.suppress(ValueError, OverflowError, TypeError):
            time = datetime.fromisoformat(client_time)
            if time <= received:
                return time.astimezone(UTC)
        if not self._warned:
            self._warned = True
            logger.warning(
                "the request %s says %.40r, which is no time in the past with its zone, such as 2013-03-01T10:00:00Z: "
                "its rows, and those of others like it, have the time of now",
                *(request_id, client_time),
            )
        return received


class Events:
    """Makes events of the predictions of a model with a graph."""

    def __init__(self, contract: ModelContract) -> None:
        self._contract, self._envelopes = contract, Envelopes(contract)

    def of(self, answered: Answered) -> Iterator[dict[str, Any]]:
        """Return an event a row, with arrays and numbers of NumPy."""
        features = self._features(answered)
        rows = (
            EventRow(row, own, self._answer(answered.outputs, row))
            for row, own in zip(answered.rows, features, strict=True)
        )
        return self._envelopes.wrap(answered.request_id, answered.time, answered.client_time, rows)

    def _answer(self, outputs: Outputs, row: int) -> Any:
        """Return a row's output: a number, a label with its probabilities, or short values by name."""
        if self._contract.finds_entities:  # which the graph's outputs are not
            return dict.fromkeys(spec.name for spec in self._contract.outputs)
        if self._contract.task == "tensors" or self._contract.has_targets:
            return {spec.name: _column(spec, outputs[spec.name][row : row + 1])[0] for spec in self._contract.outputs}
        output = outputs[self._contract.graph_outputs[0]][row]
        if self._contract.task != "classification":
            return output
        return {"label": self._contract.labels[int(output.argmax())], "probabilities": output}

    def _features(self, answered: Answered) -> list[dict[str, Any]]:
        sent, specs = answered.sent, self._contract.inputs
        if isinstance(sent, FeatureRows):
            rows = [sent.rows[row] for row in answered.rows]
            return [{spec.name: _captured(spec, getattr(row, spec.name)) for spec in specs} for row in rows]
        chosen = list(answered.rows)
        columns = {spec.name: _column(spec, sent[spec.name][chosen]) for spec in specs}
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def request_id(request: Request) -> str:
    """Return a client's ``X-Request-Id`` if that is 1 to 200 visible ASCII characters, else the id of the answer."""
    own = request.headers.get("x-request-id", "")
    return own if _ID.fullmatch(own) else request.id or uuid.uuid4().hex


def is_sent_whole(spec: TensorSpec) -> bool:
    """Tell whether an event has all values of a tensor; else only their mean, and nothing of texts."""
    return not spec.varies and math.prod(spec.shape[1:]) <= MOST_VALUES


def _captured(spec: TensorSpec, value: Any) -> Any:
    """Return the event's value of an input, of a client's in JSON."""
    return _cut(text_or_none(value) if spec.nullable and spec.is_text else value)


def _column(spec: TensorSpec, values: Array) -> list[Any]:
    """Return the event's value of an input, for each row."""
    if spec.timestamp:
        return list(values.tolist())  # seconds, which are compared as numbers
    if spec.is_scalar:
        return [_cut(value) for value in as_sent(spec, values)]
    if is_sent_whole(spec):
        return list(values.tolist())
    rows = values.reshape(len(values), -1)
    if rows.dtype == object or not rows.shape[1]:
        return [None] * len(rows)
    return list(rows.mean(1, dtype=float).tolist())


def _cut(value: Any) -> Any:
    return value[:LONGEST_TEXT] if isinstance(value, str) else value
