"""Both engines, on small graphs that are exported here."""

import contextlib
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from handlers.contract import Array, ModelContract, TensorSpec
from handlers.engine import ENGINES, Engine, OnnxRuntimeEngine, available_cores, load_engine
from handlers.engine.isolated import IsolatedGraph
from handlers.engine.isolation import ChildError
from tests.support.handlers import wire
from tests.support.handlers.models import contract, serve

PAIR = contract(TensorSpec("a", "FP32", (-1, 3)), TensorSpec("b", "INT64"), name="pair")
SORTER = contract(TensorSpec("x", "FP32", (-1, 4)), name="sorter", labels=("low", "middle", "high"))


class Pair(nn.Module):
    """Two inputs whose order matters."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """a (n, 3), b (n,) -> (n,)."""
        return a.sum(1) - 10 * b


def sorter() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(1)).eval()


def export(module: nn.Module, model: ModelContract, folder: Path) -> Path:
    """Both graphs of a module, with a free batch size."""
    example = tuple(torch.zeros(2, *spec.shape[1:], dtype=_TYPES[spec.datatype]) for spec in model.inputs)
    batch = torch.export.Dim("batch")
    program = torch.export.export(module.eval(), example, dynamic_shapes=tuple({0: batch} for _ in example))
    torch.export.save(program, folder / "model.pt2")
    names = [spec.name for spec in model.inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            program,
            (),
            folder / "model.onnx",
            input_names=names,
            output_names=list(model.graph_outputs),
            dynamo=True,
            verbose=False,
        )
    return folder


_TYPES = {"FP32": torch.float32, "INT64": torch.int64}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(Pair(), PAIR, tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(sorter(), SORTER, tmp_path_factory.mktemp("sorter"))


@pytest.fixture(params=list(ENGINES))
def name(request: pytest.FixtureRequest) -> str:
    engine: str = request.param
    return engine


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    """The number of torch's threads is the whole process's."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


pytestmark = pytest.mark.usefixtures("threads_as_before")


@pytest.mark.parametrize("rows", [1, 3])
def test_tensors_are_passed_by_name_in_whatever_order_they_come(pair: Path, name: str, rows: int) -> None:
    engine = load_engine(name, pair, PAIR, 1)
    tensors: dict[str, Array] = {"b": np.arange(rows), "a": np.ones((rows, 3), np.float32)}
    outputs = engine.run(tensors)
    assert list(outputs) == ["y"]
    assert wire.same(outputs["y"], np.array([3 - 10 * b for b in range(rows)], np.float32))


def test_a_tensor_that_is_read_only_or_strided_is_taken(pair: Path, name: str) -> None:
    read_only = np.frombuffer(np.ones((2, 3), np.float32).tobytes(), np.float32).reshape(2, 3)
    strided = np.arange(4)[::2]
    outputs = load_engine(name, pair, PAIR, 1).run({"a": read_only, "b": strided})
    assert outputs["y"].tolist() == [3, -17]


def test_in_a_process_of_its_own_it_answers_alike_and_comes_back_when_that_is_killed(pair: Path, name: str) -> None:
    tensors: dict[str, Array] = {"b": np.arange(2), "a": np.ones((2, 3), np.float32)}
    expected = load_engine(name, pair, PAIR, 1).run(tensors)
    engine = load_engine(name, pair, PAIR, 1, isolated=True)
    assert isinstance(engine, IsolatedGraph)
    assert wire.same(engine.run(tensors)["y"], expected["y"])
    killed = engine._child.pid
    assert killed != os.getpid()
    os.kill(killed, signal.SIGKILL)
    with contextlib.suppress(ChildError):  # of the one that is under way
        engine.run(tensors)
    outputs = engine.run(tensors)
    assert list(outputs) == ["y"]
    assert wire.same(outputs["y"], expected["y"])
    assert engine._child.pid != killed


def test_a_classification_gives_its_probabilities(graphs: Path, name: str) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    with torch.inference_mode():
        expected = sorter()(torch.from_numpy(rows)).numpy()
    outputs = load_engine(name, graphs, SORTER, 1).run({"x": rows})
    assert list(outputs) == ["probabilities"]
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-6)


def test_an_engine_answers_every_format_through_the_handler(graphs: Path, name: str) -> None:
    handler = serve(SORTER, load_engine(name, graphs, SORTER, 1))
    rows = {"x": np.eye(4, dtype=np.float32)[:2]}
    labels = [one["label"] for one in wire.ask(handler, wire.v1(SORTER, rows))["predictions"]]
    for write in (wire.v2, wire.v2_binary):
        assert wire.ask(handler, write(SORTER, rows))["outputs"][0]["data"] == labels
    assert [one["label"] for one in wire.ask(handler, wire.npy(SORTER, rows))["predictions"]] == labels


def test_an_engine_uses_the_threads_that_it_is_given(graphs: Path) -> None:
    load_engine("torch", graphs, SORTER, 2)
    assert torch.get_num_threads() == 2
    load_engine("torch", graphs, SORTER, 1)
    assert torch.get_num_threads() == 1
    options = _session(load_engine("onnxruntime", graphs, SORTER, 2)).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_an_engine_that_does_not_exist_is_refused_with_those_that_do(graphs: Path) -> None:
    with pytest.raises(ValueError, match=r"handler.engine is 'onnx' in model-config.yaml.*one of onnxruntime, torch"):
        load_engine("onnx", graphs, SORTER, 1)


def test_an_archive_without_its_graph_is_refused_by_the_graphs_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(Exception, match=r"model\.(onnx|pt2)"):
        load_engine(name, tmp_path, SORTER, 1)


def test_onnx_runtime_is_told_to_report_nothing_before_it_is_imported(graphs: Path) -> None:
    """In a process of its own, where nothing has imported it yet; the import looks at the environment."""
    code = f"""
import builtins, os, sys
from pathlib import Path
from handlers.contract import ModelContract
from handlers.engine import load_engine
told, genuine = [], builtins.__import__
def watch(name, *rest, **more):
    if name == "onnxruntime" and name not in sys.modules:
        told.append(os.environ.get("ORT_DISABLE_TELEMETRY"))
    return genuine(name, *rest, **more)
builtins.__import__ = watch
contract = ModelContract.from_json({SORTER.to_json()!r})
load_engine("onnxruntime", Path({str(graphs)!r}), contract, 1)
print(told[0], "torch" in sys.modules)
"""
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ["1", "False"], result.stderr


def _session(engine: Engine) -> Any:
    assert isinstance(engine, OnnxRuntimeEngine)
    return engine._session


def test_products_of_int8_are_summed_in_32_bits_on_processors_without_vnni_too(tmp_path: Path) -> None:
    engine = OnnxRuntimeEngine(export(sorter(), SORTER, tmp_path), SORTER, 1)
    options = engine._session.get_session_options()
    assert options.get_session_config_entry("session.x64quantprecision") == "1"
    assert options.get_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16") == "0"


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000\n", 8), ("200000 100000\n", 2), ("150000 100000\n", 2), ("50000 100000\n", 1)]
)
def test_a_containers_limit_counts_whole_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    (tmp_path / "cpu.max").write_text(text)
    assert available_cores(tmp_path / "cpu.max") == cores


def test_without_a_limit_they_are_those_that_it_is_scheduled_on(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "none") == len(os.sched_getaffinity(0))
