"""Models of the tests' own: contracts of several kinds, and an engine that computes something of each row alone."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from handlers.contract import Array, Example, ModelContract, TensorSpec, classification_outputs
from handlers.contract.model_card import Evaluation, Lineage, Reference
from handlers.engine import Engine
from handlers.formats.codec import Codec
from handlers.formats.image import ImageCodec
from handlers.formats.opaque import as_array
from handlers.handler import ModelHandler
from handlers.message import Response

MAX_ROWS = 8
SIZE = 6  # height and width of a picture


def contract(
    *inputs: TensorSpec,
    name: str = "model",
    output: TensorSpec | None = None,
    labels: tuple[str, ...] = (),
    example: Example | None = None,
) -> ModelContract:
    """A regression of one output; with labels, a classification."""
    return ModelContract(
        name=name,
        version="1.2",
        task="classification" if labels else "regression",
        inputs=inputs,
        outputs=classification_outputs(len(labels)) if labels else (output or TensorSpec("y", "FP32"),),
        labels=labels,
        example=example or Example({}, {}),
        reference=Reference(),
        evaluation=Evaluation(),
        lineage=Lineage(),
    )


LINE = contract(TensorSpec("x", "FP32"), name="line")
FLIGHTS = contract(
    TensorSpec("distance", "FP32", unit="miles", range=(17, 4983)),
    TensorSpec("hour", "INT64", range=(0, 23)),
    TensorSpec("carrier", "BYTES", categories=("AA", "B6", "DL", "UA", "WN")),
    name="flights",
)
PICTURES = contract(
    TensorSpec("pixels", "UINT8", (-1, SIZE, SIZE)), name="pictures", labels=("bag", "boot", "coat", "shirt")
)
COLOURS = contract(TensorSpec("pixels", "UINT8", (-1, SIZE, SIZE, 3)), name="colours", labels=("day", "night"))
# Inputs of datatypes that the others have not, with arrays inside named rows.
MIXED = contract(
    TensorSpec("words", "BYTES", (-1, 2)),
    TensorSpec("serial", "UINT64"),
    TensorSpec("flags", "BOOL", (-1, 3)),
    TensorSpec("tensor", "INT64", (-1, 2, 2)),
    name="mixed",
)
MODELS = (LINE, FLIGHTS, PICTURES, MIXED)


class Formula:
    """An engine whose answer to a row depends on that row alone; it notes the number of rows of each batch."""

    def __init__(self, contract: ModelContract) -> None:
        self.batches: list[int] = []
        self._contract = contract

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        rows = np.concatenate([_numbers(tensors[spec.name]) for spec in self._contract.inputs], axis=1)
        self.batches.append(len(rows))
        weights = np.cos(np.arange(rows.shape[1]))
        # Summed exactly, row by row: what is computed together must not differ in the last bit.
        scores = np.array([math.fsum(row) for row in np.arctan(np.nan_to_num(rows, nan=0.5)) * weights])
        if self._contract.task == "regression":
            return {"y": scores.astype(np.float32)}
        votes = np.exp(np.sin(scores[:, None] * np.arange(1, len(self._contract.labels) + 1)))
        return {"probabilities": (votes / votes.sum(axis=1, keepdims=True)).astype(np.float32)}


def _numbers(tensor: Array) -> Array:
    """Any tensor as FP64 ``(rows, values)``; a string counts its characters."""
    rows = tensor.reshape(len(tensor), -1)
    return np.vectorize(len, otypes=[float])(rows) if rows.dtype == object else rows.astype(np.float64)


def serve(model: ModelContract, engine: Engine | None = None, codec: type[Codec] | None = None) -> ModelHandler:
    """A handler of a model; pictures are accepted by the models that look at them."""
    codec = codec or (ImageCodec if model in (PICTURES, COLOURS) else Codec)
    return ModelHandler(model, engine or Formula(model), codec(model, MAX_ROWS))


def pixels(seed: int = 0, rows: int = 1) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Pictures of noise, ``(rows, SIZE, SIZE)``."""
    return np.random.default_rng(seed).integers(0, 256, (rows, SIZE, SIZE), np.uint8)


def opaque(example: Example = Example({}, {}), name: str = "legacy") -> ModelContract:  # noqa: B008 - it is frozen
    """The contract of a handler that was written elsewhere."""
    return msgspec.structs.replace(LINE, name=name, task="opaque", example=example, format=2)


class Backwards:
    """Answers with the body backwards; "bad" fails the batch that it is in."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        (requests,) = tensors.values()
        self.batches.append([request.body for request in requests])
        if b"bad" in self.batches[-1]:
            raise RuntimeError("it was told to")
        responses = [Response(202, request.body[::-1], "text/plain", {"x-own": "1"}) for request in requests]
        return {"answer": as_array(responses)}
