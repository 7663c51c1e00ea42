"""Files and estimators of XGBoost, LightGBM and CatBoost, each by the reader of its library."""

import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from training.bring.files import catboost_trees, lightgbm_trees, xgboost_trees
from training.bring.files.trees import OPSET, Trees, brought, library
from training.bring.graph import BringError, Brought

FILES: dict[str, Callable[[Path], Trees]] = {
    "xgboost": xgboost_trees.read,
    "lightgbm": lightgbm_trees.read,
    "catboost": catboost_trees.read,
}
OPSETS = {"": OPSET, "ai.onnx.ml": 3}  # that onnxmltools writes
SEPARATOR = "\x1f"  # before the error that a child prints
SPACE, TIMES = 4 << 30, 100  # bytes of memory that reading may take, and as many again for each byte of a file
# A child reads a file first: one that is damaged can end the process that reads it, or take all memory.
PROGRAM = """
import importlib, pathlib, sys
from training.bring.files import boosted
from training.bring.graph import BringError
kind, path = sys.argv[1], pathlib.Path(sys.argv[2])
try:
    importlib.import_module(kind)
except ImportError:
    pass
boosted.limit_memory(path)
try:
    boosted.FILES[kind](path)
except BringError as error:
    print(boosted.SEPARATOR, error, sep="", end="")
"""
ESTIMATORS: dict[str, Callable[[Path, Any], Trees]] = {
    "xgboost": xgboost_trees.of_estimator,
    "lightgbm": lightgbm_trees.of_estimator,
    "catboost": catboost_trees.of_estimator,
}


def read(path: Path, kind: str, data: Path | None) -> Brought:
    """Read a file that a library wrote.

    Args:
        kind: name of the library.
        data: rows, whose numbers FP32 must tell apart as the trees do.

    Raises:
        BringError: it cannot be read, or does not convert with parity; says why.
    """
    _check_by_child(path, kind)
    return convert(path, kind, data)


def convert(path: Path, kind: str, data: Path | None = None) -> Brought:
    """Convert a file that does not end this process; else as ``read``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return brought(path, FILES[kind](path), data)


def library_of(model: Any) -> str:
    """Return the name of the library of an estimator or booster; empty for another one."""
    name = type(model).__module__.partition(".")[0]
    return name if name in ESTIMATORS else ""


def of_estimator(path: Path, model: Any, data: Path | None) -> Brought:
    """Convert an unpickled estimator or booster; errors as of ``read``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return brought(path, ESTIMATORS[library_of(model)](path, model), data)


def limit_memory(path: Path) -> None:
    """Let this process take no more memory than reading a file needs: XGBoost asks for all where one was cut off."""
    used = psutil.Process().memory_info().vms
    limit = used + SPACE + TIMES * path.stat().st_size
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _check_by_child(path: Path, kind: str) -> None:
    """Raise what a child raises when it reads a file, or that this ends it."""
    command = [sys.executable, "-c", PROGRAM, kind, str(path)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    error = child.stdout.partition(SEPARATOR)[2]
    if "bad_alloc" in error or "MemoryError" in child.stderr:
        raise BringError(f"{path} is damaged: {kind} asks for more memory than such a file can need when it reads it")
    if error:
        raise BringError(error)
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        raise BringError(f"{path} is damaged: {kind} ends with {name} when it reads it")


def register_converters(path: Path) -> dict[str, int] | None:
    """Teach skl2onnx to convert the estimators that a pipeline has brought along.

    Returns:
        The versions of operators that their converters write; None where there are no such estimators.

    Raises:
        BringError: the package that converts them is not installed.
    """
    options = {"nocl": [True, False], "zipmap": [True, False, "columns"], "raw_scores": [True, False]}
    opsets = None
    for name, convert in (("xgboost", _convert_xgboost), ("lightgbm", _convert_lightgbm)):
        if name not in sys.modules:
            continue
        opsets = OPSETS
        library("onnxmltools", path)
        from skl2onnx import update_registered_converter
        from skl2onnx.common import shape_calculator

        module, prefix = sys.modules[name], "XGB" if name == "xgboost" else "LGBM"
        kinds = {
            "Classifier": (shape_calculator.calculate_linear_classifier_output_shapes, options),
            "Regressor": (shape_calculator.calculate_linear_regressor_output_shapes, None),
        }
        for suffix, (shapes, known) in kinds.items():
            kind = getattr(module, prefix + suffix)
            update_registered_converter(kind, f"Marloop{prefix}{suffix}", shapes, convert, options=known)
    return opsets


def _convert_xgboost(scope: Any, operator: Any, container: Any) -> None:
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

    operator.raw_operator = xgboost_trees.plain(operator.raw_operator.get_booster(), operator.raw_operator.objective)
    convert_xgboost(scope, operator, container)


def _convert_lightgbm(scope: Any, operator: Any, container: Any) -> None:
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

    operator.raw_operator = lightgbm_trees.plain(operator.raw_operator)
    convert_lightgbm(scope, operator, container)
