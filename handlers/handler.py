"""The core: decode each request, run all their rows as one batch, encode each answer.

A failing request never harms its batch mates: bad input gets its own 4xx, and when the engine fails on a batch each
request is run alone, so that only the one at fault gets a 500.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from handlers.codec import Codec, Decoded
from handlers.contract import ModelContract
from handlers.engine import Engine
from handlers.message import InputError, Request, Response, error_response
from handlers.tensors import Array

logger = logging.getLogger(__name__)


class ModelHandler:
    """Answers batches of requests for one model.

    Args:
        contract: of the model.
        engine: runs its graph.
        codec: its wire formats.
    """

    def __init__(self, contract: ModelContract, engine: Engine, codec: Codec) -> None:
        self.contract = contract
        self._engine = engine
        self._codec = codec

    def handle(self, requests: Sequence[Request]) -> list[Response]:
        """Answer each request, in order; this never raises."""
        responses: list[Response | None] = [None] * len(requests)
        decoded: dict[int, Decoded] = {}
        for i, request in enumerate(requests):
            try:
                decoded[i] = self._codec.decode(request)
            except InputError as error:
                responses[i] = error_response(error, request.id)
            except Exception:
                responses[i] = self._failure(request, "decoding failed")
        for i, response in self._answer(requests, decoded).items():
            responses[i] = response
        return [r if r is not None else self._failure(requests[i], "no answer") for i, r in enumerate(responses)]

    def check_example(self) -> None:
        """Answer the contract's example and compare: the model is ready only if it says what training said.

        Raises:
            RuntimeError: the answer differs.
        """
        body = msgspec.json.encode(self.contract.example.request)
        request = Request(body, {"content-type": "application/json"}, id="example")
        response = self.handle([request])[0]
        expected = self.contract.example.response
        if response.status != 200 or not same_answer(msgspec.json.decode(response.body), expected):
            found = response.body.decode()
            raise RuntimeError(f"{self.contract.name} {self.contract.version}: answered {found}, not {expected}")

    def _answer(self, requests: Sequence[Request], decoded: Mapping[int, Decoded]) -> dict[int, Response]:
        if not decoded:
            return {}
        try:
            outputs = self._run(list(decoded.values()))
        except Exception:
            if len(decoded) == 1:
                return {i: self._failure(requests[i], "the engine failed") for i in decoded}
            logger.warning("%s: a batch of %d failed; each request is run alone", self.contract.name, len(decoded))
            alone = [self._answer(requests, {i: one}) for i, one in decoded.items()]
            return {i: response for answers in alone for i, response in answers.items()}
        responses: dict[int, Response] = {}
        start = 0
        for i, one in decoded.items():
            stop = start + one.rows
            try:
                responses[i] = one.encode({name: array[start:stop] for name, array in outputs.items()})
            except Exception:
                responses[i] = self._failure(requests[i], "encoding failed")
            start = stop
        return responses

    def _run(self, decoded: Sequence[Decoded]) -> dict[str, Array]:
        if len(decoded) == 1:
            tensors = decoded[0].tensors
        else:
            names = decoded[0].tensors
            tensors = {name: np.concatenate([one.tensors[name] for one in decoded]) for name in names}
        outputs = self._engine.run(tensors)
        rows = sum(one.rows for one in decoded)
        short = [name for name, array in outputs.items() if len(array) != rows]
        if short:
            raise RuntimeError(f"the graph's outputs {short} do not have the batch's {rows} rows")
        return outputs

    def _failure(self, request: Request, what: str) -> Response:
        logger.exception("%s: %s %s, request %s", what, self.contract.name, self.contract.version, request.id)
        return error_response(InputError("internal", f"{what}; the log has the traceback under this id"), request.id)


def same_answer(found: Any, expected: Any, tolerance: float = 1e-3) -> bool:
    """Whether two decoded JSON answers agree: numbers within a relative and absolute tolerance, all else equal."""
    match expected:
        case dict():
            same_keys = isinstance(found, dict) and found.keys() == expected.keys()
            return same_keys and all(same_answer(found[key], value, tolerance) for key, value in expected.items())
        case list():
            same_length = isinstance(found, list) and len(found) == len(expected)
            return same_length and all(same_answer(a, b, tolerance) for a, b in zip(found, expected, strict=True))
        case int() | float() if not isinstance(expected, bool):
            number = isinstance(found, int | float) and not isinstance(found, bool)
            return number and abs(found - expected) <= tolerance * max(1.0, abs(expected))
        case _:
            return bool(found == expected)
