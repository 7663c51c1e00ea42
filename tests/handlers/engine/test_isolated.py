"""Engines in processes of their own, and how a worker refuses what it cannot load."""

import os
import signal
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from handlers.contract import TensorSpec
from handlers.engine import graph_file, load_engine
from handlers.engine.isolated import IsolatedEngine
from handlers.engine.isolation import ChildError, is_isolated
from handlers.engine.signature import FILE as SIGNATURE
from handlers.engine.signature import Head, Input, Signature
from tests.support.handlers.models import contract

RIDGE = contract(TensorSpec("a", "FP32"), TensorSpec("b", "FP32"), name="ridge")
READ = Signature((Input("X", sources=("a", "b"), is_matrix=True),), ("variable",), (Head("y", 0, "column"),))
X = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> KernelRidge:
    return KernelRidge().fit(X, X[:, 0] - X[:, 1])


@pytest.fixture
def folder(model: KernelRidge, tmp_path: Path) -> Path:
    joblib.dump(model, tmp_path / "model.joblib")
    (tmp_path / SIGNATURE).write_bytes(msgspec.json.encode(READ))
    return tmp_path


def test_columns_become_a_matrix_and_a_column_a_number(folder: Path, model: KernelRidge) -> None:
    engine = load_engine("python", folder, RIDGE, 1)
    rows = np.array([[0.5, 1.5], [2, -1]], np.float32)
    assert engine.run({"b": rows[:, 1], "a": rows[:, 0]})["y"] == pytest.approx(model.predict(rows), abs=1e-5)
    assert graph_file("python", folder) == "model.joblib"


def test_a_process_that_hangs_is_given_up_after_the_patience_of_a_worker(folder: Path) -> None:
    engine = IsolatedEngine("python", folder, READ, 1, "cpu", 0.5)
    os.kill(engine._child.pid, signal.SIGSTOP)
    with pytest.raises(ChildError, match="had no answer in time, and was killed"):
        engine.run({"X": X[:1]})


def test_a_missing_package_is_named_with_its_version(folder: Path) -> None:
    (folder / "model.joblib").write_bytes(b"cno_such_package\nModel\n.")  # a pickle
    (folder / "requirements.txt").write_text("numpy==2.0\nno-such-package==1.5\n")
    with pytest.raises(
        ValueError, match=r"engine python .*No module named 'no_such_package': pip install no-such-pa.*==1.5"
    ):
        load_engine("python", folder, RIDGE, 1)


@pytest.mark.parametrize(("engine", "device", "fault"), [
    ("python", "cuda", "scikit-learn runs on the cpu alone"),
    ("python", "tpu", "handler.device is 'tpu' in model-config.yaml; it must be cpu, cuda or cuda:1"),
    ("torchscript", "cpu", "the engine torchscript cannot load the model: .*model.pt"),
    ("script", "cpu", "handler.engine is 'script' .* one of onnxruntime, torch, torchscript, python"),
])  # fmt: skip
def test_what_cannot_be_loaded_is_refused_in_a_sentence(folder: Path, engine: str, device: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        load_engine(engine, folder, RIDGE, 1, device)


def test_an_archive_without_a_signature_has_no_file_for_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="handler.engine is python in model-config.yaml, and the archive has no file"):
        load_engine("python", tmp_path, RIDGE, 1)
    (tmp_path / SIGNATURE).write_text("{}")
    with pytest.raises(ValueError, match="signature.json: Object missing required field"):
        load_engine("python", tmp_path, RIDGE, 1)


def test_an_engine_ends_its_process_with_itself(folder: Path) -> None:
    engine = IsolatedEngine("python", folder, READ, 1, "cpu", 60)
    assert engine._child.close.alive
    close = engine._child.close
    del engine
    assert not close.alive


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"isolated": None}, False),
        ({"isolated": False, "engine": "onnxruntime"}, False),
        ({"isolated": True, "engine": "onnxruntime"}, True),
        ({"engine": "python"}, True),
    ],
)
def test_a_model_has_a_process_of_its_own_where_it_is_asked_for_or_its_file_holds_code(
    settings: dict[str, Any], expected: bool
) -> None:
    assert is_isolated(settings) is expected


@pytest.mark.parametrize("value", ["yes", 1, []])
def test_isolated_is_a_truth_value(value: object) -> None:
    with pytest.raises(ValueError, match=r"handler\.isolated is .* in model-config\.yaml; it must be true or false"):
        is_isolated({"isolated": value})
