"""The core: decode each request, run their rows together, encode each answer.

A batch has as many requests as TorchServe finds, of any size. So the graph runs on pieces of it with no more rows than
one request may have. A request without a turn in time gets a 503.

A failing request harms no other. Bad input gets its own 4xx. When the engine fails on a batch each request is run
alone, so that only the one at fault gets a 500.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from handlers.batch import Batch, Decoded, Observer, Observers
from handlers.contract import Array, ModelContract
from handlers.contract.example import is_right, request_of
from handlers.engine import Engine
from handlers.engine.padding import Padding
from handlers.http import kserve
from handlers.http.content_encoding import HEADER, refusal_headers
from handlers.http.drain import MESSAGE, RETRY_AFTER, Drain
from handlers.http.overload import Overload
from handlers.http.packing import is_packed, unpack
from handlers.message import InputError, Request, Response
from handlers.observe.logs import log_requests

logger = logging.getLogger(__name__)
LARGE = 64 * 1024  # bytes of a body; any model decodes a thousand smaller ones in the time that a batch may take


class WireFormats(Protocol):
    """Bytes to graph tensors and back: the codecs in ``formats``, which only archives of tensor models hold."""

    max_rows: int
    names: frozenset[str]  # of the served model, beside the contract's

    @classmethod
    def open(cls, directory: Path, contract: ModelContract, max_rows: int) -> "WireFormats":
        """Open the formats of an unpacked archive."""

    def protocol(self, request: Request) -> str:
        """Return the protocol of a refused request."""

    def decode(self, request: Request) -> Decoded:
        """Decode one request, or raise ``InputError``."""

    def stack(self, decoded: Sequence[Decoded]) -> dict[str, Array]:
        """Return the graph tensors of several requests, rows in their order."""

    def refuse(self, request: Request, error: InputError, cause: Exception | None = None) -> Response:
        """Return the response to an error in the form of the request's protocol."""


