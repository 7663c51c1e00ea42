"""A folder of MLflow becomes an archive by one of its flavours; the folders have the shape that MLflow 3.17 writes."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas
import pytest
import torch
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.support.training import graphs
from tests.training.bring.test_sklearn import opened
from training.bring import sources
from training.bring.graph import BringError
from training.bring.sources import Reading

NAMES = ["age", "yearly income"]
COLUMNS = [{"type": "double", "name": name, "required": True} for name in NAMES]
MATRIX = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]


def rows() -> Any:
    return pandas.DataFrame(np.random.default_rng(0).normal(size=(200, 2)), columns=NAMES)


def written(folder: Path, flavours: dict[str, Any], inputs: Any = (), example: Any = None) -> Path:
    """Write what MLflow writes beside a model's file."""
    folder.mkdir(exist_ok=True)
    entry: dict[str, Any] = {
        "flavors": flavours | {"python_function": {"loader_module": "mlflow.x", "python_version": "3.11.7"}},
        "mlflow_version": "3.17.2",
        "model_uuid": "7fc9b1fa28054e6d94964006049d33b7",
        "signature": {"inputs": msgspec.json.encode(inputs).decode(), "outputs": "[]", "params": None},
        "utc_time_created": "2026-11-29 14:31:27.593650",
    }
    if example is not None:
        entry["saved_input_example_info"] = {"artifact_path": "input_example.json", "type": "dataframe"}
        (folder / "input_example.json").write_bytes(msgspec.json.encode(example))
    (folder / "MLmodel").write_text(yaml.safe_dump(entry))
    return folder


def test_an_onnx_flavour_answers_with_its_example(tmp_path: Path) -> None:
    flavours = {"onnx": {"data": "model.onnx", "onnx_version": "1.23.2", "providers": ["CPUExecutionProvider"]}}
    folder = written(tmp_path / "sums", flavours, MATRIX, [[1, 2, 3], [4, 5, 6]])
    graphs.save(graphs.REGRESSION, folder / "model.onnx")
    served = opened(folder, tmp_path, Reading())
    assert served.contract.example.response == {"prediction": 14.0}
    assert served.contract.lineage.imported is not None
    assert served.contract.lineage.imported.kind == "ONNX, of MLflow's onnx"


