"""A file that does not convert to ONNX is served as it is, and answers as its own framework does."""

from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import onnx
import pandas
import pytest
import torch
from sklearn.semi_supervised import LabelSpreading

from serving import archive
from serving.registry import Registry
from tests.support.training.kinds import unconverted
from tests.support.training.kinds.unconverted import Halved, Waves
from tests.training.bring.test_onnx import Imported
from training.bring import served as served_graph
from training.bring import sources
from training.bring.draft import ImportOptions, draft
from training.bring.graph import BringError
from training.bring.importing import bring
from training.bring.sources import Reading
from training.champion import unpack

skops = pytest.importorskip("skops.io", reason="skops is not installed: pip install -e '.[import]'")
pytest.importorskip("skl2onnx", reason="skl2onnx is not installed: pip install -e '.[import]'")


def opened(path: Path, folder: Path, reading: Reading, **options: Any) -> Imported:
    given = ImportOptions(name="odd", example=reading.example, data=reading.data, **options)
    drafted = draft(sources.read(path, reading), given)
    assert any("does not convert to ONNX" in note for note in drafted.model.notes)
    return Imported(bring(drafted, Registry(folder / "store")), folder / "unpacked")


def example(folder: Path, value: Any) -> Path:
    path = folder / "example.json"
    path.write_bytes(msgspec.json.encode(value))
    return path


def settings(store: Path) -> dict[str, Any]:
    path = store / "odd-1.0.mar"
    handler: dict[str, Any] = archive.read_config(path)["handler"]
    return handler | {"files": set(archive.model_files(path)), "needs": archive.read_file(path, "requirements.txt")}


def test_a_script_whose_loop_depends_on_values(tmp_path: Path) -> None:
    path = unconverted.save_script(tmp_path / "halved.pt")
    served = opened(path, tmp_path, Reading(example(tmp_path, {"x": [0.5, 3.0, 1.0, 0.25]})))
    rows = [[9.0, 1.0, 2.0, 0.5], [0.1, 0.2, 0.3, 0.4]]
    answers = served.post(*({"inputs": row} for row in rows))
    expected = [float(Halved()(torch.tensor([row]))) for row in rows]  # each alone
    assert [status for status, _ in answers] == [200, 200]
    assert [answer["prediction"] for _, answer in answers] == pytest.approx(expected, abs=1e-5)
    found = settings(tmp_path / "store")
    assert (found["engine"], found["files"]) == ("torchscript", {"model.pt", "signature.json"})
    assert b"torch==" in found["needs"]
    assert b"onnxruntime" not in found["needs"]


def test_a_program_with_its_softmax_in_the_worker(tmp_path: Path) -> None:
    path = unconverted.save_program(tmp_path / "waves.pt2")
    row = [0.5, 3.0, 1.0, 0.25]
    served = opened(path, tmp_path, Reading(example(tmp_path, {"x": row})), labels=("a", "b", "c"))
    ((status, answer),) = served.post({"inputs": row}, x_top_k="3")
    expected = Waves()(torch.tensor([row])).softmax(1)[0]
    shares = {each["label"]: each["probability"] for each in answer["prediction"]["top_k"]}
    assert status == 200
    assert [shares[label] for label in "abc"] == pytest.approx(expected.tolist(), abs=1e-5)
    assert settings(tmp_path / "store")["engine"] == "torch"


def test_a_program_whose_graph_answers_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(torch.nn.Linear(4, 1).eval(), (torch.ones(2, 4),), dynamic_shapes=batch)
    torch.export.save(program, tmp_path / "line.pt2")
    adapt = served_graph.adapt  # type: ignore[attr-defined]

    def wrong(*arguments: Any) -> Any:
        graph = adapt(*arguments)
        for weight in graph.graph.initializer:
            if weight.data_type == onnx.TensorProto.FLOAT:
                weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + 1, weight.name))
        return graph

    monkeypatch.setattr(served_graph, "adapt", wrong)
    steps: list[str] = []
    drafted = draft(sources.read(tmp_path / "line.pt2"), ImportOptions(name="odd"))
    result = bring(drafted, Registry(tmp_path / "store"), step=steps.append)
    assert any("differs by" in step and "PyTorch serves the program as it is" in step for step in steps)
    served = Imported(result, tmp_path / "unpacked")
    ((_, answer),) = served.post({"inputs": [1, 2, 3, 4]})
    with torch.inference_mode():
        expected = float(program.module()(torch.tensor([[1.0, 2, 3, 4]])))
    assert answer["prediction"] == pytest.approx(expected, abs=1e-5)
    assert set(result.contract.lineage.parity) == {"rows", "torch"}


