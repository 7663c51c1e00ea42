import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from handlers.contract import ModelContract, TensorSpec
from handlers.engine import ENGINES
from handlers.formats.tokens import FILE as TOKENIZER
from serving.archive import GRAPHS
from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import load
from tests.training.conftest import Train
from training.data import sha256
from training.fitting import fit
from training.packaging.export import (
    PARITY_ROWS,
    ExportError,
    ParityError,
    check_parity,
    export,
    predict,
    serving_module,
)
from training.packaging.interface import contract_without_version
from training.packaging.registration import Result
from training.recipe import Data, Split, Trained
from training.recipes.linear import Linear, LinearHyperparameters


class Two(nn.Module):
    """Computes one thing here and another in the exported graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        """x (n,) -> y (n,)."""
        y = self.factor * x
        return y + 1 if torch.compiler.is_exporting() else y


class TwoFaced(Linear):
    """A recipe whose graphs disagree with its module."""

    def module(self, hp: LinearHyperparameters, data: Data) -> nn.Module:
        """The module that is two."""
        return Two()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A classification, whose module gives logits."""
    recipe = Quadrants()
    return fit.fit(recipe, recipe.preset(None), load(recipe), tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def contract(quadrants: Result) -> ModelContract:
    return quadrants.contract


@pytest.fixture(scope="module")
def graphs(fitted: Trained, contract: ModelContract, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    export(fitted, contract, folder)
    return folder


def with_weights(fitted: Trained, change: float) -> Trained:
    """The same with its output's offsets changed."""
    module = Quadrants().module(fitted.hp, fitted.data)
    module.load_state_dict(fitted.module.state_dict())
    with torch.no_grad():
        module.get_parameter("layers.2.bias")[0] += change
    return Trained(fitted.recipe, fitted.hp, fitted.data, module.eval())


@pytest.fixture(scope="module", params=[0.01, float("nan")])
def other_graphs(
    request: pytest.FixtureRequest, fitted: Trained, contract: ModelContract, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The graphs of another module, which differs a little or computes no numbers."""
    folder = tmp_path_factory.mktemp("other")
    export(with_weights(fitted, request.param), contract, folder)
    return folder


def test_a_classification_is_served_with_probabilities(fitted: Trained) -> None:
    output = predict(serving_module(fitted), fitted.data.test)
    assert output.shape == (200, 4)
    np.testing.assert_allclose(output.sum(1), 1, atol=1e-6)
    logits = predict(fitted.module, fitted.data.test)
    np.testing.assert_allclose(output, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), rtol=1e-4)


def test_predicting_in_batches_gives_the_same_rows(fitted: Trained) -> None:
    split = fitted.data.test
    whole = predict(fitted.module, split)
    np.testing.assert_allclose(predict(fitted.module, split, batch=7), whole, atol=1e-6)
    assert whole.dtype == np.float32


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize("rows", [1, 2, 33])
def test_both_graphs_take_any_number_of_rows(
    fitted: Trained, contract: ModelContract, graphs: Path, engine: str, rows: int
) -> None:
    split = fitted.data.test.head(rows)
    outputs = ENGINES[engine](graphs, contract, 1).run(split.inputs)
    np.testing.assert_allclose(outputs["probabilities"], predict(serving_module(fitted), split), atol=1e-6)


def test_the_graph_has_the_contracts_names_and_a_free_batch(graphs: Path, contract: ModelContract) -> None:
    session = onnxruntime.InferenceSession(graphs / "model.onnx")
    assert [tensor.name for tensor in session.get_inputs()] == [spec.name for spec in contract.inputs]
    assert [tensor.name for tensor in session.get_outputs()] == ["probabilities"]
    assert [tensor.shape for tensor in session.get_inputs()] == [["batch"], ["batch"]]
    assert [tensor.shape for tensor in session.get_outputs()] == [["batch", 4]]


def test_the_graph_has_nothing_of_the_machine_that_made_it(graphs: Path) -> None:
    model = onnx.load(graphs / "model.onnx")
    assert not model.doc_string
    assert not model.metadata_props
    for node in model.graph.node:
        assert not node.metadata_props
        assert not node.doc_string
    content = (graphs / "model.onnx").read_bytes()
    assert b".py" not in content
    assert b"/" + Path(__file__).parts[1].encode() + b"/" not in content


def test_exporting_again_gives_the_same_bytes(
    fitted: Trained, contract: ModelContract, graphs: Path, tmp_path: Path
) -> None:
    export(fitted, contract, tmp_path)
    assert {name: sha256((tmp_path / name).read_bytes()) for name in GRAPHS} == {
        name: sha256((graphs / name).read_bytes()) for name in GRAPHS
    }


def test_exporting_leaves_logging_and_warnings_as_they_were(
    fitted: Trained, contract: ModelContract, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = logging.getLogger("torch.onnx").level, list(warnings.filters)
    export(fitted, contract, tmp_path)
    assert (logging.getLogger("torch.onnx").level, list(warnings.filters)) == before
    assert capsys.readouterr().out == ""


def test_graphs_that_agree_are_reported_with_their_differences(
    fitted: Trained, contract: ModelContract, graphs: Path
) -> None:
    report = check_parity(fitted, contract, graphs)
    assert report.keys() == {"rows", *ENGINES}
    assert all(report[name] < 1e-5 for name in ENGINES)


def test_few_held_out_rows_are_filled_up_with_training_rows(
    fitted: Trained, contract: ModelContract, graphs: Path, linear: Result, flights: Result
) -> None:
    assert check_parity(fitted, contract, graphs)["rows"] == 200 + 400 < PARITY_ROWS
    assert linear.contract.lineage.parity["rows"] == 1001  # enough of its own
    assert flights.contract.lineage.parity["rows"] == 10_000  # at most


@pytest.mark.parametrize(("swapped", "engine"), [("model.onnx", "onnxruntime"), ("model.pt2", "torch")])
def test_one_graph_of_another_module_is_refused_with_its_engine(
    fitted: Trained,
    contract: ModelContract,
    graphs: Path,
    other_graphs: Path,
    tmp_path: Path,
    swapped: str,
    engine: str,
) -> None:
    shutil.copytree(graphs, tmp_path, dirs_exist_ok=True)
    shutil.copy(other_graphs / swapped, tmp_path / swapped)
    with pytest.raises(ParityError, match=f"quadrants: {engine} differs from the module by .* on 600 rows"):
        check_parity(fitted, contract, tmp_path)


def test_a_difference_below_the_tolerance_is_accepted(fitted: Trained, contract: ModelContract, graphs: Path) -> None:
    report = check_parity(with_weights(fitted, 1e-5), contract, graphs)
    assert 0 < report["onnxruntime"] < 1e-4


def test_a_module_whose_graphs_disagree_is_not_registered_and_leaves_no_archive(train: Train, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="linear: onnxruntime differs from the module by 1 on 1001 rows.*is refused"):
        train(TwoFaced(), None)
    assert not (tmp_path / "store").exists()


class Encoder(nn.Module):
    """An encoder of texts with so many positions."""

    def __init__(self, positions: int) -> None:
        super().__init__()
        self.words = nn.Embedding(100, 4)
        self.positions = nn.Parameter(torch.zeros(positions, 4))

    def forward(self, text: Tensor) -> Tensor:
        """INT64 (n, length) -> FP32 (n, 4) logits."""
        vectors = self.words(text) + self.positions[: text.shape[1]]
        return vectors.mean(1)  # type: ignore[no-any-return]


def encoder(positions: int) -> tuple[Trained, ModelContract]:
    """An encoder whose tokenizer cuts texts at eight tokens."""
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install -e '.[sentiment]'")
    from tests.support.handlers.texts import settings

    rows = Split({"text": np.ones((4, 8), np.int64)}, np.zeros(4, np.int64), texts={"text": np.array(["good"] * 4)})
    data = Data(rows, rows, (TensorSpec("text", "BYTES"),), "", assets={TOKENIZER: settings()})
    recipe = Quadrants()
    trained = Trained(recipe, recipe.preset(None), data, Encoder(positions))
    return trained, contract_without_version(recipe, data)


def test_a_text_has_as_many_tokens_as_its_tokenizer_says(tmp_path: Path) -> None:
    trained, contract = encoder(positions=8)
    export(trained, contract, tmp_path)
    for engine in ENGINES.values():
        assert engine(tmp_path, contract, 1).run({"text": np.ones((3, 8), np.int64)})["probabilities"].shape == (3, 4)


def test_a_network_that_takes_shorter_texts_than_the_tokenizer_gives_is_refused(tmp_path: Path) -> None:
    trained, contract = encoder(positions=5)
    said = "quadrants cannot be exported: .*; its texts have up to 8 tokens, which the network must take"
    with pytest.raises(ExportError, match=said):
        export(trained, contract, tmp_path)
