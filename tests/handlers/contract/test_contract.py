"""What a contract may say, and that it survives being written and read."""

import re
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given

from handlers.contract import DTYPES, FORMAT, ModelContract, TensorSpec, classification_outputs, entity_outputs
from tests.support.handlers.models import COLOURS, FLIGHTS, LINE, PICTURES, contract
from tests.support.handlers.strategies import contracts


@given(contracts())
def test_a_contract_survives_being_written_and_read(model: ModelContract) -> None:
    assert ModelContract.from_json(model.to_json()) == model


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "two words", "datatype": "FP32"}, "identifier"),
        ({"name": "", "datatype": "FP32"}, "identifier"),
        ({"name": "inputs", "datatype": "FP32"}, "none of"),
        ({"name": "parameters", "datatype": "FP32"}, "none of"),
        ({"name": "x", "datatype": "FLOAT"}, "datatype 'FLOAT'"),
        ({"name": "x", "datatype": "FP32", "shape": ()}, "start with -1"),
        ({"name": "x", "datatype": "FP32", "shape": (1, 2)}, "start with -1"),
        ({"name": "x", "datatype": "INT64", "categories": ("a",)}, "need datatype BYTES"),
        ({"name": "x", "datatype": "BYTES", "shape": (-1, 2), "categories": ("a",)}, "shape [-1]"),
        ({"name": "x", "datatype": "BYTES", "categories": ("a", "b", "a")}, "twice"),
        ({"name": "x", "datatype": "BYTES", "range": (0, 1)}, "numeric datatype"),
        ({"name": "x", "datatype": "BOOL", "range": (0, 1)}, "numeric datatype"),
        ({"name": "x", "datatype": "FP32", "range": (1, 0)}, "ascending"),
        ({"name": "x", "datatype": "FP32", "range": (0, float("nan"))}, "ascending"),
        ({"name": "x", "datatype": "FP32", "range": (0, 1e39)}, "ascending"),
        ({"name": "x", "datatype": "UINT8", "range": (0, 256)}, "ascending, from 0 to 255"),
        ({"name": "x", "datatype": "UINT8", "range": (-1, 255)}, "ascending, from 0 to 255"),
        ({"name": "x", "datatype": "INT32", "range": (0.5, 3)}, "whole numbers"),
        ({"name": "x", "datatype": "FP32", "timestamp": True}, "a timestamp needs shape [-1], and INT64 or FP64"),
        ({"name": "x", "datatype": "FP64", "shape": (-1, 2), "timestamp": True}, "a timestamp needs shape [-1]"),
        ({"name": "x", "datatype": "INT64", "timestamp": True, "range": (0, 1e12)}, "to 253402300799.0"),
        ({"name": "x", "datatype": "FP32", "default": 1.0}, "a default needs nullable: true"),
        (
            {"name": "x", "datatype": "INT64", "nullable": True},
            "needs shape [-1], and BYTES, FP16, FP32, FP64 or BF16",
        ),
        ({"name": "x", "datatype": "FP32", "shape": (-1, 2), "nullable": True}, "needs shape [-1]"),
        ({"name": "x", "datatype": "BYTES", "categories": ("a",), "nullable": True}, "one of them, not None"),
        (
            {"name": "x", "datatype": "BYTES", "nullable": True},
            "a nullable text needs a default that is one, such as ''",
        ),
        ({"name": "x", "datatype": "BYTES", "nullable": True, "default": 3.0}, "that is one, such as '', not 3.0"),
        ({"name": "x", "datatype": "BYTES", "shape": (-1, 2), "nullable": True, "default": ""}, "needs shape [-1]"),
        ({"name": "x", "datatype": "FP16", "nullable": True, "default": 1e5}, "default 100000.0 is no number of FP16"),
        ({"name": "x", "datatype": "FP32", "nullable": True, "default": "a"}, "default 'a' is no number of FP32"),
    ],
)
def test_a_tensor_that_makes_no_sense_is_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        TensorSpec(**spec)


def test_two_inputs_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="distinct"):
        contract(TensorSpec("x", "FP32"), TensorSpec("x", "INT64"))


def test_a_model_without_inputs_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        contract()


@pytest.mark.parametrize("size", [-1, 0])
def test_a_size_of_an_input_varies_only_up_to_a_largest(size: int) -> None:
    with pytest.raises(ValueError, match="x varies in size without a max_shape"):
        contract(TensorSpec("x", "FP32", (-1, 3, size)))


@pytest.mark.parametrize("most", [(-1, 3), (-1, 4, 9), (9, 3, 9), (-1, 3, 0), (-1, 3, -1)])
def test_the_largest_shape_is_the_shape_with_sizes_for_those_that_vary(most: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"max_shape .* must be \[-1, 3, -1\]"):
        TensorSpec("x", "FP32", (-1, 3, -1), max_shape=most)
    assert TensorSpec("x", "FP32", (-1, 3, -1), max_shape=(-1, 3, 9)).largest == (3, 9)


def test_each_size_has_the_name_of_an_axis_or_none_has() -> None:
    with pytest.raises(ValueError, match=r"axes \['batch'\] must name each of \[-1, 3\]"):
        TensorSpec("x", "FP32", (-1, 3), axes=("batch",))


def test_tensors_have_outputs_each_once() -> None:
    for names in ((), ("y", "y")):
        outputs = tuple(TensorSpec(name, "FP32") for name in names)
        with pytest.raises(ValueError, match="outputs .* must be distinct and at least one"):
            msgspec.structs.replace(LINE, task="tensors", outputs=outputs)


