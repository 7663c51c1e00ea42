"""scikit-learn: an estimator or a pipeline in a file of skops, joblib or pickle becomes an ONNX graph.

What skl2onnx does not convert is served as it is.
"""

import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto

from handlers.contract import Array
from handlers.engine.isolated import predicted
from serving.archive import JOBLIB, SKOPS
from serving.registry import file_sha256
from training.bring.files import boosted
from training.bring.files.trees import EXTRAS
from training.bring.graph import AsItIs, BringError, Brought, Port, first_line, inputs_of, port_of
from training.bring.table import read_table
from training.data import install
from training.packaging.contents import PACKAGES

PICKLES = (".joblib", ".pkl", ".pickle")
COST = (
    "scikit-learn serves it as it is, in a process of its own beside each worker (some 150 MB of memory); "
    "rows take longer"
)
MATRIX = "X"  # the input of an estimator that was fitted without names


class SklearnOriginal:
    """An estimator that answers for its file.

    Args:
        inputs: names of its columns, or of its matrix, in order.
    """

    def __init__(self, model: Any, inputs: Sequence[str]) -> None:
        self._model, self._inputs = model, inputs

    def run(self, tensors: Mapping[str, Array]) -> list[Array]:
        """Compute the outputs, in the graph's order: labels and probabilities, or values.

        Raises:
            BringError: the estimator refuses these values.
        """
        try:
            return predicted(self._model, [tensors[name] for name in self._inputs])
        except Exception as error:  # an estimator raises what its parts do
            raise BringError(f"the estimator cannot compute these values: {first_line(error)}") from error


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
    if not names and not hasattr(model, "n_features_in_"):
        raise BringError(f"{path}: {type(model).__name__} does not say how many columns it takes (n_features_in_)")
    known = columns or {}
    kinds = known if known.keys() >= set(names) else _kinds(path, names, example, data)
    picked = names if "O" in kinds.values() or _picks_columns(model) else []
    notes: tuple[str, ...] = ()
    try:
        options = {id(model): {"zipmap": False}} if is_classifier(model) else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            types = _types(model, picked, kinds)
            graph = skl2onnx.to_onnx(model, initial_types=types, options=options, target_opset=opsets)
        inputs, outputs = inputs_of(graph), tuple(port_of(value) for value in graph.graph.output)
    except Exception as error:  # of the converter of any part
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        graph, notes = None, (f"it does not convert to ONNX ({first_line(cause)}): {COST}",)
        inputs, outputs = _ports(model, picked, kinds)
    ports = tuple(port.name for port in inputs)
    results = tuple(port.name for port in outputs)
    file = SKOPS if path.suffix == ".skops" else JOBLIB
    trusted = tuple(skops.io.get_untrusted_types(file=path)) if file == SKOPS else ()
    as_it_is = AsItIs("python", path, file, ports, results, _packages(model, file, names), COST, trusted)
    return Brought(
        path.name,
        f"scikit-learn's {type(model).__name__}",
        file_sha256(path),
        graph,
        inputs,
        outputs,
        tuple(map(str, model.classes_)) if is_classifier(model) else (),
        notes,
        SklearnOriginal(model, ports),
        aliases=dict(zip(picked, ports, strict=False)),  # the converter changes names
        columns=() if picked else tuple(names),
        as_it_is=as_it_is,
    )


def _ports(model: Any, columns: Sequence[str], kinds: Mapping[str, str]) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Return inputs and outputs of an estimator as skl2onnx would make them."""
    numbers = {"O": TensorProto.STRING, "i": TensorProto.INT64}
    inputs = [Port(name, numbers.get(kinds[name], TensorProto.FLOAT), ("batch", 1)) for name in columns]
    matrix = Port(MATRIX, TensorProto.FLOAT, ("batch", int(model.n_features_in_)))
    if not is_classifier(model):
        return tuple(inputs or [matrix]), (Port("variable", TensorProto.FLOAT, ("batch", None)),)
    label = TensorProto.STRING if np.asarray(model.classes_).dtype.kind in "OU" else TensorProto.INT64
    scores = Port("probabilities", TensorProto.FLOAT, ("batch", len(model.classes_)))
    return tuple(inputs or [matrix]), (Port("label", label, ("batch",)), scores)


def _picks_columns(model: Any) -> bool:
    """Tell whether a step of a pipeline takes columns by their names; else numbers are one matrix."""
    return any(hasattr(step, "transformers") for _, step in getattr(model, "steps", ()))


def _packages(model: Any, file: str, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the packages that a worker needs to run an estimator: those of its parts' classes, and of its file."""
    parts = model.get_params(deep=True).values() if hasattr(model, "get_params") else ()
    modules = {type(part).__module__.partition(".")[0] for part in (model, *parts)}
    owners = packages_distributions()
    needed = {owners[module][0] for module in modules if module in owners}
    needed |= {"scikit-learn", "skops" if file == SKOPS else "joblib", *(("pandas",) if columns else ())}
    return tuple(sorted(needed - {*PACKAGES}))


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
