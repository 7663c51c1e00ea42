"""XGBoost: a file of ``save_model``, or an estimator of its own, becomes an ONNX graph by onnxmltools."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from training.bring.files.trees import Trees, library
from training.bring.graph import BringError, first_line


def read(path: Path) -> Trees:
    """Read a ``.json`` or ``.ubj``.

    Raises:
        BringError: XGBoost is not installed, cannot read it, or it does not convert.
    """
    xgboost = library("xgboost", path)
    _check_version(path, xgboost)
    try:
        booster = xgboost.Booster(model_file=str(path))
    except xgboost.core.XGBoostError as error:
        raise BringError(f"{path} is no model of XGBoost {xgboost.__version__}: {_reason(error)}") from error
    return of_booster(path, booster)


def of_estimator(path: Path, model: Any) -> Trees:
    """Convert an unpickled booster or estimator; errors as of ``read``."""
    missing = getattr(model, "missing", None)
    if missing is not None and not np.isnan(missing):
        raise BringError(f"{path} takes {missing} for a missing value, and its graph would not: train with missing=nan")
    return of_booster(path, model.get_booster() if hasattr(model, "get_booster") else model)


def of_booster(path: Path, booster: Any) -> Trees:
    """Convert trees.

    Raises:
        BringError: they are of a kind that does not convert; says which.
    """
    learner = json.loads(booster.save_config())["learner"]
    kind, objective = learner["gradient_booster"]["name"], learner["objective"]["name"]
    if kind != "gbtree":
        raise BringError(f"{path} holds the booster {kind}; trees of gbtree alone convert")
    if "c" in (booster.feature_types or ()):
        raise BringError(
            f"{path} was trained on categories, which do not convert: encode them in a scikit-learn pipeline"
        )
    model = plain(booster, objective)
    classes = int(learner["learner_model_param"]["num_class"]) or 2
    labels = tuple(map(str, range(classes))) if hasattr(model, "predict_proba") else ()
    tools = library("onnxmltools", path)
    types = library("onnxmltools.convert.common.data_types", path)
    columns = booster.num_features()
    try:
        graph = tools.convert_xgboost(model, initial_types=[("X", types.FloatTensorType([None, columns]))])
    except Exception as error:  # of any part of the converter
        raise BringError(f"{path} ({objective}) does not convert to ONNX: {first_line(error)}") from error
    predict = model.predict_proba if labels else model.predict
    names = tuple(booster.feature_names or ())
    names = () if names == tuple(f"f{i}" for i in range(columns)) else names
    return Trees(f"XGBoost's {objective}", graph, predict, columns, names, labels)


def plain(booster: Any, objective: str) -> Any:
    """Return an estimator that answers as a booster does, probabilities for classes, without names of columns.

    The converter knows columns by their numbers alone, and estimators better than boosters.
    """
    import xgboost

    copy = booster.copy()
    copy.feature_names = None
    copy.set_attr(scikit_learn=None)
    if objective == "multi:softmax":  # the same trees; it answers the class alone
        copy.set_param({"objective": "multi:softprob"})
    is_classifier = objective.startswith(("binary:", "multi:"))
    model = xgboost.XGBClassifier() if is_classifier else xgboost.XGBRegressor()
    model.load_model(copy.save_raw("ubj"))
    return model


def _check_version(path: Path, xgboost: Any) -> None:
    """Raise if a newer XGBoost wrote a file of JSON: it may mean what this one does not know."""
    versions = re.findall(rb'"version":\s*\[(\d+),(\d+)', path.read_bytes()) if path.suffix == ".json" else []
    if versions and int(versions[-1][0]) > int(xgboost.__version__.partition(".")[0]):
        written = b".".join(versions[-1]).decode()
        raise BringError(f"{path} was written by XGBoost {written}, which is newer than {xgboost.__version__} here")


def _reason(error: Exception) -> str:
    """Return why XGBoost refuses a file: its message without times and places in its source."""
    text = first_line(error).rpartition("] ")[2].rpartition("Check failed: ")[2]
    return re.sub(r"^/\S+:\d+: ", "", text).rstrip(" :")
