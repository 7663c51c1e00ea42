"""The wire format of a handler that was written elsewhere: requests go to it as they are, and its answers out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from handlers.batch import Decoded, Outputs
from handlers.contract import Array, ModelContract
from handlers.http import kserve
from handlers.message import InputError, Request, Response, error_response

REQUEST, ANSWER = "request", "answer"  # names of the arrays, whose values are whole requests and whole responses


class OpaqueCodec:
    """Hands requests on; those of the protocols of KServe are refused, since nobody knows the model's tensors."""

    def __init__(self, contract: ModelContract, max_rows: int) -> None:
        self.contract, self.max_rows = contract, max_rows
        self.names: frozenset[str] = frozenset()

    @classmethod
    def open(cls, directory: Path, contract: ModelContract, max_rows: int) -> "OpaqueCodec":
        """Return the codec of an unpacked archive."""
        return cls(contract, max_rows)

    def protocol(self, request: Request) -> str:
        """Return the protocol of a refused request."""
        route = kserve.route(request.headers)
        return route if route in (kserve.V1, kserve.V2) else "native"

    def decode(self, request: Request) -> Decoded:
        """Take a request, unless it came by a route of KServe."""
        if request.headers.get("explain") == "True":
            raise InputError("not_supported", "explanations are not offered", expected="a prediction route")
        if self.protocol(request) != "native":
            raise kserve.native_only(self.contract)

        def encode(outputs: Outputs) -> Response:
            response: Response = outputs[ANSWER][0]
            return response

        return Decoded("native", 1, {REQUEST: as_array([request])}, encode)

    def stack(self, decoded: Sequence[Decoded]) -> dict[str, Array]:
        """Return several requests in their order."""
        return {REQUEST: np.concatenate([request.tensors[REQUEST] for request in decoded])}

    def refuse(self, request: Request, error: InputError, cause: Exception | None = None) -> Response:
        """Return the response to an error in the form of the request's protocol."""
        return error_response(error, request, cause, as_text=self.protocol(request) != "native")


def as_array(values: Sequence[object]) -> Array:
    """Return an array with these values as they are: NumPy would make a column of each part of a tuple."""
    array = np.empty(len(values), object)
    for i, value in enumerate(values):
        array[i] = value
    return array