def test_a_classification_has_labels() -> None:
    with pytest.raises(ValueError, match="labels"):
        msgspec.structs.replace(PICTURES, labels=())


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"version": 1}, "$.version"),
        ({"task": "guessing"}, "$.task"),
        ({"colour": "red"}, "colour"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "sise": 3}]}, "$.inputs[0]"),
        ({"inputs": [{"name": "x", "datatype": "FP99"}]}, "FP99"),
    ],
)
def test_a_text_that_is_no_contract_is_refused_with_the_path_of_the_fault(change: dict[str, Any], path: str) -> None:
    text = msgspec.json.encode(msgspec.to_builtins(LINE) | change)
    with pytest.raises(ValueError, match=re.escape(path)):
        ModelContract.from_json(text)


def test_tensors_with_labels_are_entities_of_which_the_graph_has_probabilities() -> None:
    with pytest.raises(ValueError, match=r"tensors with labels have the outputs \['entity_group', .*\], not \['y'\]"):
        msgspec.structs.replace(LINE, task="tensors", labels=("O", "PER"))
    entities = msgspec.structs.replace(LINE, task="tensors", labels=("O", "PER"), outputs=entity_outputs())
    assert (entities.graph_outputs, entities.most_classes, entities.format) == (("probabilities",), 1, 2)
    assert (PICTURES.graph_outputs, PICTURES.most_classes) == (("probabilities",), 4)


def test_only_a_contract_with_nullable_inputs_timestamps_or_entities_says_a_format() -> None:
    assert b"format" not in LINE.to_json()
    assert b"nullable" not in LINE.to_json()
    assert b"default" not in LINE.to_json()
    for spec in (TensorSpec("x", "FP32", nullable=True), TensorSpec("x", "INT64", timestamp=True)):
        assert msgspec.json.decode(contract(spec).to_json())["format"] == 2


def test_a_contract_of_a_newer_format_is_refused_with_the_way_out() -> None:
    text = msgspec.json.encode(msgspec.to_builtins(LINE) | {"format": FORMAT + 1, "something": "new"})
    with pytest.raises(ValueError, match=r"contract of 'line' has format 4, and this Marloop reads up to 3: update"):
        ModelContract.from_json(text)
    with pytest.raises(ValueError, match="format 0 must be from 1 to 3"):
        msgspec.structs.replace(LINE, format=0)


def test_an_output_is_never_missing() -> None:
    with pytest.raises(ValueError, match="the output y cannot be nullable"):
        contract(TensorSpec("x", "FP32"), output=TensorSpec("y", "FP32", nullable=True))


def test_a_text_that_is_no_json_is_no_contract() -> None:
    with pytest.raises(ValueError, match="not a contract"):
        ModelContract.from_json(b"{")


def test_rows_are_named_unless_the_only_input_is_an_array() -> None:
    assert FLIGHTS.has_named_rows
    assert LINE.has_named_rows
    assert not PICTURES.has_named_rows


def test_a_classifiers_graph_computes_only_the_probabilities() -> None:
    assert PICTURES.graph_outputs == ("probabilities",)
    assert LINE.graph_outputs == ("y",)


def test_a_classifier_answers_with_labels_and_every_probability() -> None:
    assert [(spec.name, spec.datatype, spec.shape) for spec in classification_outputs(4)] == [
        ("label", "BYTES", (-1, -1)),
        ("index", "INT64", (-1, -1)),
        ("probability", "FP32", (-1, -1)),
        ("probabilities", "FP32", (-1, 4)),
    ]


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name not in ("BYTES", "BOOL", "BF16")])
def test_a_datatypes_number_is_its_size_in_bits(datatype: str) -> None:
    dtype = np.dtype(TensorSpec("x", datatype).dtype)
    assert dtype.itemsize * 8 == int(datatype.lstrip("UINTFP"))
    assert {"F": "f", "I": "i", "U": "u"}[datatype[0]] == dtype.kind


def test_the_graph_takes_the_index_of_a_category() -> None:
    carrier = FLIGHTS.inputs[2]
    assert carrier.graph_dtype == np.int64
    assert carrier.dtype == object


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (TensorSpec("x", "FP32"), "number"),
        (TensorSpec("x", "BOOL"), "boolean"),
        (TensorSpec("x", "BYTES"), "string"),
        (TensorSpec("x", "BYTES", nullable=True, default=""), "string, or null"),
        (TensorSpec("x", "UINT8", range=(1, 9)), "integer from 1 to 9"),
        (FLIGHTS.inputs[0], "number from 17 to 4983 (miles)"),
        (FLIGHTS.inputs[2], "one of 5 categories"),
        (TensorSpec("x", "FP32", range=(1, 9), nullable=True), "number from 1 to 9, or null"),
        (TensorSpec("x", "INT64", timestamp=True), "time with its zone, such as 2013-03-01T10:00:00Z"),
        (
            TensorSpec("x", "INT64", timestamp=True, range=(0, 1)),
            "time with its zone, such as 2013-03-01T10:00:00Z from 1970-01-01T00:00:00Z to 1970-01-01T00:00:01Z",
        ),
        (COLOURS.inputs[0], "array of shape [6, 6, 3], each value: integer"),
    ],
)
def test_a_value_is_described_in_words(spec: TensorSpec, words: str) -> None:
    assert spec.describe() == words
