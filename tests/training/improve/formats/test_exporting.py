"""Champions exported to every format that can be written here; the files are read as a user would read them."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from handlers.contract import Array, ModelContract
from handlers.engine import Engine
from serving.registry import ArchiveError, Registry
from tests.support.documents import document
from tests.support.training.bars import Bars
from tests.support.training.exporters import FORMATS, PYTHON
from tests.support.training.trainings import CACHE, Trainings
from training import recipes
from training.champion import RecipeChampion
from training.improve.formats import exporting
from training.improve.formats.exporting import export_champion, formats
from training.improve.formats.graphs import Onnx, TorchProgram
from training.packaging.registration import Result
from training.recipe import Recipe


@pytest.fixture(scope="module")
def bars(trained: Trainings) -> Result:
    return trained(Bars())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are measured once."""
    monkeypatch.setattr(exporting, "ROUNDS", 1)


@pytest.fixture
def export(trained: Trainings, bars: Result, linear: Result, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Exports a champion to formats by name."""

    def run(recipe: Recipe[Any], *names: str) -> dict[str, Any]:
        chosen = [formats(PYTHON)[name] for name in names]
        return export_champion(
            RecipeChampion(recipe, CACHE), trained.registry, chosen, output=tmp_path / "exports"
        ).to_document()

    return run


def read_onnx(path: Path, rows: list[Array]) -> Array:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    feed = {tensor.name: value for tensor, value in zip(session.get_inputs(), rows, strict=True)}
    answer: Array = session.run(None, feed)[0]
    return answer


def read_torch(path: Path, rows: list[Array]) -> Array:
    answer: Array = torch.export.load(path).module()(*map(torch.from_numpy, rows)).detach().numpy()
    return answer


def read_tflite(path: Path, rows: list[Array]) -> Array:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner()
    one_by_one = [
        runner(**{f"args_{i}": value[k : k + 1] for i, value in enumerate(rows)}) for k in range(len(rows[0]))
    ]
    return np.concatenate([answer["output_0"] for answer in one_by_one])


def read_openvino(path: Path, rows: list[Array]) -> Array:
    import openvino

    model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer: Array = model(rows)[0]
    return answer


READERS = {"onnx": read_onnx, "torch": read_torch, "tflite": read_tflite, "openvino": read_openvino}


@pytest.mark.parametrize("name", FORMATS)
def test_a_network_for_pictures_answers_the_same_from_the_file(
    export: Callable[..., dict[str, Any]], trained: Trainings, bars: Result, tmp_path: Path, name: str
) -> None:
    result = export(Bars(), name)
    (row,) = result["rows"]
    assert result["failed"] == {}
    assert (result["compared_rows"], row["label_agreement"]) == (1000, 1.0)  # 300 held out, filled up
    assert row["max_abs_difference"] < 1e-5
    test = Bars().load(Bars().preset(None), CACHE).test
    found = READERS[name](tmp_path / "exports" / row["file"], [test.inputs["picture"]])
    accuracy = document(bars.contract.evaluation)["metrics"]["accuracy"]
    assert (found.argmax(1) == test.target).mean() == pytest.approx(accuracy)
    assert accuracy > 0.9


@pytest.mark.parametrize("name", FORMATS)
def test_the_linear_regression_answers_the_same_from_the_file(
    export: Callable[..., dict[str, Any]], tmp_path: Path, name: str
) -> None:
    result = export(recipes.find("linear"), name)
    (row,) = result["rows"]
    assert (result["model"], result["version"], result["compared_rows"]) == ("linear", "1.0", 1001)
    assert row["max_relative_difference"] < 1e-6
    found = READERS[name](tmp_path / "exports" / row["file"], [np.array([6, -3], np.float32)])
    np.testing.assert_allclose(found, [12, -6], atol=1e-3)


def test_what_is_told_of_a_file_is_true(export: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    result = export(Bars(), "onnx", "torch")
    assert [row["format"] for row in result["rows"]] == ["onnx", "torch"]
    for row in result["rows"]:
        assert row["bytes"] == (tmp_path / "exports" / row["file"]).stat().st_size
        assert 0 < row["p50_ms"] < row["p50_64_ms"] < 1000
    assert result["rows"][0]["runtime"].startswith("onnxruntime 1.")
    assert result["rows"][1]["file"] == "bars-1.0.pt2"


def test_the_onnx_file_passes_the_full_check_and_the_contract_lies_beside_it(
    export: Callable[..., dict[str, Any]], bars: Result, tmp_path: Path
) -> None:
    export(Bars(), "onnx")
    onnx.checker.check_model(tmp_path / "exports" / "bars-1.0.onnx", full_check=True)
    contract = ModelContract.from_json((tmp_path / "exports" / "bars-1.0.contract.json").read_bytes())
    assert contract == bars.contract


def test_exporting_leaves_the_number_of_threads_as_it_was(export: Callable[..., dict[str, Any]]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    export(recipes.find("linear"), "torch")
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


class Off:
    """Answers a little beside the truth."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        return {name: value + np.float32(0.01) for name, value in self._engine.run(tensors).items()}


class Wrong(TorchProgram):
    """Its runtime computes something else."""

    name = "wrong"

    def open(self, folder: Path, contract: ModelContract) -> Engine:
        return Off(super().open(folder, contract))


def test_a_file_that_answers_otherwise_is_not_kept_and_the_others_are(
    trained: Trainings, bars: Result, tmp_path: Path
) -> None:
    told: list[str] = []
    exported = functools.partial(export_champion, RecipeChampion(Bars(), CACHE), trained.registry, step=told.append)
    result = exported([Wrong(), Onnx()], output=tmp_path).to_document()
    assert [row["format"] for row in result["rows"]] == ["onnx"]
    assert result["failed"]["wrong"].startswith("bars as wrong answers otherwise than its program (max_abs_difference")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bars-1.0.contract.json", "bars-1.0.onnx"]
    assert told[-1] == "measuring the time of each"


def test_without_a_champion_there_is_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="bars has no champion"):
        export_champion(RecipeChampion(Bars(), CACHE), Registry(tmp_path), [Onnx()], output=tmp_path)