def test_a_sklearn_flavour_has_its_types_from_the_signature(tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io", reason="skops is not installed: pip install -e '.[import]'")
    data = rows()
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(data, np.where(data["age"] > 0, "good", "bad"))
    entry = {"pickled_model": "model.skops", "serialization_format": "skops", "sklearn_version": "1.9.1"}
    example = {"columns": NAMES, "data": [[0.5, -1.5]]}
    folder = written(tmp_path / "credit", {"sklearn": entry}, COLUMNS, example)
    skops.dump(model, folder / "model.skops")
    served = opened(folder, tmp_path, Reading())
    assert served.contract.example.request == {"age": 0.5, "yearly_income": -1.5}
    ((status, answer),) = served.post({"age": 0.5, "yearly_income": 0})
    expected = model.predict_proba(pandas.DataFrame([[0.5, 0]], columns=NAMES)).max()
    assert (status, answer["prediction"]["label"]) == (200, "good")
    assert answer["prediction"]["probability"] == pytest.approx(expected, abs=1e-5)


def test_a_flavour_of_xgboost_has_its_names_from_the_signature(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost", reason="XGBoost is not installed: pip install -e '.[import-trees]'")
    data = rows().to_numpy()
    model = xgboost.XGBRegressor(n_estimators=5, n_jobs=1).fit(data, data[:, 0])
    entry = {"data": "model.ubj", "model_class": "xgboost.sklearn.XGBRegressor", "model_format": "ubj"}
    folder = written(tmp_path / "boosted", {"xgboost": entry}, COLUMNS, {"columns": NAMES, "data": [[0.5, -1.5]]})
    model.save_model(folder / "model.ubj")
    served = opened(folder, tmp_path, Reading())
    assert [spec.name for spec in served.contract.inputs] == ["age", "yearly_income"]
    expected = float(model.predict([[0.5, -1.5]])[0])
    assert served.contract.example.response == {"prediction": pytest.approx(expected, rel=1e-5)}


def test_a_flavour_of_lightgbm_has_its_names_and_objective_from_its_file(tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="LightGBM is not installed: pip install -e '.[import-trees]'")
    pytest.importorskip("onnxmltools", reason="onnxmltools is not installed: pip install -e '.[import-trees]'")
    data = rows()
    parameters = {"objective": "regression", "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(data.to_numpy(), data["age"]), 5)
    entry = {"data": "model.lgb", "model_class": "lightgbm.basic.Booster", "lgb_version": lightgbm.__version__}
    folder = written(tmp_path / "light", {"lightgbm": entry}, COLUMNS, {"columns": NAMES, "data": [[0.5, -1.5]]})
    booster.save_model(folder / "model.lgb")
    served = opened(folder, tmp_path, Reading())
    assert [spec.name for spec in served.contract.inputs] == ["age", "yearly_income"]
    expected = float(booster.predict([[0.5, -1.5]])[0])
    assert served.contract.example.response == {"prediction": pytest.approx(expected, rel=1e-5)}


def test_a_flavour_of_catboost_answers_as_its_file(tmp_path: Path) -> None:
    catboost = pytest.importorskip("catboost", reason="CatBoost is not installed: pip install -e '.[import-catboost]'")
    data = rows()
    model = catboost.CatBoostRegressor(iterations=5, verbose=0, allow_writing_files=False, thread_count=1)
    model.fit(data, data["age"])
    entry = {"data": "model.cb", "model_type": "CatBoostRegressor", "save_format": "cbm"}
    folder = written(tmp_path / "cats", {"catboost": entry}, COLUMNS, {"columns": NAMES, "data": [[0.5, -1.5]]})
    model.save_model(str(folder / "model.cb"))
    served = opened(folder, tmp_path, Reading())
    assert [spec.name for spec in served.contract.inputs] == ["age", "yearly_income"]
    expected = float(model.predict([[0.5, -1.5]])[0])
    assert served.contract.example.response == {"prediction": pytest.approx(expected, rel=1e-5)}


def test_a_flavour_of_pytorch_is_a_program(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1).eval()
    program = torch.export.export(net, (torch.ones(2, 3),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    entry = {"model_data": "data", "pytorch_version": str(torch.__version__)}
    folder = written(tmp_path / "net", {"pytorch": entry}, MATRIX, [[1, 2, 3], [4, 5, 6]])
    (folder / "data").mkdir()
    torch.export.save(program, folder / "data" / "model.pt2")
    served = opened(folder, tmp_path, Reading())
    with torch.inference_mode():
        expected = net(torch.tensor([[1.0, 2, 3]])).item()
    assert served.contract.example.response == {"prediction": pytest.approx(expected, rel=1e-5)}
    assert served.contract.lineage.imported is not None
    assert served.contract.lineage.imported.kind == "torch.export, of MLflow's pytorch"


@pytest.mark.parametrize(
    ("flavours", "fault"),
    [
        ({}, "has the flavours python_function; onnx, .* can be imported. python_function alone is code"),
        ({"onnx": {"data": "model.onnx"}}, "model.onnx, which MLmodel names, is not there"),
        ({"onnx": {"data": "../other.onnx"}}, "data of onnx must be a file of the folder, not '../other.onnx'"),
        ({"onnx": {}}, "data of onnx must be a file of the folder, not None"),
        (
            {"pytorch": {"model_data": "data"}},
            "holds a pickled module of PyTorch: log it with serialization_format='pt2'",
        ),
        (
            {"sklearn": {"pickled_model": "model.pkl"}},
            "model.pkl is a pickle: reading it runs its code. --trust allows",
        ),
    ],
)
def test_what_does_not_come_in_gets_a_sentence(tmp_path: Path, flavours: dict[str, Any], fault: str) -> None:
    folder = written(tmp_path / "model", flavours)
    (folder / "data").mkdir()
    (folder / "data" / "model.pth").write_bytes(b"pickled")
    (folder / "model.pkl").write_bytes(b"pickled")
    (tmp_path / "other.onnx").write_bytes(b"outside")
    with pytest.raises(BringError, match=fault):
        sources.read(folder)


@pytest.mark.parametrize("text", ["", "flavors: 3", "a: [", "flavors: {}\nsignature: {inputs: '{'}"])
def test_a_damaged_description_gets_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(BringError, match="MLmodel is none of MLflow: "):
        sources.read(tmp_path)
