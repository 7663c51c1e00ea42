"""Boosted trees: what the readers of XGBoost, LightGBM and CatBoost share, and the comparison at the thresholds."""

import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from handlers.contract import Array
from serving.registry import file_sha256
from training.bring.feeds import identifier
from training.bring.files.onnx_file import without_maps
from training.bring.graph import OPSETS, BringError, Brought, Session, first_line, inputs_of, port_of
from training.bring.table import read_table
from training.data import install
from training.packaging.parity import TOLERANCE

PROBES = 2_000  # rows at the thresholds that the graph is compared on
TINY = 1e-30  # numbers that LightGBM takes for zero are far smaller
EXTRAS = {
    "xgboost": "import-trees",
    "lightgbm": "import-trees",
    "onnxmltools": "import-trees",
    "catboost": "import-catboost",
}
OPSET = 17  # of a graph that has operators of trees alone
Predict = Callable[[Array], Array]


@dataclass(frozen=True)
class Trees:
    """Trees in their library, and the graph that a converter made of them.

    Attributes:
        kind: the library and the objective.
        graph: of one matrix; its last output is the answer.
        predict: compute values ``(n,)``, or probabilities ``(n, classes)``, from a matrix.
        columns: of the matrix.
        names: of the columns; empty where the library numbers them.
        labels: class names; empty for values.
    """

    kind: str
    graph: onnx.ModelProto
    predict: Predict
    columns: int
    names: tuple[str, ...]
    labels: tuple[str, ...]


class TreesOriginal:
    """Trees that answer for their file."""

    def __init__(self, predict: Predict) -> None:
        self._predict = predict

    def run(self, tensors: Mapping[str, Array]) -> list[Array]:
        """Compute the only output from the only input.

        Raises:
            BringError: the library refuses these values.
        """
        (rows,) = tensors.values()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answers = np.asarray(self._predict(rows), np.float32)
        except Exception as error:  # each library has classes of its own
            raise BringError(f"the trees cannot compute these values: {first_line(error)}") from error
        return [answers if answers.ndim == 2 else answers.reshape(-1, 1)]


