"""JSON out: arrays and scalars of every numeric type."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.contract import Array, TensorSpec
from handlers.json_io import encode
from tests.handlers.formats.test_tensors import NUMERIC
from tests.support.handlers.strategies import arrays, specs


@given(st.data())
def test_an_array_reads_back_the_same(data: st.DataObject) -> None:
    spec: TensorSpec = data.draw(specs(datatypes=(*NUMERIC, "BOOL")))
    array: Array = data.draw(arrays(spec, 2))
    found = np.array(json.loads(encode(array)), spec.dtype)
    assert found.tobytes() == array.tobytes()
    assert json.loads(encode(array[0])) == json.loads(encode(array))[0]


def test_a_float32_has_its_shortest_text() -> None:
    assert encode({"p": np.float32(0.1)}) == b'{"p":0.1}'


@pytest.mark.parametrize("text", ['"\\', "é\u2028🛫", "\0"])
def test_any_text_reads_back_the_same(text: str) -> None:
    assert json.loads(encode([text])) == [text]
