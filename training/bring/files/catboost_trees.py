"""CatBoost: a ``.cbm``, or an estimator of its own, becomes an ONNX graph by CatBoost itself."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from handlers.contract import Array
from training.bring.files.trees import Trees, library
from training.bring.graph import BringError, first_line

EXPONENTS = ("Poisson", "Tweedie")  # losses whose estimator answers the exponent of the sum of the leaves


def read(path: Path) -> Trees:
    """Read a ``.cbm``.

    Raises:
        BringError: CatBoost is not installed, cannot read it, or it does not convert.
    """
    catboost = library("catboost", path)
    model = catboost.CatBoost()
    try:
        model.load_model(str(path), format="cbm")
    except catboost.CatBoostError as error:
        raise BringError(f"{path} is no model of CatBoost {catboost.__version__}: {first_line(error)}") from error
    return of_estimator(path, model)


def of_estimator(path: Path, model: Any) -> Trees:
    """Convert trees.

    Raises:
        BringError: they are of a kind that does not convert; says which.
    """
    names = tuple(map(str, model.feature_names_))
    for kind in ("cat", "text", "embedding"):
        if places := getattr(model, f"get_{kind}_feature_indices")():
            raise BringError(
                f"{path} was trained on features that are no numbers ({kind}_features: {names[places[0]]}), which "
                "CatBoost does not write as ONNX: encode them in a scikit-learn pipeline before it"
            )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "trees.onnx")
        try:
            model.save_model(str(file), format="onnx")
        except Exception as error:  # CatBoost has classes of its own
            raise BringError(f"{path} does not convert to ONNX: {first_line(error)}") from error
        graph = onnx.load(file)
    labels = tuple(str(label) for label in model.classes_)
    objective = str(model.get_all_params().get("loss_function", "trees"))
    kind = "Probability" if labels else "RawFormulaVal"
    if objective.partition(":")[0] in EXPONENTS:
        kind = "Exponent"
        graph.graph.node.append(helper.make_node("Exp", [graph.graph.output[-1].name], ["exponent"]))
        graph.graph.output.append(helper.make_tensor_value_info("exponent", TensorProto.FLOAT, None))

    def predict(rows: Array) -> Array:
        return np.asarray(model.predict(rows, prediction_type=kind, thread_count=1))

    columns = len(names)
    names = () if names == tuple(map(str, range(columns))) else names
    return Trees(f"CatBoost's {objective}", graph, predict, columns, names, labels)
