"""The checks that every format shares."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.contract import TensorSpec
from handlers.formats.tensors import category_index, fit_shape, json_array, limits, to_tensor, unknown_category
from handlers.message import InputError
from tests.support.handlers.strategies import specs

NUMERIC = ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")


def refused(spec: TensorSpec, values: Any) -> tuple[str, str]:
    """Code and path of the refusal of an array."""
    with pytest.raises(InputError) as raised:
        to_tensor(spec, np.asarray(values), "$")
    return raised.value.code, raised.value.path


@pytest.mark.parametrize("datatype", NUMERIC)
def test_both_limits_of_a_datatype_fit(datatype: str) -> None:
    dtype = np.dtype(TensorSpec("x", datatype).dtype)
    info: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    values = np.array([info.min, info.max], dtype)
    assert to_tensor(TensorSpec("x", datatype), values, "$").tolist() == values.tolist()


@pytest.mark.parametrize("datatype", [name for name in NUMERIC if not name.endswith("64")])
def test_a_value_beyond_a_limit_of_its_datatype_is_refused(datatype: str) -> None:
    spec = TensorSpec("x", datatype)
    low, high = limits(spec)
    beyond = 1.001 * high if datatype.startswith("FP") else high + 1
    assert refused(spec, [0.0, beyond]) == ("out_of_range", "$[1]")
    assert refused(spec, [low - (beyond - high)]) == ("out_of_range", "$[0]")


def test_the_largest_fp32_is_accepted_as_its_shortest_text_reads() -> None:
    largest = np.finfo(np.float32).max
    values = np.array([3.4028235e38, -3.4028235e38])
    assert to_tensor(TensorSpec("x", "FP32"), values, "$").tolist() == [largest, -largest]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g"])
@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_width_of_float_smuggles_in_a_value_that_is_not_finite(datatype: str, dtype: str, value: float) -> None:
    assert refused(TensorSpec("x", datatype, (-1, 2)), np.array([[1, 1], [1, value]], dtype)) == (
        "not_finite",
        "$[1][1]",
    )


def test_a_range_holds_both_its_ends_in_every_width_of_float() -> None:
    spec = TensorSpec("x", "FP32", range=(-0.1, 0.1))
    for dtype in (np.float32, np.float64):
        assert len(to_tensor(spec, np.array([-0.1, 0, 0.1], dtype), "$")) == 3
    assert refused(spec, [0.0, 0.1001]) == ("out_of_range", "$[1]")
    assert refused(spec, [-0.1001]) == ("out_of_range", "$[0]")


def test_a_whole_float_is_an_integer_and_another_is_not() -> None:
    spec = TensorSpec("x", "INT32")
    tensor = to_tensor(spec, np.array([3.0, -4.0]), "$")
    assert (tensor.tolist(), tensor.dtype) == ([3, -4], np.dtype(np.int32))
    assert refused(spec, [3.0, 3.5]) == ("wrong_type", "$[1]")


@pytest.mark.parametrize("datatype", ["INT64", "UINT64"])
@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_an_integer_that_64_bits_do_not_hold_is_out_of_range(datatype: str, value: int) -> None:
    with pytest.raises(InputError, match=f"does not fit {datatype}") as raised:
        json_array(TensorSpec("x", datatype), [1, value], "$.x")
    assert (raised.value.code, raised.value.path) == ("out_of_range", "$.x")


@pytest.mark.parametrize("datatype", ["FP32", "INT64", "BOOL", "BYTES"])
def test_ragged_lists_are_refused(datatype: str) -> None:
    value: Any = {"BOOL": True, "BYTES": "a"}.get(datatype, 1)
    with pytest.raises(InputError) as raised:
        json_array(TensorSpec("x", datatype, (-1, 2)), [[value, value], [value]], "$.x")
    assert (raised.value.code, raised.value.path) == ("wrong_shape", "$.x")


@given(specs(), st.lists(st.integers(-2, 4), max_size=4))
def test_a_shape_fits_only_where_all_but_the_batch_and_ones_at_the_end_agrees(
    spec: TensorSpec, shape: list[int]
) -> None:
    longest = max(len(shape), len(spec.shape))
    padded = [[*sizes[1:], *[1] * (longest - len(sizes))] for sizes in (shape, list(spec.shape))]
    fits = bool(shape) and padded[0] == padded[1]
    if fits and shape[0] > 0:
        assert fit_shape(spec, shape, "$.x") == (shape[0], *spec.shape[1:])
        return
    with pytest.raises(InputError) as raised:
        fit_shape(spec, shape, "$.x")
    assert (raised.value.code, raised.value.path) == ("empty" if fits else "wrong_shape", "$.x")


@given(st.data())
def test_a_category_becomes_its_index(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.text(), min_size=1, unique=True))
    values = data.draw(st.lists(st.sampled_from(names), min_size=1))
    found = category_index(TensorSpec("x", "BYTES", categories=tuple(names)), values, "$")
    assert found.dtype == np.int64
    assert [names[i] for i in found] == values


@pytest.mark.parametrize("value", ["EWr", "", "EW", 3, None, ["EWR"]])
def test_no_category_is_refused_at_its_row(value: Any) -> None:
    with pytest.raises(InputError) as raised:
        category_index(TensorSpec("x", "BYTES", categories=("EWR", "JFK")), ["JFK", value], "$.x")
    assert (raised.value.code, raised.value.path) == ("unknown_category", "$.x[1]")


def test_an_unknown_category_is_told_the_three_closest() -> None:
    airports = TensorSpec("dest", "BYTES", categories=("ATL", "BOS", "IAD", "IAH", "LAX", "MIA"))
    error = unknown_category(airports, "IAHH", "$.dest")
    assert error.expected.startswith("one of 6 categories, closest: IAH, ")
    assert error.expected.count(",") == 3
    assert "'IAHH'" in error.message


def test_a_category_of_a_megabyte_is_compared_quickly_and_quoted_shortly() -> None:
    airports = TensorSpec("dest", "BYTES", categories=tuple(f"A{i}" for i in range(100)))
    error = unknown_category(airports, "A" * 1_000_000, "$.dest")
    assert len(error.message) < 400
