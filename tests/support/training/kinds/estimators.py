"""Estimators of scikit-learn, boosted trees, and folders of MLflow around a file of each of its flavours."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnxruntime
import pandas
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.support.training import graphs
from tests.support.training.kinds import unconverted
from tests.support.training.kinds.made import Made, example

NAMES = ["age", "income"]
ASKED = pandas.DataFrame([[0.5, -1.5], [-0.75, 2.0]], columns=NAMES)
LABELS = ("bad", "good")
COLUMNS = {name: ASKED[name].tolist() for name in NAMES}
ROW = {name: values[0] for name, values in COLUMNS.items()}
TREES: Mapping[str, Any] = {"n_estimators": 10, "n_jobs": 1}


def data() -> tuple[pandas.DataFrame, Any]:
    """Rows, and a number to be learned from them."""
    rows = pandas.DataFrame(np.random.default_rng(0).normal(size=(300, 2)), columns=NAMES)
    return rows, rows["age"] + 2 * rows["income"]


def mixed(folder: Path) -> Made:
    """A file of skops, of a pipeline that takes columns of strings and of numbers."""
    import skops.io

    from tests.training.bring.test_sklearn import ROW as MIXED
    from tests.training.bring.test_sklearn import pipeline

    model = pipeline(LogisticRegression(max_iter=500))
    skops.io.dump(model, folder / "model.skops")
    rows = pandas.DataFrame([MIXED, {"age": 50, "yearly income": 40.25, "job": "clerk"}])
    columns = {name.replace(" ", "_"): rows[name].tolist() for name in rows}
    options = ("--trust", *example(folder, MIXED))
    return Made(folder / "model.skops", options, columns, model.predict_proba(rows), LABELS, "scikit-learn's Pipeline")


def pickled(folder: Path) -> Made:
    """A pickle of a pipeline that ends with trees of XGBoost."""
    from xgboost import XGBClassifier

    rows, truth = data()
    model = make_pipeline(StandardScaler(), XGBClassifier(**TREES)).fit(rows, (truth > 0).astype(int))
    joblib.dump(model, folder / "model.joblib")
    options = ("--trust", "--labels", ",".join(LABELS), *example(folder, ROW))
    return Made(folder / "model.joblib", options, COLUMNS, model.predict_proba(ASKED), LABELS, "scikit-learn's Pipe")


def ridge(folder: Path) -> Made:
    """A file of skops that has no converter."""
    import skops.io

    model = unconverted.kernel_ridge()
    skops.io.dump(model, folder / "model.skops")
    rows = pandas.DataFrame([unconverted.ROW, {"age": 41.0, "yearly income": 51.25, "job": "clerk"}])
    columns = {name.replace(" ", "_"): rows[name].tolist() for name in rows}
    options = ("--trust", *example(folder, unconverted.ROW))
    answers = model.predict(rows)[:, None]
    return Made(folder / "model.skops", options, columns, answers, told="it does not convert to ONNX")


def xgboost(folder: Path, name: str = "model.json") -> Made:
    """Two classes by XGBoost."""
    from xgboost import XGBClassifier

    rows, truth = data()
    model = XGBClassifier(**TREES).fit(rows, (truth > 0).astype(int))
    model.save_model(folder / name)
    options = ("--labels", ",".join(LABELS), *example(folder, ROW))
    return Made(folder / name, options, COLUMNS, model.predict_proba(ASKED), LABELS, "XGBoost's binary:logistic")


def lightgbm(folder: Path, name: str = "model.txt") -> Made:
    """A number by LightGBM."""
    import lightgbm

    rows, truth = data()
    parameters = {"objective": "regression", "verbose": -1, "num_threads": 1}
    model = lightgbm.train(parameters, lightgbm.Dataset(rows, truth), 10)
    model.save_model(folder / name)
    answers = np.asarray(model.predict(ASKED))[:, None]
    return Made(folder / name, example(folder, ROW), COLUMNS, answers, told="LightGBM's regression")


def catboost(folder: Path, name: str = "model.cbm") -> Made:
    """Classes with names by CatBoost."""
    from catboost import CatBoostClassifier

    rows, truth = data()
    options = {"iterations": 10, "thread_count": 1, "verbose": 0, "allow_writing_files": False}
    model = CatBoostClassifier(**options).fit(rows, np.where(truth > 0, "good", "bad"))
    model.save_model(str(folder / name), format="cbm")
    answers = model.predict_proba(ASKED)
    return Made(folder / name, example(folder, ROW), COLUMNS, answers, LABELS, "CatBoost's Logloss")


def mlflow(folder: Path, flavour: str) -> Made:
    """A folder as MLflow writes it, with its signature and its example."""
    from tests.training.bring.test_mlflow import MATRIX, written

    is_matrix = flavour in ("onnx", "pytorch")
    typed = MATRIX if is_matrix else [{"type": "double", "name": name, "required": True} for name in NAMES]
    made, entry = FLAVOURS[flavour](folder)
    row = [[0.5, -1.0, 2.0]] if is_matrix else {"columns": NAMES, "data": [list(ROW.values())]}
    written(folder, {flavour: entry}, typed, row)
    options = ("--labels", ",".join(LABELS)) if flavour == "xgboost" else ()
    return made._replace(file=folder, options=options, told=f"of MLflow's {flavour}")


def _onnx(folder: Path) -> tuple[Made, dict[str, str]]:
    file, rows = graphs.save(graphs.REGRESSION, folder / "model.onnx"), [[0.5, -1.0, 2.0], [1.0, 0.0, 0.25]]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {"x": np.array(rows, np.float32)})
    return Made(file, (), {"x": rows}, answers), {"data": "model.onnx", "onnx_version": "1.23.2"}


def _sklearn(folder: Path) -> tuple[Made, dict[str, str]]:
    import skops.io

    rows, truth = data()
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, np.where(truth > 0, "good", "bad"))
    skops.io.dump(model, folder / "model.skops")
    made = Made(folder, (), COLUMNS, model.predict_proba(ASKED), LABELS)
    return made, {"pickled_model": "model.skops", "serialization_format": "skops", "sklearn_version": "1.9.1"}


def _pytorch(folder: Path) -> tuple[Made, dict[str, str]]:
    (folder / "data").mkdir()
    torch.manual_seed(0)
    net, rows = torch.nn.Linear(3, 1).eval(), [[0.5, -1.0, 2.0], [1.0, 0.0, 0.25]]
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(net, (torch.ones(2, 3),), dynamic_shapes=batch)
    torch.export.save(program, folder / "data" / "model.pt2")
    with torch.inference_mode():
        answers = net(torch.tensor(rows)).tolist()
    return Made(folder, (), {"input": rows}, answers), {"model_data": "data", "pytorch_version": "2.13.0"}


FLAVOURS: Mapping[str, Callable[[Path], tuple[Made, dict[str, str]]]] = {
    "onnx": _onnx,
    "sklearn": _sklearn,
    "pytorch": _pytorch,
    "xgboost": lambda folder: (xgboost(folder, "model.ubj"), {"data": "model.ubj", "model_format": "ubj"}),
    "lightgbm": lambda folder: (lightgbm(folder, "model.lgb"), {"data": "model.lgb", "lgb_version": "4.7.0"}),
    "catboost": lambda folder: (catboost(folder, "model.cb"), {"data": "model.cb", "save_format": "cbm"}),
}
