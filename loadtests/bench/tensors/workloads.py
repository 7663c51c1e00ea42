"""The workloads: random rows of a model from its contract, and the forms in which servers take them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from handlers.contract import ModelContract
from handlers.formats.pictures import encode_png
from handlers.formats.requests import native_request, native_row, to_json, v2_binary_request, v2_request

BODIES = 64  # different requests, so that nothing is answered from a cache
JSON = {"Content-Type": "application/json"}


class Exchange(NamedTuple):
    """Requests to one server, and a decoder of its answers.

    Attributes:
        headers: the same for every request.
        bodies: in the order of the rows.
        decode: function of a response's body to the answer: a number, or ``[label, probability]``.
    """

    path: str
    headers: Mapping[str, str]
    bodies: Sequence[bytes]
    decode: Callable[[bytes], Any]
    method: str = "POST"


def draw_rows(contract: ModelContract, generator: Generator, count: int = BODIES) -> list[dict[str, Any]]:
    """Draw different valid rows: features in their range, or the example's picture, changed.

    Pictures are moved and dimmed, so that they compress and print as real ones do; values are integers.
    """
    if not contract.has_named_rows:
        picture = np.array(contract.example.request["inputs"], np.float64)
        name = contract.inputs[0].name
        return [native_request(contract, {name: _changed(picture, generator)}) for _ in range(count)]
    rows = []
    for _ in range(count):
        row: dict[str, Any] = {}
        for spec in contract.inputs:
            if spec.categories:
                row[spec.name] = str(generator.choice(spec.categories))
            else:
                low, high = spec.range or (0, 100)
                row[spec.name] = int(generator.integers(int(low), int(high), endpoint=True))
        rows.append(row)
    return rows


def bad(contract: ModelContract, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row that no server should answer: its last category is unknown, or its picture lacks a line."""
    if contract.has_named_rows:
        return {**row, contract.inputs[-1].name: "no such thing"}
    return {"inputs": row["inputs"][:-1]}


def native(row: Mapping[str, Any]) -> bytes:
    """Encode the row as JSON."""
    return to_json(row)


def as_floats(row: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a picture's values to floats: 12.0 for 12."""
    return {"inputs": np.array(row["inputs"], np.float64).tolist()} if "inputs" in row else dict(row)


def listed(row: Mapping[str, Any]) -> bytes:
    """Encode the row in a list, which BentoML's batchable APIs take."""
    return native({"rows": [row]})


def v2_json(contract: ModelContract, row: Mapping[str, Any]) -> bytes:
    """Encode the row in the Open Inference Protocol, as JSON."""
    return to_json(v2_request(contract, {name: np.array([v]) for name, v in native_row(contract, row).items()}))


def v2_binary(contract: ModelContract, row: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    """Encode the row in the protocol's binary extension; return the body and its headers."""
    values = native_row(contract, row)
    return v2_binary_request(
        contract, {spec.name: np.array([values[spec.name]], spec.dtype) for spec in contract.inputs}
    )


def png(row: Mapping[str, Any]) -> bytes:
    """Encode a picture as a file."""
    return encode_png(row["inputs"])


def read_prediction(body: bytes) -> Any:
    """Return the answer in ``{"prediction": …}``."""
    return _answer(json.loads(body)["prediction"])


def read_list(body: bytes) -> Any:
    """Return the answer in ``[…]``."""
    return _answer(json.loads(body)[0])


def read_v2(body: bytes) -> Any:
    """Return the answer in the protocol's outputs, as JSON."""
    outputs = {output["name"]: output["data"][0] for output in json.loads(body)["outputs"]}
    return _answer(outputs if "label" in outputs else next(iter(outputs.values())))


def _answer(prediction: Any) -> Any:
    return [prediction["label"], prediction["probability"]] if isinstance(prediction, dict) else prediction


def _changed(picture: Any, generator: Generator) -> list[list[int]]:
    moved = np.roll(picture, generator.integers(-3, 4, 2), axis=(0, 1))
    changed: list[list[int]] = np.rint(moved * generator.uniform(0.6, 1.0)).astype(int).tolist()
    return changed
