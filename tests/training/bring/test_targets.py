"""A regression of several targets from a file: answered by name, measured and judged for each."""

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from serving.registry import Registry
from tests.support.training import graphs
from tests.training.bring.test_onnx import Imported
from training.bring import sources
from training.bring.draft import ImportOptions, draft
from training.bring.graph import BringError
from training.bring.importing import bring
from training.bring.sources import Reading

ROWS = 400
MATRIX = """(float[N,2] x) => (float[N,2] y)
<float[2,2] w = {1.0, 10.0, 2.0, 20.0}> { y = MatMul(x, w) }"""
APART = """(float[N,2] x) => (float[N,1] fuel, float[N] delay)
<float[2,1] w = {10.0, 20.0}, float[2,1] v = {1.0, 2.0}, int64[1] one = {1}> {
  fuel = MatMul(x, w)
  wide = MatMul(x, v)
  delay = Squeeze(wide, one)
}"""


def table(folder: Path) -> Path:
    """Rows of two features and two targets, of which the second is ten times the first and has more noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 2)).astype(np.float32)
    delay = x @ [1, 2] + rng.normal(0, 0.1, ROWS)
    fuel = x @ [10, 20] + rng.normal(0, 5, ROWS)
    frame = pandas.DataFrame({"wind": x[:, 0], "load": x[:, 1], "delay": delay, "fuel": fuel})
    frame.to_csv(folder / "rows.csv", index=False)
    return folder / "rows.csv"


def opened(path: Path, folder: Path, reading: Reading = Reading(), **options: Any) -> Imported:  # noqa: B008
    drafted = draft(sources.read(path, reading), ImportOptions(name="flight", data=reading.data, **options))
    return Imported(bring(drafted, Registry(folder / "store")), folder / f"unpacked-{path.stem}")


def check(model: Imported) -> None:
    """The model answers both targets by name, and each was measured on the rows of ``table``."""
    contract = model.contract
    assert contract.task == "regression"
    assert [(spec.name, spec.shape) for spec in contract.outputs] == [("delay", (-1,)), ("fuel", (-1,))]
    native, v1, v2 = model.post(
        {"wind": 1, "load": 2},
        {"instances": [{"wind": 1, "load": 0}]},
        {"inputs": [{"name": name, "shape": [1], "datatype": "FP32", "data": [1]} for name in ("wind", "load")]},
    )
    assert [native[0], v1[0], v2[0]] == [200] * 3
    assert native[1]["prediction"] == pytest.approx({"delay": 5, "fuel": 50}, rel=0.1)
    assert v1[1]["predictions"][0] == pytest.approx({"delay": 1, "fuel": 10}, rel=0.2)
    assert [one["name"] for one in v2[1]["outputs"]] == ["delay", "fuel"]
    metrics = contract.evaluation.metrics
    assert list(metrics) == ["rmse", "mae", "r2", "rmse of fuel", "mae of fuel", "r2 of fuel"]
    assert metrics["rmse"] == pytest.approx(0.1, rel=0.2)
    assert metrics["rmse of fuel"] == pytest.approx(5, rel=0.2)
    assert contract.evaluation.primary == "rmse"
    reference = contract.reference
    other = reference.targets["fuel"]
    assert None not in (reference.output, reference.errors, other.output)
    assert other.errors is not None
    assert other.errors.numbers.std() == pytest.approx(5, rel=0.3)


@pytest.mark.parametrize("text", [MATRIX, APART])
def test_columns_of_a_matrix_or_numbers_apart_are_targets(text: str, tmp_path: Path) -> None:
    file = graphs.save(text, tmp_path / "model.onnx")
    check(opened(file, tmp_path, Reading(data=table(tmp_path)), target="delay,fuel"))


def test_an_estimator_of_scikit_learn_has_several(tmp_path: Path) -> None:
    pytest.importorskip("skl2onnx", reason="skl2onnx is not installed: pip install -e '.[import]'")
    data = table(tmp_path)
    frame = pandas.read_csv(data)
    joblib.dump(
        Ridge().fit(frame[["wind", "load"]].to_numpy(), frame[["delay", "fuel"]].to_numpy()), tmp_path / "ridge.joblib"
    )
    check(opened(tmp_path / "ridge.joblib", tmp_path, Reading(data=data, trust=True), target="delay,fuel"))


def test_a_program_of_torch_has_several(tmp_path: Path) -> None:
    net = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 2.0], [10.0, 20.0]]))
    rows = {0: torch.export.Dim("batch")}
    torch.export.save(torch.export.export(net, (torch.zeros(2, 2),), dynamic_shapes=(rows,)), tmp_path / "net.pt2")
    check(opened(tmp_path / "net.pt2", tmp_path, Reading(data=table(tmp_path)), target="delay,fuel"))


def test_without_data_the_names_are_the_file_s_or_those_of_the_contract_s_file(tmp_path: Path) -> None:
    file = graphs.save(MATRIX, tmp_path / "model.onnx")
    assert opened(file, tmp_path, task="regression").post({"inputs": [1, 0]})[0][1]["prediction"] == {
        "y_0": 1,
        "y_1": 10,
    }
    (tmp_path / "contract.yaml").write_text("task: regression\ntargets: [delay, fuel]\noutputs: {fuel: {unit: kg}}\n")
    named = draft(sources.read(file), ImportOptions(name="flight", contract=tmp_path / "contract.yaml"))
    assert [(spec.name, spec.unit) for spec in named.contract.outputs] == [("delay", ""), ("fuel", "kg")]
    assert draft(sources.read(file), ImportOptions(name="flight")).contract.task == "tensors"


@pytest.mark.parametrize(
    ("left_out", "target", "why"),
    [
        ("", "delay,fuel,wind", "3 targets are named, and the file answers 2 numbers a row: y_0, y_1"),
        ("", "delay,weight", "has no column 'weight'"),
        ("fuel", "delay", "the truth of delay is given, and the model answers y_0, y_1: name one for each"),
    ],
)
def test_the_truth_must_be_known_of_each_number(left_out: str, target: str, why: str, tmp_path: Path) -> None:
    text = """(float[N,W] x) => (float[N,2] y)
    <int64[1] one = {1}> { sum = ReduceSum <keepdims = 1> (x, one) y = Concat <axis = 1> (sum, sum) }"""
    file, rows = graphs.save(text, tmp_path / "model.onnx"), table(tmp_path)
    pandas.read_csv(rows).drop(columns=left_out.split()).to_csv(rows, index=False)
    with pytest.raises(BringError, match=why):
        draft(sources.read(file), ImportOptions(name="flight", data=rows, target=target, task="regression"))


@pytest.mark.parametrize(
    ("fuel", "state", "why"),
    [
        ((12, 20), "challenger", "times the champion's in the mean over 2 targets: worse"),
        ((10, 20), "champion", "rmse is 1.0000 times the champion's in the mean over 2 targets: at least as good"),
    ],
)
def test_a_later_version_becomes_champion_by_all_its_targets(
    fuel: tuple[int, int], state: str, why: str, tmp_path: Path
) -> None:
    registry, data = Registry(tmp_path / "store"), table(tmp_path)
    other = MATRIX.replace("1.0, 10.0, 2.0, 20.0", f"1.0, {fuel[0]}.0, 2.0, {fuel[1]}.0")
    for text in (MATRIX, other):
        file = graphs.save(text, tmp_path / "model.onnx")
        options = ImportOptions(name="flight", data=data, target="delay,fuel")
        result = bring(draft(sources.read(file, Reading(data=data)), options), registry)
    assert (result.contract.version, result.state) == ("1.1", state)
    assert why in result.why