@pytest.mark.parametrize("suffix", ["skops", "joblib"])
def test_a_pipeline_with_a_part_that_has_no_converter(tmp_path: Path, suffix: str) -> None:
    model, rows = unconverted.kernel_ridge(), unconverted.frame()
    path = tmp_path / f"odd.{suffix}"
    skops.dump(model, path) if suffix == "skops" else joblib.dump(model, path)
    rows.assign(worth=unconverted.truth(rows)).to_csv(tmp_path / "rows.csv", index=False)
    trust = suffix == "joblib" or bool(skops.get_untrusted_types(file=path))
    served = opened(path, tmp_path, Reading(None, tmp_path / "rows.csv", trust=trust), target="worth")
    assert (served.contract.evaluation.metrics["rmse"] or 9) < 5
    answers = served.post(
        {"age": 41, "yearly_income": 51.25, "job": "clerk"}, {"age": 20, "yearly_income": 40, "job": "pilot"}
    )
    asked = pandas.DataFrame([[41, 51.25, "clerk"], [20, 40, "pilot"]], columns=list(unconverted.ROW))
    assert [answer["prediction"] for _, answer in answers] == pytest.approx(model.predict(asked), abs=1e-3)
    ((status, answer),) = served.post({"age": 41, "yearly_income": 51.25, "job": "baker"})
    assert (status, answer["error"]["code"]) == (400, "unknown_category")
    found = settings(tmp_path / "store")
    assert (found["engine"], found["files"]) == ("python", {f"model.{suffix}", "signature.json"})
    needs = {line.partition(b"==")[0].decode() for line in found["needs"].splitlines()}
    assert {"scikit-learn", "pandas", suffix} <= needs
    unpack(Registry(tmp_path / "store"), "odd", tmp_path / "again")
    assert (tmp_path / "again" / "signature.json").is_file()


def test_a_classifier_of_a_matrix_with_its_own_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype(np.float32)
    model = LabelSpreading().fit(x, np.where(x[:, 0] > 0, "high", "low"))
    joblib.dump(model, tmp_path / "odd.joblib")
    served = opened(tmp_path / "odd.joblib", tmp_path, Reading(example(tmp_path, [0.5, 1.0, 2.0]), trust=True))
    assert served.contract.labels == ("high", "low")
    ((_, answer),) = served.post({"inputs": [0.5, 1.0, 2.0]}, x_top_k="2")
    shares = {each["label"]: each["probability"] for each in answer["prediction"]["top_k"]}
    expected = model.predict_proba(np.array([[0.5, 1.0, 2.0]], np.float32))[0]
    assert [shares["high"], shares["low"]] == pytest.approx(expected, abs=1e-5)


def test_hooks_go_around_it(tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(
        "def preprocess(rows):\n    return {'x': rows['x'] / 2}\n"
        "def postprocess(outputs):\n    return {'y': outputs['output'] * 10}\n"
    )
    path = unconverted.save_script(tmp_path / "halved.pt")
    given = example(tmp_path, {"x": [0.5, 3.0, 1.0, 0.25]})
    served = opened(path, tmp_path, Reading(given), hooks=tmp_path / "hooks.py")
    ((_, answer),) = served.post({"inputs": [0.4, 0.6, 0.8, 1.0]})
    expected = 10 * float(Halved()(torch.tensor([[0.2, 0.3, 0.4, 0.5]])))
    assert answer["prediction"] == pytest.approx(expected, abs=1e-4)


def test_a_pickle_still_needs_trust(tmp_path: Path) -> None:
    joblib.dump(unconverted.kernel_ridge(), tmp_path / "odd.joblib")
    with pytest.raises(BringError, match="is a pickle: reading it runs its code"):
        sources.read(tmp_path / "odd.joblib", Reading(example(tmp_path, unconverted.ROW)))