def library(name: str, path: Path) -> Any:
    """Import the library that reads a file.

    Raises:
        BringError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BringError(f"{path}: to read it, {install(EXTRAS[name.split('.')[0]])}") from error


def brought(path: Path, trees: Trees, data: Path | None) -> Brought:
    """Return what is imported, after a comparison of both at the thresholds.

    Raises:
        BringError: the graph answers otherwise than the library.
    """
    graph = _of_one_output(trees)
    original = TreesOriginal(trees.predict)
    rows = probes(graph, trees.columns)
    try:
        gap = _gap(graph, original, rows)
    except BringError as error:
        raise BringError(f"{path} ({trees.kind}) does not convert: {error}") from error
    if not gap <= TOLERANCE:
        raise BringError(
            f"{path} does not convert: close to its thresholds the graph differs by {gap:.3g} from {trees.kind}, "
            f"more than {TOLERANCE:g}; nothing is registered"
        )
    notes = [f"the graph and the file differ by {gap:.1g} at most on {PROBES:,} rows at the thresholds"]
    rows[np.random.default_rng(1).random(rows.shape) < 0.2] = np.nan
    try:
        if not _gap(graph, original, rows) <= TOLERANCE:
            notes.append("a missing value (NaN) is answered otherwise than by the file: let no input be nullable")
    except BringError as error:
        notes.append(f"no input may be nullable: {error}")
    if data is not None:
        _check_precision(trees, data)
    outputs = tuple(port_of(value) for value in graph.graph.output)
    return Brought(
        path.name,
        trees.kind,
        file_sha256(path),
        graph,
        inputs_of(graph),
        outputs,
        trees.labels,
        tuple(notes),
        original=original,
        columns=trees.names,
    )


def probes(graph: onnx.ModelProto, columns: int) -> Array:
    """Return rows whose numbers are thresholds of the trees, and the next smaller and larger numbers of FP32."""
    rng = np.random.default_rng(0)
    rows = np.zeros((PROBES, columns), np.float32)
    for column, (values, is_category) in _thresholds(graph).items():
        near = [values, values + 1] if is_category else [values, *(np.nextafter(values, s * np.inf) for s in _SIGNS)]
        numbers = np.concatenate([[0], *near]).astype(np.float32)
        numbers[np.abs(numbers) < TINY] = 0
        rows[:, column] = rng.choice(numbers, PROBES)
    return rows


_SIGNS = np.float32(-1), np.float32(1)


def _thresholds(graph: onnx.ModelProto) -> dict[int, tuple[Array, bool]]:
    """Return the thresholds by column, and whether they are categories: whole numbers that a value equals or not."""
    found: dict[int, list[tuple[float, bool]]] = {}
    for node in graph.graph.node:
        if node.op_type in ("TreeEnsembleClassifier", "TreeEnsembleRegressor"):
            attributes = {attribute.name: attribute for attribute in node.attribute}
            columns, modes = attributes["nodes_featureids"].ints, attributes["nodes_modes"].strings
            for column, value, mode in zip(columns, attributes["nodes_values"].floats, modes, strict=True):
                if mode != b"LEAF":
                    found.setdefault(column, []).append((value, mode == b"BRANCH_EQ"))
    return {
        column: (np.unique(np.array([value for value, _ in pairs], np.float32)), all(equal for _, equal in pairs))
        for column, pairs in found.items()
    }


def _gap(graph: onnx.ModelProto, original: TreesOriginal, rows: Array) -> float:
    """Return the largest difference, relative to the largest answer over 1: FP32 rounds sums of large leaves."""
    (expected,) = original.run({"X": rows})
    (answers,) = Session(graph).run({graph.graph.input[0].name: rows})
    if answers.shape != expected.shape or not np.isfinite(answers).all():
        return np.inf
    scale = max(1.0, float(np.abs(expected).max()))
    return float(np.abs(answers.astype(np.float64) - expected).max()) / scale


def _check_precision(trees: Trees, data: Path) -> None:
    """Raise if an answer depends on digits of the data that FP32, the graph's datatype, does not hold."""
    frame, taken = read_table(data).frame, set[str]()
    names = [identifier(name, taken) for name in trees.names] or list(frame.columns)[: trees.columns]
    try:
        rows = frame[names].to_numpy(np.float64)
    except (KeyError, TypeError, ValueError):  # the contract's reader names the column
        return
    exact, rounded = (np.asarray(trees.predict(values)) for values in (rows, rows.astype(np.float32)))
    scale = max(1.0, float(np.abs(exact).max()))
    gaps = np.abs(exact - rounded).reshape(len(rows), -1).max(1) / scale
    if not gaps.max() <= TOLERANCE:
        raise BringError(
            f"{data}: the answer to row {int(gaps.argmax())} changes by {gaps.max():.3g} where its numbers are rounded "
            "to FP32, the datatype of the graph: train with smaller numbers, as days since a date"
        )


def _of_one_output(trees: Trees) -> onnx.ModelProto:
    """Return the graph with sizes that are true, and without the predicted class."""
    graph = onnx.ModelProto()
    graph.CopyFrom(trees.graph)
    without_maps(graph)
    if not any(entry.domain in OPSETS for entry in graph.opset_import):
        graph.opset_import.append(helper.make_opsetid("", OPSET))
    source, name = graph.graph.output[-1].name, "probabilities" if trees.labels else "value"
    if source != name:
        graph.graph.node.append(helper.make_node("Identity", [source], [name]))
    (port,) = inputs_of(graph)
    del graph.graph.input[:], graph.graph.output[:], graph.graph.value_info[:]
    matrix = helper.make_tensor_value_info(port.name, TensorProto.FLOAT, ["batch", trees.columns])
    answers = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", len(trees.labels) or 1])
    graph.graph.input.append(matrix)
    graph.graph.output.append(answers)
    return graph
