"""LightGBM: a file of ``save_model``, or an estimator of its own, becomes an ONNX graph by onnxmltools."""

import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from handlers.contract import Array
from training.bring.files.trees import Trees, library
from training.bring.graph import BringError, first_line

VERSIONS = ("v2", "v3", "v4")  # of the format
# What a model's text says of trees that the converter takes for others.
REFUSED = {"average_output": "a random forest (boosting=rf)", "is_linear=1": "linear models in its leaves"}
VALUES = ("mape", "fair")  # objectives that answer the sum of the leaves, as `regression` does, which converts


def read(path: Path) -> Trees:
    """Read a ``.txt``.

    Raises:
        BringError: LightGBM is not installed, cannot read it, or it does not convert.
    """
    library("lightgbm", path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BringError(f"{path} is no text, as models of LightGBM are") from error
    _check_text(path, text)
    return of_booster(path, _booster(path, text))


def of_estimator(path: Path, model: Any) -> Trees:
    """Convert an unpickled booster or estimator; errors as of ``read``."""
    return of_booster(path, getattr(model, "booster_", model), getattr(model, "classes_", ()))


def of_booster(path: Path, booster: Any, classes: Any = ()) -> Trees:
    """Convert trees.

    Args:
        classes: what they answer; empty for those of a booster, which numbers them.

    Raises:
        BringError: they are of a kind that does not convert; says which.
    """
    text = booster.model_to_string()
    for line, kind in REFUSED.items():
        if f"\n{line}\n" in text:
            raise BringError(f"{path} does not convert: it has {kind}")
    if booster.pandas_categorical:
        raise BringError(f"{path} was trained on pandas' categories, which do not convert: give it numbers for them")
    tools = library("onnxmltools", path)
    types = library("onnxmltools.convert.common.data_types", path)
    columns = booster.num_feature()
    objective = (re.findall(r"\nobjective=([^\n]*)", text) or ["custom"])[0]
    shape = types.FloatTensorType([None, columns])
    try:
        graph = tools.convert_lightgbm(_booster(path, rounded(text)), initial_types=[("X", shape)], zipmap=False)
    except BringError:
        raise
    except Exception as error:  # of any part of the converter
        raise BringError(f"{path} (objective {objective}) does not convert to ONNX: {first_line(error)}") from error
    labels = tuple(map(str, classes)) or _labels(objective)
    names = tuple(booster.feature_name())
    names = () if names == tuple(f"Column_{i}" for i in range(columns)) else names

    def predict(rows: Array) -> Array:
        answers = np.asarray(booster.predict(rows))
        return np.stack([1 - answers, answers], 1) if labels and answers.ndim == 1 else answers

    return Trees(f"LightGBM's {objective}", graph, predict, columns, names, labels)


def rounded(text: str) -> str:
    """Return a model's text with thresholds of FP32 that tell numbers of FP32 apart as those of FP64 do.

    ``x <= t`` of an ``x`` of FP32 is ``x <= s``, where ``s`` is the largest number of FP32 up to ``t``.
    """
    text = re.sub(rf"(\n|\n\[)objective(=|: )({'|'.join(VALUES)})\b", r"\1objective\2regression", text)
    return re.sub(r"(?<=\nthreshold=)[^\n]+", lambda line: " ".join(map(_down, line[0].split())), text)


def plain(model: Any) -> SimpleNamespace:
    """Return what the converter reads of an estimator, with rounded thresholds."""
    booster = _booster(Path("model"), rounded(model.booster_.model_to_string()))
    return SimpleNamespace(booster_=booster, classes_=getattr(model, "classes_", ()), boosting_type=model.boosting_type)


def _down(number: str) -> str:
    exact = float(number)
    with np.errstate(over="ignore"):
        near = np.float32(exact)
    return repr(float(np.nextafter(near, np.float32(-np.inf)) if float(near) > exact else near))


def _booster(path: Path, text: str) -> Any:
    """Read a model's text, one tree after another: threads that find a fault would end the process."""
    import lightgbm

    logger = logging.getLogger("lightgbm")
    logger.setLevel(logging.CRITICAL)
    lightgbm.register_logger(logger)
    try:
        return lightgbm.Booster(model_str=re.sub(r"\ntree_sizes=[^\n]*", "", text))
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        raise BringError(f"{path} is no model of LightGBM {lightgbm.__version__}: {first_line(error)}") from error


def _check_text(path: Path, text: str) -> None:
    """Raise if the text is none of a whole model of a version that LightGBM reads."""
    if not text.startswith("tree\n"):
        raise BringError(f"{path} is no model of LightGBM: its first line is not `tree`")
    version = (re.findall(r"\nversion=([^\n]*)", text) or ["v2"])[0]
    if version not in VERSIONS:
        raise BringError(f"{path} has the format {version} of LightGBM; {', '.join(VERSIONS)} can be imported")
    sizes = re.findall(r"\ntree_sizes=([^\n]*)", text)
    trees = len(re.findall(r"\nTree=\d", text))
    if "\nend of trees" not in text or (sizes and len(sizes[0].split()) != trees):
        raise BringError(f"{path} is cut off: it has {trees} trees, and not the end that LightGBM writes")


def _labels(objective: str) -> tuple[str, ...]:
    """Return the numbers of the classes."""
    if objective.startswith("binary"):
        return "0", "1"
    classes = re.findall(r"^multiclass\w* num_class:(\d+)", objective)
    return tuple(map(str, range(int(classes[0])))) if classes else ()
