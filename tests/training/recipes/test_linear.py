import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from handlers.contract import ModelContract
from serving.archive import GRAPHS
from serving.registry import Registry
from serving.settings import ROOT
from tests.support.documents import document
from tests.support.training.trainings import load
from training import recipes
from training.data import sha256
from training.packaging.registration import Result
from training.recipe import to_tensors
from training.recipes.linear import LinearRegressionModel

recipe = recipes.find("linear")


def test_integers_as_in_the_tutorial_fail_and_so_the_recipes_tensors_are_float32() -> None:
    integers = torch.tensor([[1], [2], [3]])
    with pytest.raises(RuntimeError, match="dtype"):
        nn.Linear(1, 1)(integers)
    with pytest.raises(RuntimeError, match="mse_cpu"):
        nn.MSELoss()(integers, 2 * integers)

    train = load(recipe).train
    (x,), y = to_tensors(train), torch.from_numpy(train.target)
    assert (x.dtype, y.dtype) == (torch.float32, torch.float32)
    model = LinearRegressionModel()
    nn.MSELoss()(model(x), y).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_it_learns_from_five_points_and_is_tested_on_others() -> None:
    data = load(recipe)
    assert data.train.inputs["x"].tolist() == [1, 2, 3, 4, 5]
    assert len(data.test) > 1000
    assert not np.isin(data.test.inputs["x"], data.train.inputs["x"]).any()
    for split in (data.train, data.test):
        np.testing.assert_array_equal(split.target, 2 * split.inputs["x"])


def test_twice_six_is_twelve(linear: Result) -> None:
    example = linear.contract.example
    assert example.request == {"x": 6.0}
    assert example.response["prediction"] == pytest.approx(12.0, abs=0.05)
    with zipfile.ZipFile(linear.archive) as archive:
        session = onnxruntime.InferenceSession(archive.read("model.onnx"))
    (y,) = session.run(None, {"x": np.array([6, 0], np.float32)})
    assert y == pytest.approx([12.0, 0.0], abs=0.05)


def test_it_beats_both_baselines(linear: Result) -> None:
    evaluation = document(linear.contract.evaluation)
    assert set(evaluation["baselines"]) == {"mean", "ridge regression"}
    assert evaluation["metrics"]["rmse"] < min(b["rmse"] for b in evaluation["baselines"].values())
    assert evaluation["learned"]["rows"] == 5
    assert evaluation["learned"]["metrics"]["rmse"] == pytest.approx(0, abs=0.05)


def test_training_again_in_another_process_gives_the_same_graphs_byte_for_byte(linear: Result, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training", "train", "linear", "--store", str(tmp_path), "--runs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    again = Registry(tmp_path).champions()["linear"][1]
    with zipfile.ZipFile(linear.archive) as first, zipfile.ZipFile(tmp_path / again.archive) as second:
        sums = document(ModelContract.from_json(second.read("contract.json")).lineage)["graph_sha256"]
        assert sums == document(linear.contract.lineage)["graph_sha256"]
        for name in GRAPHS:
            assert first.read(name) == second.read(name)
            assert sums[name] == sha256(second.read(name))
