"""scikit-learn: an estimator or a pipeline in a file of skops, joblib or pickle becomes an ONNX graph."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from handlers.contract import Array
from serving.registry import file_sha256
from training.bring.files import boosted
from training.bring.files.trees import EXTRAS
from training.bring.graph import BringError, Brought, first_line, inputs_of, port_of
from training.bring.table import read_table
from training.data import install

PICKLES = (".joblib", ".pkl", ".pickle")
MATRIX = "X"  # the input of an estimator that was fitted without names


class SklearnOriginal:
    """An estimator that answers for its file.

    Args:
        columns: names that it was fitted with, by the graph's inputs; empty for a matrix.
    """

    def __init__(self, model: Any, columns: Mapping[str, str]) -> None:
        self._model, self._columns = model, columns

    def run(self, tensors: Mapping[str, Array]) -> list[Array]:
        """Compute the outputs, in the graph's order: labels and probabilities, or values.

        Raises:
            BringError: the estimator refuses these values.
        """
        import pandas

        rows: Any = tensors.get(MATRIX)
        if self._columns:
            rows = pandas.DataFrame({name: tensors[port].reshape(-1) for port, name in self._columns.items()})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answers = np.asarray(self._model.predict(rows))
                if is_classifier(self._model):
                    labels = answers.astype(str).astype(object) if answers.dtype.kind in "OU" else answers
                    return [labels, np.asarray(self._model.predict_proba(rows), np.float32)]
        except Exception as error:  # an estimator raises what its parts do
            raise BringError(f"the estimator cannot compute these values: {first_line(error)}") from error
        return [answers.reshape(len(answers), -1).astype(np.float32)]


def read(
    path: Path, example: Path | None, data: Path | None, trust: bool, columns: Mapping[str, str] | None = None
) -> Brought:
    """Read an estimator, and convert it.

    Args:
        example: a row, which tells strings from numbers where neither ``columns`` nor ``data`` do.
        columns: NumPy's kinds of the columns, where something beside the file says them.

    Raises:
        BringError: a package is missing, code in the file is not trusted, or the estimator does not convert; says why.
    """
    try:
        import skl2onnx
        import skops.io
    except ImportError as error:
        raise BringError(f"{path}: to convert scikit-learn, {install('import')}") from error
    model = _load(path, trust, skops.io)
    if boosted.library_of(model):
        return boosted.of_estimator(path, model, data)
    opsets = boosted.register_converters(path)
    if not hasattr(model, "predict"):
        raise BringError(f"{path} holds a {type(model).__name__}, which predicts nothing")
    if is_classifier(model) and not hasattr(model, "predict_proba"):
        raise BringError(f"{path}: {type(model).__name__} has no predict_proba; CalibratedClassifierCV gives it one")
    names = [str(name) for name in getattr(model, "feature_names_in_", ())]
    try:
        options = {id(model): {"zipmap": False}} if is_classifier(model) else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            known = columns or {}
            kinds = known if known.keys() >= set(names) else _kinds(path, names, example, data)
            types = _types(model, names, kinds)
            graph = skl2onnx.to_onnx(model, initial_types=types, options=options, target_opset=opsets)
    except BringError:
        raise
    except Exception as error:  # of the converter of any part
        raise BringError(f"{path} does not convert to ONNX: {first_line(error)}") from error
    outputs = tuple(port_of(value) for value in graph.graph.output)
    labels = tuple(map(str, model.classes_)) if is_classifier(model) else ()
    inputs = inputs_of(graph)
    columns = {port.name: name for port, name in zip(inputs, names, strict=False)}  # the converter changes names
    original = SklearnOriginal(model, columns)
    kind = f"scikit-learn's {type(model).__name__}"
    aliases = {name: port for port, name in columns.items()}
    return Brought(
        path.name, kind, file_sha256(path), graph, inputs, outputs, labels, original=original, aliases=aliases
    )


def is_classifier(model: Any) -> bool:
    """Tell whether an estimator answers classes."""
    from sklearn.base import is_classifier

    return bool(is_classifier(model))


def _load(path: Path, trust: bool, skops: Any) -> Any:
    if path.suffix in PICKLES and not trust:
        raise BringError(
            f"{path} is a pickle: reading it runs its code. --trust allows that; skops.io.dump writes a file without"
        )
    try:
        if path.suffix in PICKLES:
            import joblib

            return joblib.load(path)
        unknown = skops.get_untrusted_types(file=path)
        if unknown and not trust:
            raise BringError(f"{path} holds {', '.join(unknown)}, whose code would run: --trust allows that")
        return skops.load(path, trusted=unknown)
    except BringError:
        raise
    except Exception as error:  # unpickling raises anything
        lacks = error.name if isinstance(error, ModuleNotFoundError) else None
        way = f"; {install(EXTRAS[lacks])}" if lacks in EXTRAS else ""
        raise BringError(f"{path} cannot be read: {type(error).__name__}: {first_line(error)}{way}") from error


def _types(model: Any, columns: Sequence[str], known: Mapping[str, str]) -> list[Any]:
    """Return the graph's inputs: a column each, of strings or numbers, or a matrix of numbers."""
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    if not columns:
        return [(MATRIX, FloatTensorType([None, int(model.n_features_in_)]))]
    kinds = {"O": StringTensorType, "i": Int64TensorType}
    return [(name, kinds.get(known[name], FloatTensorType)([None, 1])) for name in columns]


def _kinds(path: Path, columns: Sequence[str], example: Path | None, data: Path | None) -> dict[str, str]:
    """Return NumPy's kind of each column, from the data, else from the example, whose numbers are FP32."""
    if not columns:
        return {}
    if data is not None:
        frame = read_table(data).raw
        if missing := [name for name in columns if name not in frame.columns]:
            raise BringError(f"{data} lacks the column {missing[0]!r} that {path} was fitted with")
        kinds = {name: frame[name].dtype.kind for name in columns}
        return {name: kind if kind in "if" else "O" for name, kind in kinds.items()}
    if example is None:
        raise BringError(f"{path} was fitted with names: --example or --data must tell which of them are strings")
    try:
        row = msgspec.json.decode(example.read_bytes(), type=dict[str, Any])
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise BringError(f"{example} cannot be read: {error}") from error
    if missing := [name for name in columns if name not in row]:
        raise BringError(f"{example} lacks {missing[0]!r}; the estimator was fitted with {', '.join(columns)}")
    return {name: "O" if isinstance(row[name], str) else "f" for name in columns}
