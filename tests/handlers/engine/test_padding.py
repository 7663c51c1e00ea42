"""Padded requests share a batch, and each gets the answer that it gets alone."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from handlers.contract import Array, ModelContract, TensorSpec
from handlers.engine.padding import Padding
from tests.support.handlers import wire
from tests.support.handlers.models import MAX_ROWS, contract, serve

AXES = ("batch", "length")


def ids(**more: Any) -> TensorSpec:
    return TensorSpec("ids", "INT64", (-1, -1), max_shape=(-1, 9), axes=AXES, **more)


def mask(**more: Any) -> TensorSpec:
    return TensorSpec("mask", "FP32", (-1, -1), max_shape=(-1, 9), axes=AXES, **more)


def model(*inputs: TensorSpec, axes: tuple[str, ...] = AXES) -> ModelContract:
    outputs = (TensorSpec("each", "FP32", (-1, -1), axes=axes), TensorSpec("total", "FP32"))
    return msgspec.structs.replace(contract(*inputs, name="tokens"), task="tensors", outputs=outputs)


PADDED = model(ids(pad=7), mask(pad=0))
APART = model(ids(), mask())


class Masked:
    """Sums what the mask lets through, and notes the shape of each batch."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        self.shapes.append(tensors["ids"].shape)
        each = (tensors["ids"] * tensors["mask"]).astype(np.float32)
        return {"each": each, "total": each.sum(1)}


def row(*values: int) -> Any:
    return wire.request({"ids": values, "mask": [1] * len(values)})


ASKED = [row(1), row(2, 3, 4), row(5, 6), wire.request({"instances": [{"ids": [8, 9], "mask": [1, 0]}] * 2})]


def answers(served: ModelContract, engine: Masked, *asked: Any) -> list[Any]:
    responses = serve(served, engine).handle(asked)
    return [msgspec.json.decode(response.body) for response in responses]


def test_requests_of_other_sizes_run_together_and_are_answered_as_alone() -> None:
    together, apart = Masked(), Masked()
    alone = [answers(PADDED, Masked(), one)[0] for one in ASKED]
    assert alone[1] == {"prediction": {"each": [2.0, 3.0, 4.0], "total": 9.0}}
    assert answers(PADDED, together, *ASKED) == alone == answers(APART, apart, *ASKED)
    assert together.shapes == [(5, 3)]
    assert sorted(apart.shapes) == [(1, 1), (1, 3), (3, 2)]


def test_a_batch_that_is_split_is_padded_in_each_piece() -> None:
    many = [row(*range(1, 2 + i % 5)) for i in range(2 * MAX_ROWS)]
    engine = Masked()
    assert answers(PADDED, engine, *many) == [answers(PADDED, Masked(), one)[0] for one in many]
    assert engine.shapes == [(MAX_ROWS, 5)] * 2


@pytest.mark.parametrize(
    ("contract", "why"),
    [
        (model(ids(pad=0), mask()), "input 'mask' shares an axis with a padded one"),
        (model(ids(pad=0), mask(pad=0), axes=()), "output 'each' varies by 'each\\[1\\]', an axis of no padded input"),
    ],
)
def test_what_could_not_be_cut_is_refused(contract: ModelContract, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Padding(contract)


def test_a_pad_is_a_number_of_its_datatype_where_sizes_vary() -> None:
    for wrong in ({"pad": 0.5}, {"pad": 2.0**70}, {"pad": 0, "shape": (-1, 2), "max_shape": ()}):
        with pytest.raises(ValueError, match="a pad needs sizes that vary"):
            msgspec.structs.replace(ids(), **wrong)
    assert msgspec.json.decode(PADDED.to_json())["format"] == 2
    assert ModelContract.from_json(PADDED.to_json()) == PADDED