class ModelHandler:
    """Answers batches of requests for one model.

    Args:
        observers: get each batch once it is answered; None: one that logs failures.
        clock: seconds since the epoch.
        patience: seconds that a batch may take; a request without a turn by then is refused. A batch is answered as a
            whole, and TorchServe kills a worker that takes longer than ``responseTimeout``.
        timer: a monotonic clock in s.
    """

    def __init__(
        self,
        contract: ModelContract,
        engine: Engine,
        codec: WireFormats,
        observers: Sequence[Observer] | None = None,
        clock: Callable[[], float] = time.time,
        patience: float = math.inf,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.contract = contract
        self._engine = engine
        self._codec = codec
        self.observers = Observers(contract.name, (log_requests(),) if observers is None else observers)
        self._patience, self._clock, self._timer = patience, clock, timer
        self._overload = Overload(patience)
        self._varies = any(spec.varies for spec in contract.inputs)
        self._padding = Padding(contract)
        self.drain = Drain()

    def handle(self, requests: Sequence[Request], waited: Sequence[float] = ()) -> list[Response]:
        """Answer each request, in order; this never raises.

        Args:
            waited: s that each request waited, where the host knows.
        """
        batch = self._refused(requests) if self.drain.refuses() else self._answer(requests)
        batch.waited = waited
        self.observers(batch)
        return batch.responses

    def check_example(self) -> None:
        """Answer the contract's example: the model is ready only if its answer is that of training.

        Raises:
            RuntimeError: the answer differs.
        """
        body, kind = request_of(self.contract)
        response = self._answer([Request(body, {"content-type": kind}, id="example")]).responses[0]
        if response.status != 200 or not is_right(self.contract, response.body):
            what = f"answered {response.body.decode('utf-8', 'replace')}, not {self.contract.example.response}"
            raise RuntimeError(f"{self.contract.name} {self.contract.version}: {what}") from response.cause

    def _answer(self, requests: Sequence[Request]) -> Batch:
        batch = Batch(self.contract, requests, self._clock())
        batch.seconds = {"decode": 0.0, "predict": 0.0, "encode": 0.0}
        answers: dict[int, Response] = {}
        start = self._timer()
        allowed = self._overload.seconds_for(requests, batch.received)
        end = start + allowed
        refused = 0
        piece: dict[int, Decoded] = {}
        rows = 0
        most = self._codec.max_rows
        order = _order(requests)
        takes_long = isinstance(order, list)
        for i in order:
            if takes_long and self._timer() > end:
                answers[i] = self._overloaded(requests[i], allowed)
                refused += 1
                continue
            decoded = self._decode(batch, i)
            if isinstance(decoded, Response):
                answers[i] = decoded
                continue
            if piece and rows + decoded.rows > most:
                answers |= self._predict_piece(batch, piece, end)
                piece, rows, takes_long = {}, 0, True
            piece[i] = batch.accepted[i] = decoded
            rows += decoded.rows
            if rows >= most:
                answers |= self._predict_piece(batch, piece, end)
                piece, rows, takes_long = {}, 0, True
        if piece:
            answers |= self._predict_piece(batch, piece, end)
        seconds = self._timer() - start
        self._overload.ended(batch.received, seconds, len(requests) - refused, refused)
        batch.seconds["decode"] = seconds - batch.seconds["predict"] - batch.seconds["encode"]
        batch.responses = [answers[i] for i in range(len(requests))]
        return batch

    def _decode(self, batch: Batch, i: int) -> Decoded | Response:
        request = batch.requests[i]
        headers = request.headers
        try:
            if kserve.PATH in headers or HEADER in headers or request.body[:1] != b"{":
                path = headers.get(kserve.PATH)
                metadata = kserve.answer(self.contract, path, self._codec.names) if path else None
                if metadata:
                    return metadata
                if is_packed(request):
                    request = unpack(request)
                    batch.requests = [*batch.requests[:i], request, *batch.requests[i + 1 :]]
            return self._codec.decode(request)
        except InputError as error:
            return self._codec.refuse(request, error)._replace(headers=refusal_headers(error))
        except Exception as error:
            return self._failure(request, "decoding failed", error)

    def _predict_piece(self, batch: Batch, piece: dict[int, Decoded], end: float) -> dict[int, Response]:
        """Run the graph on requests, those of the same sizes together; sizes that are padded may differ."""
        if not self._varies:
            return self._predict(batch, piece, end)
        groups: dict[tuple[tuple[int, ...], ...], dict[int, Decoded]] = {}
        for i, decoded in piece.items():
            fixed = [array for name, array in decoded.tensors.items() if name not in self._padding.names]
            groups.setdefault(tuple(array.shape[1:] for array in fixed), {})[i] = decoded
        answers = [self._predict(batch, group, end) for group in groups.values()]
        return {i: response for some in answers for i, response in some.items()}

    def _predict(self, batch: Batch, decoded: dict[int, Decoded], end: float) -> dict[int, Response]:
        """Run requests of a batch together; where that fails, each alone."""
        start = self._timer()
        try:
            outputs = self._run(list(decoded.values()))
        except Exception as error:
            batch.seconds["predict"] += self._timer() - start
            if len(decoded) == 1:
                return {i: self._failed(batch.requests[i], error) for i in decoded}
            logger.warning("%s: a batch of %d failed; each request is run alone", self.contract.name, len(decoded))
            alone = [self._alone(batch, i, request, end) for i, request in decoded.items()]
            return {i: response for answers in alone for i, response in answers.items()}
        middle = self._timer()
        batch.seconds["predict"] += middle - start
        batch.outputs.append(outputs)
        responses = self._encode(batch, decoded, outputs)
        batch.seconds["encode"] += self._timer() - middle
        return responses

    def _alone(self, batch: Batch, i: int, decoded: Decoded, end: float) -> dict[int, Response]:
        if self._timer() > end:
            return {i: self._overloaded(batch.requests[i], self._patience)}
        return self._predict(batch, {i: decoded}, end)

    def _encode(self, batch: Batch, decoded: dict[int, Decoded], outputs: dict[str, Array]) -> dict[int, Response]:
        responses: dict[int, Response] = {}
        finite = _is_finite(outputs)
        start = 0
        for i, request in decoded.items():
            stop = start + request.rows
            own = {name: array[start:stop] for name, array in outputs.items()}
            if self._padding.names:
                own = self._padding.cut(own, self._padding.sizes(request.tensors))
            try:
                if not finite:
                    _check_finite(own)
                responses[i] = request.encode(own)
                batch.answered[i] = request, own
            except InputError as error:
                responses[i] = self._codec.refuse(batch.requests[i], error)
            except Exception as error:
                responses[i] = self._failure(batch.requests[i], "encoding failed", error)
            start = stop
        return responses

    def _run(self, decoded: Sequence[Decoded]) -> dict[str, Array]:
        outputs = self._engine.run(self._codec.stack(self._padded(decoded)))
        rows = sum([request.rows for request in decoded])  # noqa: C419 - a list is faster
        short = [name for name, array in outputs.items() if len(array) != rows]
        if short:
            raise RuntimeError(f"the graph's outputs {short} do not have the batch's {rows} rows")
        return outputs

    def _padded(self, decoded: Sequence[Decoded]) -> Sequence[Decoded]:
        """Return requests of which the shorter ones are filled up to the longest."""
        if not self._padding.names:
            return decoded
        each = [self._padding.sizes(request.tensors) for request in decoded]
        longest = {axis: max(sizes[axis] for sizes in each) for axis in each[0]}
        padded = [self._padding.pad(request.tensors, longest) for request in decoded]
        return [msgspec.structs.replace(request, data=data) for request, data in zip(decoded, padded, strict=True)]

    def _refused(self, requests: Sequence[Request]) -> Batch:
        """Refuse a batch: the host is about to end."""
        error = InputError("stopping", MESSAGE, expected="the same request again, later")
        batch = Batch(self.contract, requests, self._clock())
        batch.seconds = {"decode": 0.0, "predict": 0.0, "encode": 0.0}
        refused = [self._codec.refuse(request, error) for request in requests]
        batch.responses = [response._replace(headers=RETRY_AFTER) for response in refused]
        return batch

    def _overloaded(self, request: Request, seconds: float) -> Response:
        """Refuse a request whose turn did not come; a batch like this one takes as long again."""
        what = f"the requests that were taken together with this one took {seconds:.2g} s"
        error = InputError("overloaded", what, expected="the same request again, later")
        return self._codec.refuse(request, error)._replace(headers={"Retry-After": str(math.ceil(seconds))})

    def _failed(self, request: Request, cause: Exception) -> Response:
        """Answer a request that the engine did not: the client's fault where the model's own code says so."""
        if isinstance(cause, InputError):
            return self._codec.refuse(request, cause)
        return self._failure(request, "the engine failed", cause)

    def _failure(self, request: Request, what: str, cause: Exception) -> Response:
        error = InputError("internal", f"{what}; the log has the traceback under this id")
        return self._codec.refuse(request, error, cause)


def _is_finite(outputs: Mapping[str, Array]) -> bool:
    for array in outputs.values():
        if array.dtype.kind == "f" and np.count_nonzero(np.isfinite(array)) < array.size:  # half the time of all()
            return False
    return True


def _order(requests: Sequence[Request]) -> Sequence[int]:
    """Return the order of a batch: as it came, but large requests last, so that no other waits for them in vain."""
    large = [i for i, request in enumerate(requests) if len(request.body) > LARGE or request.parts]
    if not large:
        return range(len(requests))
    small = [i for i in range(len(requests)) if i not in large]
    return small + sorted(large, key=lambda i: requests[i].size)


def _check_finite(outputs: Mapping[str, Array]) -> None:
    """Raise ``InputError`` for NaN or infinity, which JSON lacks: the example is finite, so the input is at fault."""
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
            index = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), array.shape))
            message = f"for these values the output {name} is {array[index]} in row {index[0]}"
            raise InputError("not_finite_output", message, expected="values whose outputs are finite numbers")
